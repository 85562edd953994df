"""Refreshed batch-norm statistics are those of the training set."""

import copy

import pytest
import torch
from torch import nn

from repro.models import MLP
from repro.rng import seeds
from repro.train import Stack, fit
from repro.train.batchnorm import refresh_batchnorm

torch.manual_seed(0)
X = torch.randn(60, 5, dtype=torch.float64) * 3 + 2
Y = torch.randint(3, (60,))
S = seeds(4, 3)


def build() -> nn.Module:
    return MLP((5, 7, 6, 3), activation="tanh", norm="batch", dropout=0.2)


def trained() -> Stack:
    return fit(build, X, Y, seeds=S, steps=4, batch=20, lr=0.3).final


def test_the_first_layers_statistics_are_the_mean_and_variance_of_its_inputs_over_the_set():
    nets = trained()
    refresh_batchnorm(nets, X)
    for m in range(3):
        hidden = nets.member(m).hidden[0]
        inputs = torch.tanh(hidden.linear(X))
        torch.testing.assert_close(hidden.norm.running_mean, inputs.mean(0))
        torch.testing.assert_close(hidden.norm.running_var, inputs.var(0))


def test_in_every_layer_evaluation_then_equals_training_mode_on_the_set_up_to_the_unbiased_variance():
    nets = trained()
    refresh_batchnorm(nets, X)
    for m in range(3):
        plain = nets.member(m)
        by_batch = copy.deepcopy(plain)
        for module in by_batch.modules():
            module.train(isinstance(module, nn.BatchNorm1d))
        for module in plain.modules():
            if isinstance(module, nn.BatchNorm1d):  # n - 1 to n
                module.running_var.mul_(59 / 60)
        torch.testing.assert_close(plain(X), by_batch(X))


def test_members_with_their_own_inputs_get_their_own_statistics():
    together, alone = trained(), trained()
    refresh_batchnorm(together, torch.stack([X, 2 * X, X + 1]), each=True)
    refresh_batchnorm(alone, 2 * X)
    for name, value in alone.buffers.items():
        torch.testing.assert_close(together.buffers[name][1], value[1])


def test_beyond_one_batch_the_statistics_are_the_average_over_equal_parts():
    nets = trained()
    refresh_batchnorm(nets, X, batch=20)
    hidden = nets.member(0).hidden[0]
    parts = torch.tanh(hidden.linear(X)).view(3, 20, 7)
    torch.testing.assert_close(hidden.norm.running_mean, parts.mean((0, 1)))
    torch.testing.assert_close(hidden.norm.running_var, parts.var(1).mean(0))


def test_nothing_else_changes():
    nets = trained()
    before = {name: value.clone() for name, value in nets.params.items()}
    momenta = [m.momentum for m in nets.net.modules() if hasattr(m, "momentum")]
    refresh_batchnorm(nets, X)
    assert all(torch.equal(before[name], value) for name, value in nets.params.items())
    assert [m.momentum for m in nets.net.modules() if hasattr(m, "momentum")] == momenta
    assert not any(module.training for module in nets.net.modules())


def test_a_stack_without_batch_norm_is_left_alone():
    nets = fit(lambda: MLP((5, 4, 3), norm="layer"), X, Y, seeds=S, steps=1, batch=20, lr=0.1).final
    before = nets.flat().clone()
    refresh_batchnorm(nets, X)
    assert torch.equal(before, nets.flat())


def test_one_example_has_no_variance():
    with pytest.raises(ValueError, match="at least 2"):
        refresh_batchnorm(trained(), X[:1])


def test_batch_norm_under_vmap_is_refused():
    class Unknown(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.scale = nn.BatchNorm1d(5), nn.Parameter(torch.ones(5))

        def forward(self, x):
            return self.norm(x) * self.scale

    with pytest.raises(ValueError, match="stackable"):
        refresh_batchnorm(Stack.of([Unknown(), Unknown()]), X)
