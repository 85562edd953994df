"""Weight surgery, magnitude masks and pruning with rewinding."""

import pytest
import torch
from torch import nn

from repro.rng import Streams
from repro.train import Stack, fit
from repro.train.per_member import log_spaced, per_member
from repro.train.prune import density_of, for_fit, iterative_magnitude_pruning, magnitude_masks
from repro.train.surgery import (
    effective_std,
    layer_std,
    redrawn_with_signs,
    shuffled,
    signs_only,
    weight_names,
    with_noise,
    with_weights_of,
)

torch.manual_seed(0)
X, Y = torch.randn(24, 6, dtype=torch.float64), torch.randint(3, (24,))


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3))


def stack(seed: int = 0) -> Stack:
    torch.manual_seed(seed)
    return Stack.of([build() for _ in range(2)], {"seed": [1, 2]}).to(dtype=torch.float64)


def streams() -> Streams:
    return Streams([1, 2], "surgery")


@pytest.fixture
def nets() -> Stack:
    return stack()


@pytest.fixture
def masks(nets):
    return magnitude_masks(nets, 0.4)


# -- masks -----------------------------------------------------------------------------------------------------------


def test_the_largest_weights_of_all_layers_survive(nets):
    masks = magnitude_masks(nets, 0.3)
    assert list(masks) == ["0.weight", "2.weight"] == weight_names(nets)
    torch.testing.assert_close(density_of(masks), torch.full((2,), 0.3, dtype=torch.float64))
    for m in range(2):
        sizes = torch.cat([nets.params[n][m].abs().flatten() for n in masks])
        kept = torch.cat([masks[n][m].flatten() for n in masks]) == 1
        assert sizes[kept].min() > sizes[~kept].max()


def test_with_layer_scope_every_layer_keeps_its_share(nets):
    for mask in magnitude_masks(nets, 0.25, scope="layer").values():
        torch.testing.assert_close(mask.flatten(1).mean(1), torch.full((2,), 0.25, dtype=torch.float64))


def test_what_was_pruned_stays_pruned(nets, masks):
    grown = stack(5)
    second = magnitude_masks(grown, 0.2, within=masks)
    for name in masks:
        assert (second[name] <= masks[name]).all()
    torch.testing.assert_close(density_of(second), torch.full((2,), 0.2, dtype=torch.float64), rtol=0, atol=4e-3)


def test_training_keeps_every_members_own_mask(nets, masks):
    run = fit(nets, X, Y, steps=5, batch=8, lr=0.1, mask=for_fit(nets, masks), members_at_once=1)
    for name, mask in masks.items():
        assert ((run.final.params[name] != 0) == (mask == 1)).all()


def test_iterative_pruning_rewinds_trains_and_keeps_a_share_of_the_survivors(nets):
    starts, seen = [], []

    def train(start, mask):
        starts.append(start)
        seen.append(mask)
        return fit(start, X, Y, steps=6, batch=8, lr=0.3, mask=mask).final

    history = iterative_magnitude_pruning(train, nets, rounds=3, keep=0.5)
    assert len(history) == 4 and all(start is nets for start in starts)
    for done, masks in enumerate(history):
        torch.testing.assert_close(density_of(masks), torch.full((2,), 0.5**done).double(), rtol=0, atol=4e-3)
    trained = train(nets, for_fit(nets, history[2]))
    last = magnitude_masks(trained, 0.125, within=history[2])
    assert all(torch.equal(last[n], history[3][n]) for n in last)


def test_impossible_densities_are_refused(nets):
    with pytest.raises(ValueError, match=r"density = 0"):
        magnitude_masks(nets, 0)
    with pytest.raises(ValueError, match="scope = 'row'"):
        magnitude_masks(nets, 0.5, scope="row")
    with pytest.raises(ValueError, match="keep = 1"):
        iterative_magnitude_pruning(lambda start, mask: start, nets, rounds=2, keep=1)


# -- surgery ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_signs", [False, True])
def test_shuffling_permutes_survivors_within_their_layer_and_moves_nothing_else(nets, masks, keep_signs):
    new = shuffled(nets, streams(), masks, keep_signs=keep_signs)
    for name, mask in masks.items():
        old, got = nets.params[name], new.params[name]
        assert torch.equal(old[mask == 0], got[mask == 0]) and not torch.equal(old, got)
        for m in range(2):
            alive = mask[m] == 1
            assert torch.equal(old[m][alive].sort().values, got[m][alive].sort().values)
        assert not keep_signs or torch.equal(old.sign(), got.sign())
    assert torch.equal(new.params["0.bias"], nets.params["0.bias"])


def test_a_shuffle_is_every_permutation_equally_often():
    nets = Stack.of([nn.Linear(3, 1, bias=False)] * 600, {"seed": range(600)})
    nets.load({"weight": torch.arange(3.0).expand(600, 1, 3)})
    new = shuffled(nets, Streams(range(600), "surgery")).params["weight"][:, 0]
    orders, counts = new.unique(dim=0, return_counts=True)
    assert len(orders) == 6 and counts.min() > 70


def test_redrawn_weights_keep_signs_and_the_survivors_magnitudes(nets, masks):
    new = redrawn_with_signs(nets, streams(), masks)
    for name, mask in masks.items():
        assert torch.equal(new.params[name].sign(), nets.params[name].sign())
        for m in range(2):
            alive = mask[m] == 1
            pool = nets.params[name][m][alive].abs()
            assert torch.isin(new.params[name][m][alive].abs(), pool).all()
            assert not torch.equal(new.params[name][m][alive].abs(), pool)


def test_signs_alone_keep_the_scale_of_a_layer(nets, masks):
    new = signs_only(nets, masks)
    for name, mask in masks.items():
        assert torch.equal(new.params[name].sign(), nets.params[name].sign())
        for m in range(2):
            alive = mask[m] == 1
            got = new.params[name][m][alive]
            torch.testing.assert_close(got.abs().max(), got.abs().min())
            torch.testing.assert_close(got.norm(), nets.params[name][m][alive].norm())


def test_weights_come_from_another_state_whole_or_under_the_present_signs(nets, masks):
    other = stack(7)
    for signs in (False, True):
        new = with_weights_of(nets, other, masks, signs=signs)
        for name, mask in masks.items():
            expected = nets.params[name].sign() * other.params[name].abs() if signs else other.params[name]
            assert torch.equal(new.params[name], torch.where(mask == 1, expected, nets.params[name]))


def test_noise_has_the_spread_asked_for_and_the_effective_std_measures_it():
    wide = Stack.of([nn.Linear(100, 100) for _ in range(2)], {"seed": [1, 2]}).to(dtype=torch.float64)
    unit = layer_std(wide)
    masks = magnitude_masks(wide, 0.5)
    twice = {name: 2 * std for name, std in unit.items()}
    found = effective_std(with_noise(wide, twice, streams(), masks), wide, unit, masks)
    torch.testing.assert_close(found, torch.full((2,), 2.0, dtype=torch.float64), rtol=0.03, atol=0)
    assert torch.equal(with_noise(wide, 0.0, streams(), masks).flat(), wide.flat())
    assert effective_std(wide, wide, unit, masks).tolist() == [0.0, 0.0]


def test_members_with_one_seed_are_operated_on_alike(nets):
    same = Stack.of([nets.member(0), nets.member(0)], {"seed": [1, 2]}).to(dtype=torch.float64)
    new = shuffled(same, Streams([1, 1], "surgery")).flat()
    assert torch.equal(new[0], new[1])


def test_unknown_parameters_are_refused_by_name(nets):
    with pytest.raises(ValueError, match=r"parameter '5.weight': this network has 0.weight"):
        shuffled(nets, streams(), names=["5.weight"])


# -- conveniences ----------------------------------------------------------------------------------------------------


def test_log_spaced_steps_have_both_ends_and_equal_ratios():
    assert log_spaced(1000, 4) == [1, 10, 100, 1000]
    assert log_spaced(3, 10) == [1, 2, 3] and log_spaced(800, 3, first=8) == [8, 80, 800]
    with pytest.raises(ValueError, match="first = 9"):
        log_spaced(8, 3, first=9)


def test_values_per_member_reach_their_member_in_a_stack_of_several_axes():
    nets = Stack(nn.Linear(2, 1), {"lr": [0.1, 0.2], "seed": [1, 2, 3]})
    values = torch.arange(6.0)[:, None]
    assert torch.equal(per_member(nets, values).of(nets), values)
    assert torch.equal(per_member(nets, values).of(nets.chunk([4, 5])), values[4:])
