import pytest
import torch
from torch.nn.functional import one_hot

from repro.models.speakers import Pair, sample, seen, talk
from repro.train.layers import stackable
from repro.train.stack import Stack, build_stack

MESSAGES, ACTIONS, VIEW = 3, 2, 5


def pair(own_features: bool = False) -> Pair:
    torch.manual_seed(0)
    return Pair(VIEW, 8, MESSAGES, ACTIONS, own_features)


def plain(messages: torch.Tensor) -> torch.Tensor:
    return one_hot(messages, MESSAGES).float()


@pytest.mark.parametrize("own_features", [False, True])
def test_a_stacked_pair_is_its_pairs(own_features):
    nets = build_stack(lambda: Pair(VIEW, 8, MESSAGES, ACTIONS, own_features), [1, 2], {"seed": [1, 2]})
    assert stackable(nets.template)
    x = torch.randn(2, 2, 7, VIEW + 2 * MESSAGES)
    stacked = nets(x)
    for m in range(2):
        for got, expected in zip(stacked, nets.member(m)(x[m]), strict=True):
            torch.testing.assert_close(got[m], expected)


def test_each_agent_answers_from_its_own_weights():
    net = pair()
    x = torch.randn(2, 7, VIEW + 2 * MESSAGES)
    heads = net(x)
    alone = net.agents[1](x[1])
    torch.testing.assert_close(torch.cat([heads.message[1], heads.action[1], heads.value[1, :, None]], -1), alone)


@pytest.mark.parametrize("own_features", [False, True])
def test_features_are_shared_by_message_and_action_unless_the_message_has_its_own(own_features):
    net = pair(own_features)
    heads = net(torch.randn(2, 7, VIEW + 2 * MESSAGES))
    heads.message.sum().backward()
    gradient = net.agents[0].features[0].weight.grad
    assert bool(gradient.any()) is not own_features


def test_samples_follow_the_softmax():
    logits = torch.tensor([0.5, -1.0, 2.0])
    drawn = sample(logits.expand(100_000, 3), torch.rand(100_000, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(drawn.bincount() / 100_000, logits.softmax(0), atol=0.005, rtol=0)
    assert sample(logits, torch.tensor(1 - 1e-7)) == 2 and sample(logits, torch.tensor(0.0)) == 0


def test_the_first_to_speak_has_heard_nothing_and_the_second_has_heard_the_first():
    net, views, uniform = pair(), torch.randn(2, 6, VIEW), torch.rand(2, 6)
    said = talk(net, views, uniform, plain)
    first = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]).unsqueeze(-1)  # agent 0 first in the first half
    unheard = net(seen(views, torch.zeros(2, 6, MESSAGES)))
    heard = net(seen(views, plain(said.messages) * first))
    torch.testing.assert_close(said.logits, torch.where(first.bool(), unheard.message, heard.message))
    torch.testing.assert_close(said.values, torch.where(first.bool().squeeze(-1), unheard.value, heard.value))
    assert torch.equal(said.messages, sample(said.logits, uniform))
    assert torch.equal(said.slots, plain(said.messages))


def test_a_scrambled_channel_changes_what_arrives_and_not_what_was_said():
    net, views, uniform = pair(), torch.randn(2, 6, VIEW), torch.rand(2, 6)
    noise = torch.randint(MESSAGES, (2, 6))
    said = talk(net, views, uniform, lambda messages: plain(noise))
    assert torch.equal(said.slots, plain(noise))
    first = said.messages[0, :3]
    assert torch.equal(first, talk(net, views, uniform, plain).messages[0, :3])


def test_a_stack_talks_like_its_pairs():
    pairs = [Pair(VIEW, 8, MESSAGES, ACTIONS) for _ in range(3)]
    views, uniform = torch.randn(3, 2, 6, VIEW), torch.rand(3, 2, 6)
    together = talk(Stack.of(pairs), views, uniform, plain)
    for m, net in enumerate(pairs):
        for got, expected in zip(together, talk(net, views[m], uniform[m], plain), strict=True):
            torch.testing.assert_close(got[m], expected)


def test_an_odd_batch_cannot_share_the_first_word():
    with pytest.raises(ValueError, match="batch is 5: an even number"):
        talk(pair(), torch.randn(2, 5, VIEW), torch.rand(2, 5), plain)
