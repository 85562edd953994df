import pytest
import torch

from repro.data.games import matrix_games, rewards, xor_games
from repro.rng import Streams


def streams(*seeds: int) -> Streams:
    return Streams(seeds or (0, 1), "games")


def test_entries_have_deviation_3_and_members_with_one_seed_play_the_same_games():
    games = matrix_games(streams(0, 1, 0), 2000, 3)
    assert games.payoffs.shape == (3, 2, 2000, 3, 3) and games.views.shape == (3, 2, 2000, 18)
    assert float(games.payoffs.std()) == pytest.approx(3, rel=0.02)
    torch.testing.assert_close(games.payoffs[0], games.payoffs[2])
    assert not torch.equal(games.payoffs[0], games.payoffs[1])


def test_both_players_see_both_matrices_unless_player_1_is_blind():
    games, blind = (matrix_games(streams(), 5, 2, blind=b) for b in (False, True))
    torch.testing.assert_close(games.views[:, 0], games.payoffs.movedim(1, 2).flatten(2))
    assert torch.equal(games.views[:, 0], games.views[:, 1])
    assert torch.equal(blind.views[:, 0], games.views[:, 0]) and not blind.views[:, 1].any()


def test_conflict_makes_games_zero_sum_or_common():
    against, common = (matrix_games(streams(), 50, 2, conflict=c).payoffs for c in (1.0, -1.0))
    torch.testing.assert_close(against[:, 0], -against[:, 1])
    torch.testing.assert_close(common[:, 0], common[:, 1])


def test_rewards_are_the_cell_of_both_actions():
    payoffs = torch.arange(2 * 1 * 9.0).reshape(2, 1, 3, 3)
    assert rewards(payoffs, torch.tensor([[2], [1]])).flatten().tolist() == [7, 16]


def test_in_the_xor_game_player_1_is_paid_for_the_xor_of_both_bits():
    games = xor_games(streams(), 200)
    x, y = games.views.argmax(-1).unbind(1)
    for a in (0, 1):
        right = rewards(games.payoffs, torch.stack([torch.full_like(x, a), x ^ y], 1))
        wrong = rewards(games.payoffs, torch.stack([torch.full_like(x, a), 1 - (x ^ y)], 1))
        assert (right == 3).all() and (wrong == -3).all()
    assert len({(int(i), int(j)) for i, j in zip(x[0], y[0], strict=True)}) == 4


def test_games_without_a_choice_are_refused():
    with pytest.raises(ValueError, match="actions = 1, batch = 5: give at least 2 actions"):
        matrix_games(streams(), 5, 1)
