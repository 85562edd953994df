import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repro.train import Stack, cross_entropy, fit, logistic
from repro.train.losses import (
    class_weights,
    l2_penalty,
    tempered_cross_entropy,
    weighted_cross_entropy,
    weighted_logistic,
)

torch.manual_seed(0)
LOGITS, LABELS = torch.randn(2, 9, 3, dtype=torch.float64), torch.randint(3, (2, 9))


def test_temperature_multiplies_the_logits_of_its_member():
    found = tempered_cross_entropy(LOGITS, LABELS, torch.tensor([0.1, 10.0]))
    for m, beta in enumerate((0.1, 10.0)):
        torch.testing.assert_close(found[m], F.cross_entropy(beta * LOGITS[m], LABELS[m]), rtol=1e-6, atol=0)
    torch.testing.assert_close(tempered_cross_entropy(LOGITS, LABELS, 1.0), cross_entropy(LOGITS, LABELS))


def test_saturated_logits_keep_a_finite_loss_and_gradient():
    logits = (1e4 * torch.randn(1, 5, 3)).requires_grad_()
    loss = tempered_cross_entropy(logits, logits.argmin(2), 100.0).sum()
    assert loss.isfinite() and torch.autograd.grad(loss, logits)[0].abs().max() > 1


def test_class_weights_multiply_each_examples_loss_and_are_divided_by_the_batch():
    weights = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.0, 1.0]], dtype=torch.float64)
    found = weighted_cross_entropy(LOGITS, LABELS, weights)
    for m in range(2):
        expected = F.cross_entropy(LOGITS[m], LABELS[m], weight=weights[m], reduction="sum") / 9
        torch.testing.assert_close(found[m], expected)
    torch.testing.assert_close(weighted_cross_entropy(LOGITS, LABELS, torch.ones(3)), cross_entropy(LOGITS, LABELS))


def test_two_classes_are_weighted_alike_by_softmax_and_logistic():
    f, signs = torch.randn(2, 9, 1, dtype=torch.float64), 2.0 * (LABELS > 1) - 1
    weights = class_weights(torch.tensor([8.0, 1 / 8]))
    both = torch.cat([torch.zeros_like(f), f], 2)
    torch.testing.assert_close(
        weighted_logistic(f, signs, weights), weighted_cross_entropy(both, (signs > 0).long(), weights)
    )
    torch.testing.assert_close(weighted_logistic(f, signs, class_weights(1.0)), logistic(f, signs))


def test_a_ratio_of_weights_keeps_their_mean_at_one():
    weights = class_weights(torch.tensor([64.0, 1.0]))
    torch.testing.assert_close(weights[:, 1] / weights[:, 0], torch.tensor([64.0, 1.0]))
    torch.testing.assert_close(weights.mean(1), torch.ones(2))


def test_the_penalty_in_the_loss_is_weight_decay():
    x, y = torch.randn(9, 4, dtype=torch.float64), LABELS[0]
    nets = Stack.of([nn.Linear(4, 3) for _ in range(2)], {"seed": [0, 1]}).to(dtype=torch.float64)
    decay = fit(nets, x, y, steps=5, batch=None, lr=0.1, weight_decay=0.2).final
    penalty = fit(
        nets, x, y, steps=5, batch=None, lr=0.1,
        objective=lambda nets, b: cross_entropy(nets(b.x), b.y) + l2_penalty(nets, 0.2),
    ).final  # fmt: skip
    torch.testing.assert_close(penalty.flat(), decay.flat())


def test_a_penalty_by_name_or_by_member_leaves_the_others_out():
    nets = Stack.of([nn.Linear(4, 3) for _ in range(2)])
    torch.testing.assert_close(
        l2_penalty(nets, {"weight": 0.4}), 0.2 * nets.params["weight"].square().sum((1, 2)), check_device=False
    )
    by_member = l2_penalty(nets, torch.tensor([0.0, 2.0])).detach()
    torch.testing.assert_close(by_member, torch.stack([torch.zeros(()), nets.flat()[1].square().sum()]))
    with pytest.raises(ValueError, match="parameter 'head': this network has weight, bias"):
        l2_penalty(nets, {"head": 1.0})
