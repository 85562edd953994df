import pytest
import torch
from torch import nn

from repro.measure.coherence import (
    coherence,
    coherence_of_groups,
    logit_cosines,
    logit_gram,
    stack_gram,
)
from repro.measure.gradients import stacked_gradients
from repro.measure.logit_clusters import logit_clusters, logit_jacobian
from repro.train import Stack, along, cross_entropy

torch.manual_seed(0)
X, Y = torch.randn(14, 5, dtype=torch.float64), torch.randint(3, (14,))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3, bias=False))


def stack(build) -> Stack:
    return Stack.of([build() for _ in range(2)], {"seed": [0, 1]}).to(dtype=torch.float64)


def rows(nets, y=Y):
    return stacked_gradients(nets.template, nets.params, nets.buffers, X, y, nn.functional.cross_entropy)


@pytest.mark.parametrize("build", [mlp, normed])
def test_coherence_is_the_squared_mean_over_the_mean_square(build):
    nets = stack(build)
    g = rows(nets)
    found = coherence(nets, cross_entropy, X, Y, chunk=4)
    torch.testing.assert_close(found.alpha, g.mean(1).square().sum(1) / g.square().sum(2).mean(1))
    torch.testing.assert_close(found.scaled, 14 * found.alpha)
    first = g[:, :, :36]  # the first linear layer, weights and bias
    torch.testing.assert_close(found.layers["0"], first.mean(1).square().sum(1) / first.square().sum(2).mean(1))


class Backwards(nn.Module):
    """Layers called in another order than they are listed."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first = nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


def test_layers_keep_their_names_whatever_the_order_they_are_called_in():
    nets = stack(Backwards)
    g = rows(nets)[:, :, :30]  # ``last`` is listed first
    found = coherence(nets, cross_entropy, X, Y).layers["last"]
    torch.testing.assert_close(found, g.mean(1).square().sum(1) / g.square().sum(2).mean(1))
    torch.testing.assert_close(logit_clusters(nets, X, 5).means, logit_jacobian(nets, X).mean(1))


def test_equal_examples_are_fully_coherent_and_orthogonal_ones_help_nobody_else():
    nets = stack(mlp)
    same = coherence(nets, cross_entropy, X[:1].expand(9, -1), Y[:1].expand(9))
    torch.testing.assert_close(same.alpha, torch.ones(2, dtype=torch.float64))
    linear = Stack.of([nn.Linear(5, 3, bias=False)]).to(dtype=torch.float64)
    apart = coherence(linear, cross_entropy, torch.eye(5, dtype=torch.float64), Y[:5])
    torch.testing.assert_close(apart.scaled, torch.ones(1, dtype=torch.float64))
    lone = coherence_of_groups(torch.diag(torch.rand(6, dtype=torch.float64)), torch.zeros(6, dtype=torch.long))
    torch.testing.assert_close(lone, torch.tensor([1 / 6], dtype=torch.float64))


def test_members_may_have_their_own_labels():
    nets, labels = stack(mlp), torch.stack([Y, (Y + 1) % 3])
    found = coherence(nets, cross_entropy, X, along("seed", labels))
    torch.testing.assert_close(found.alpha[1], coherence(nets, cross_entropy, X, labels[1]).alpha[1])


@pytest.mark.parametrize(("build", "factored"), [(mlp, None), (mlp, False), (normed, None)])
def test_the_gram_matrix_is_that_of_the_gradients(build, factored):
    nets = stack(build)
    g = rows(nets)
    found = stack_gram(nets, cross_entropy, X, Y, chunk=4, factored=factored)
    torch.testing.assert_close(found.products, g @ g.mT)
    torch.testing.assert_close(found.norms1, g.norm(dim=2))
    if build is normed:
        with pytest.raises(ValueError, match="is not a linear layer's"):
            stack_gram(nets, cross_entropy, X, Y, factored=True)


def test_coherence_of_a_group_is_that_of_its_examples_alone():
    nets, groups = stack(mlp), torch.tensor([0, 1] * 7)
    found = coherence_of_groups(stack_gram(nets, cross_entropy, X, Y).products, groups)
    torch.testing.assert_close(found[:, 1], coherence(nets, cross_entropy, X[1::2], Y[1::2]).alpha)


@pytest.mark.parametrize("build", [mlp, normed])
def test_logit_gradients_are_the_rows_of_the_jacobian(build):
    nets = stack(build)
    jacobian = logit_jacobian(nets, X, chunk=5)
    net = nets.member(1)
    expected = torch.autograd.grad(net(X)[3, 2], list(net.parameters()))
    torch.testing.assert_close(jacobian[1, 3, 2], torch.cat([g.flatten() for g in expected]))
    flat = jacobian.flatten(1, 2)
    for chunk in (None, 4):
        torch.testing.assert_close(logit_gram(nets, X, 3, chunk).products, flat @ flat.mT)


def test_cosines_are_averaged_over_pairs_of_different_examples():
    nets = stack(mlp)
    found = logit_cosines(logit_gram(nets, X, 3), Y, 3)
    unit = nn.functional.normalize(logit_jacobian(nets, X), dim=-1)[1]
    same, alike, other = [], [], []
    for i in range(14):
        for j in range(14):
            for k in range(3):
                for q in range(3):
                    cosine = unit[i, k] @ unit[j, q]
                    if i != j:
                        (same if k == q else other).append(cosine)
                        if k == q and Y[i] == Y[j]:
                            alike.append(cosine)
    for value, pairs in zip(found, (alike, same, other), strict=True):
        torch.testing.assert_close(value[1], torch.stack(pairs).mean())
    own = logit_cosines(logit_gram(nets, X, 3), torch.stack([(Y + 1) // 2, Y]), 3)  # members with labels of their own
    torch.testing.assert_close([part[1] for part in own], [part[1] for part in found])
