import pytest
import torch

from repro.models.speakers import Pair, sample
from repro.train.layers import stackable
from repro.train.stack import build_stack

MESSAGES, ACTIONS, VIEW = 3, 2, 5


def pair(own_features: bool = False) -> Pair:
    torch.manual_seed(0)
    return Pair(VIEW, 8, MESSAGES, ACTIONS, own_features)


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
