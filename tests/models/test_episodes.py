import pytest
import torch

from repro.models.episodes import Episode, episode, reinforce
from repro.models.speakers import Heads, Pair, sample, seen
from repro.train.stack import Stack, build_stack

MEMBERS, GAMES, VIEW, MESSAGES, ACTIONS = 3, 6, 5, 3, 2
SEEDS = list(range(MEMBERS))
FIRST = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]).bool()  # agent 0 speaks first in the first half


def stack(own_features: bool) -> Stack:
    nets = build_stack(lambda: Pair(VIEW, 8, MESSAGES, ACTIONS, own_features), SEEDS, {"seed": SEEDS})
    return nets.to(dtype=torch.float64)


def one_hot(messages: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(messages, MESSAGES).double()


def draws() -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    uniform = torch.rand(2, MEMBERS, 2, GAMES, generator=g, dtype=torch.float64)
    views = torch.randn(MEMBERS, 2, GAMES, VIEW, generator=g, dtype=torch.float64)
    return views, (uniform[0], uniform[1]), torch.randint(MESSAGES, (MEMBERS, 2, GAMES), generator=g)


def hearing(noise: torch.Tensor):
    """The channel of member 0 is scrambled."""
    return lambda said: torch.cat([noise[:1], said[1:]])


def in_full(nets: Stack, played: Episode, views: torch.Tensor, noise: torch.Tensor) -> tuple[Heads, Heads]:
    """Heads when speaking and when acting, each from a forward pass of its own on everything that is seen."""
    arrived = one_hot(hearing(noise)(played.speaking.chosen))
    first = nets(seen(views, torch.zeros_like(arrived)))
    second = nets(seen(views, arrived * FIRST.unsqueeze(-1)))
    spoke = [
        torch.where(FIRST.view(*FIRST.shape, *[1] * (a.dim() - 3)), a, b) for a, b in zip(first, second, strict=True)
    ]
    return Heads(*spoke), nets(seen(views, arrived))


@pytest.mark.parametrize("own_features", [False, True])
def test_an_episode_is_the_pair_on_what_each_agent_has_seen_and_heard(own_features):
    nets, (views, uniform, noise) = stack(own_features), draws()
    played = episode(nets.net, views, uniform, hearing(noise))
    spoke, acted = in_full(nets, played, views, noise)
    torch.testing.assert_close(played.speaking.logits, spoke.message)
    torch.testing.assert_close(played.speaking.values, spoke.value)
    torch.testing.assert_close(played.acting.logits, acted.action)
    torch.testing.assert_close(played.acting.values, acted.value)
    assert torch.equal(played.speaking.chosen, sample(spoke.message, uniform[0]))
    assert torch.equal(played.acting.chosen, sample(acted.action, uniform[1]))
    assert torch.equal(played.slots, one_hot(hearing(noise)(played.speaking.chosen)))


@pytest.mark.parametrize("own_features", [False, True])
def test_the_gradient_written_by_hand_is_that_of_the_loss(own_features):
    nets, (views, uniform, noise) = stack(own_features), draws()
    played = episode(nets.net, views, uniform, hearing(noise))
    r, learns = torch.randn(MEMBERS, 2, GAMES, dtype=torch.float64), torch.tensor([1.0, 0.0, 0.5])
    spoke, acted = in_full(nets, played, views, noise)
    expected = 0.0
    for logits, value, chosen, w, each in ((spoke.message, spoke.value, played.speaking.chosen, 0.3, learns),
                                           (acted.action, acted.value, played.acting.chosen, 1.0, 1.0)):  # fmt: skip
        policy = torch.distributions.Categorical(logits=logits)
        game = -w * policy.log_prob(chosen) * (r - value.detach()) + 0.1 * (r - value) ** 2 - 0.01 * policy.entropy()
        expected = expected + each * game.sum(1).mean(-1)
    loss = reinforce(played, r, message=0.3, speaking=learns)
    torch.testing.assert_close(loss, expected)
    params, weights = list(nets.net.parameters()), torch.tensor([1.0, 2.0, 3.0])
    by_hand = torch.autograd.grad((weights * loss).sum(), params)
    for got, wanted in zip(by_hand, torch.autograd.grad((weights * expected).sum(), params), strict=True):
        torch.testing.assert_close(got, wanted)


def test_an_odd_batch_cannot_share_the_first_word():
    views, uniform, _ = draws()
    with pytest.raises(ValueError, match="batch is 5: an even number"):
        episode(stack(False).net, views[:, :, :5], uniform)
