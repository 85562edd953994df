import pytest
import torch
from torch import nn

from repro.measure import logit_factors
from repro.measure.coherence import logit_gram
from repro.measure.logit_clusters import logit_clusters, logit_jacobian, logit_products
from repro.train import Stack, along

torch.manual_seed(0)
X = torch.randn(14, 5, dtype=torch.float64)
OWN = torch.randn(2, 14, 5, dtype=torch.float64)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3, bias=False))


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3))


class Tied(nn.Module):
    """A weight that one layer runs with and another borrows."""

    stackable = True

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.two(torch.tanh(self.one(x)) + x @ self.one.weight.mT)


def stack(build) -> Stack:
    return Stack.of([build() for _ in range(2)], {"seed": [0, 1]}).to(dtype=torch.float64)


@pytest.mark.parametrize("build", [mlp, normed, Tied])
def test_every_member_may_have_examples_of_its_own(build):
    nets, x = stack(build), along("seed", OWN)
    jacobian = logit_jacobian(nets, x)
    torch.testing.assert_close(jacobian[1:], logit_jacobian(nets.sel(seed=[1]), OWN[1]))
    torch.testing.assert_close(logit_clusters(nets, x, 3).means, jacobian.mean(1))
    torch.testing.assert_close(logit_products(nets, x, 3), jacobian @ jacobian.mT)
    flat = jacobian.flatten(1, 2)
    torch.testing.assert_close(logit_gram(nets, x, 3).products, flat @ flat.mT)


def test_networks_of_linear_layers_form_no_gradients_and_others_do():
    assert logit_factors.logit_factors(stack(mlp), OWN, 3) is not None
    assert logit_factors.logit_factors(stack(normed), OWN, 3) is None
    assert logit_factors.logit_factors(stack(Tied), OWN, 3) is None


def test_what_does_not_fit_at_once_is_taken_in_parts(monkeypatch):
    nets = stack(mlp)
    whole = logit_clusters(nets, X, 3), logit_products(nets, X, 3)
    monkeypatch.setattr(logit_factors, "HELD", 2 * 3 * 9 * 4)  # four examples
    assert logit_factors.examples_at_once(nets, 3) == 4
    torch.testing.assert_close((logit_clusters(nets, X, 3), logit_products(nets, X, 3)), whole)


@pytest.mark.parametrize("build", [mlp, normed])
def test_clusters_split_logit_gradients_into_their_mean_and_noise(build):
    nets = stack(build)
    jacobian, found = logit_jacobian(nets, X), logit_clusters(nets, X, 3, chunk=4)
    torch.testing.assert_close(found.means, jacobian.mean(1))
    torch.testing.assert_close(found.noise, jacobian.var(1).sum(-1))


def test_the_signal_of_a_cluster_is_free_of_the_noise_that_few_examples_leave_in_its_mean():
    signals, biased = [], []
    for seed in range(60):
        x = 0.5 + torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        nets = Stack.of([nn.Linear(6, 2, bias=False)]).to(dtype=torch.float64)  # the gradient of logit k is x itself
        clusters = logit_clusters(nets, x, 2)
        signals.append(clusters.signal[0, 0])
        biased.append(clusters.means[0, 0].square().sum())
    assert abs(torch.stack(signals).mean() - 6 * 0.25) < 0.4 < torch.stack(biased).mean() - 6 * 0.25
