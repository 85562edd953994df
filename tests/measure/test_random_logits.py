"""The random model of logits against closed forms and brute force."""

import math

import pytest
import torch
from torch import nn

from repro.measure.curvature import gauss_newton
from repro.measure.logit_clusters import logit_clusters, logit_jacobian, logit_products
from repro.measure.random_logits import (
    RandomLogits,
    cluster_eigenvalues,
    draw_jacobian,
    factored_trace,
    gauss_newton_of,
    gauss_newton_trace,
    logit_scale,
    output_curvature,
    participation,
)
from repro.rng import Streams
from repro.train import Stack, cross_entropy

F64 = torch.float64


def logits(scale: float, shape=(4000, 5)):
    return scale * torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(0))


def exchangeable(y: float, classes: int):
    """The mean of diag(p) - pp' where all logits are alike: (1 - Y) / (K - 1) times what is left of I without 1."""
    return (1 - y) / (classes - 1) * (torch.eye(classes, dtype=F64) - 1 / classes)


@pytest.mark.parametrize(("scale", "classes"), [(0.3, 2), (1.0, 10), (3.0, 10), (8.0, 3)])
def test_the_freezing_curve_is_the_mean_of_many_draws(scale, classes):
    p = logits(scale, (400_000, classes)).softmax(-1)
    found = participation(torch.tensor(scale, dtype=F64), classes)
    assert float(found) == pytest.approx(float(p.square().sum(-1).mean()), abs=2.5e-3)


def test_the_freezing_curve_begins_at_one_over_the_classes_rises_and_ends_at_one():
    y = participation(torch.tensor([0.0, 0.5, 1.0, 2.0, 4.0, 40.0], dtype=F64), 10)
    assert float(y[0]) == pytest.approx(0.1, abs=1e-6)
    assert (y.diff() > 0).all() and 0.9 < y[-1] < 1
    small = participation(torch.tensor(0.1, dtype=F64), 10)  # softmax to second order: Y = (1 + σ^2 (K - 1) / K) / K
    assert float(small) == pytest.approx((1 + 0.01 * 0.9) / 10, rel=1e-3)


def test_two_logits_freeze_like_a_logistic_of_one_gaussian():
    z = torch.linspace(-12, 12, 20_001, dtype=F64)
    density = torch.exp(-0.5 * z.square())
    p = torch.sigmoid(math.sqrt(2) * 1.7 * z)
    expected = ((p.square() + (1 - p).square()) * density).sum() / density.sum()
    assert float(participation(torch.tensor(1.7, dtype=F64), 2)) == pytest.approx(float(expected), abs=1e-6)


def test_many_logits_freeze_where_the_random_energy_model_does():
    critical = math.sqrt(2 * math.log(1e6))
    y = participation(torch.tensor([0.5 * critical, 2 * critical], dtype=F64), 10**6)
    assert y[0] < 0.01 and float(y[1]) == pytest.approx(1 - 0.5, abs=0.05)  # Derrida: Y = 1 - σ_c / σ


@pytest.mark.parametrize(("classes", "scale"), [(1, 1.0), (3, -1.0)])
def test_a_freezing_curve_that_there_is_not_is_refused_by_name(classes, scale):
    with pytest.raises(ValueError, match=f"classes = {classes}, least scale = {scale:g}"):
        participation(torch.tensor(scale), classes)


def test_orthogonal_means_of_one_length_and_exchangeable_logits_give_equal_outliers_one_fewer_than_classes():
    means = 3.0 * torch.linalg.qr(torch.randn(50, 4, dtype=F64))[0].T
    found = cluster_eigenvalues(means, exchangeable(0.4, 4))
    torch.testing.assert_close(found, torch.tensor([9 * 0.6 / 3] * 3 + [0.0], dtype=F64))
    without_scale = cluster_eigenvalues(means, exchangeable(1 / 4, 4))  # σ_z = 0: |c|^2 / K
    torch.testing.assert_close(without_scale[:3], torch.tensor([9 / 4] * 3, dtype=F64))


def test_cluster_eigenvalues_are_those_of_the_matrix_in_parameter_space():
    means, a = torch.randn(2, 5, 30, dtype=F64), output_curvature(logits(2.0)).mean(0).expand(2, 5, 5)
    expected = torch.linalg.eigvalsh(means.mT @ a @ means).flip(-1)[:, :5]
    torch.testing.assert_close(cluster_eigenvalues(means, a), expected, atol=1e-9, rtol=1e-9)


def test_a_diverged_network_has_no_cluster_eigenvalues_and_leaves_the_others_theirs():
    means, a = torch.randn(2, 3, 9, dtype=F64), exchangeable(0.5, 3).expand(2, 3, 3)
    alone = cluster_eigenvalues(means[1], a[1])
    means[0, 0, 0] = torch.nan
    found = cluster_eigenvalues(means, a)
    assert found[0].isnan().all()
    torch.testing.assert_close(found[1], alone)


def test_the_model_predicts_the_trace_and_the_outliers_of_its_own_draws():
    streams = Streams([1, 2, 3], "model")
    jacobian = draw_jacobian(streams, 300, 5, 800, signal=4.0, noise=6.0)
    z = 1.5 * streams.normal(300, 5)
    found = gauss_newton_of(jacobian, output_curvature(z)).dense()
    model = RandomLogits(5, torch.tensor(4.0), torch.tensor(6.0), torch.tensor(1.5))
    trace = found.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(trace.mean(), model.trace(), rtol=0.05, atol=0)
    outliers = torch.linalg.eigvalsh(found).flip(1)
    torch.testing.assert_close(outliers[:, :4].mean(), model.outlier(), rtol=0.1, atol=0)
    assert (outliers[:, 3] > 5 * outliers[:, 4]).all()


def test_with_equal_probabilities_the_outliers_are_the_squared_mean_over_the_classes():
    model = RandomLogits(10, torch.tensor(7.0), torch.tensor(0.0), torch.tensor(0.0))
    torch.testing.assert_close(model.outlier(), torch.tensor(0.7), rtol=1e-5, atol=0)
    torch.testing.assert_close(model.trace(), torch.tensor(6.3), rtol=1e-5, atol=0)


def network():
    torch.manual_seed(3)
    nets = Stack.of([nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)) for _ in range(2)])
    return nets.to(dtype=F64), torch.randn(20, 4, dtype=F64)


def test_the_operator_and_the_trace_are_those_of_a_networks_gauss_newton_matrix():
    nets, x = network()
    jacobian, curvature = logit_jacobian(nets, x), output_curvature(nets.predict(x))
    expected = gauss_newton(nets, cross_entropy, x, torch.zeros(20, dtype=torch.long)).dense()
    torch.testing.assert_close(gauss_newton_of(jacobian, curvature).dense(), expected)
    traces = expected.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(gauss_newton_trace(jacobian, curvature), traces)
    torch.testing.assert_close((logit_products(nets, x, 3) * curvature).sum((2, 3)).mean(1), traces)


def test_the_factored_trace_is_exact_where_all_examples_have_the_same_probabilities():
    nets, x = network()
    nets.load({name: torch.zeros_like(p) for name, p in nets.params.items() if name.startswith("2")})  # all p = 1/3
    flat = output_curvature(nets.predict(x))
    found = factored_trace(logit_clusters(nets, x, 3), flat.mean(1))
    # at zero head weights different logits share no parameter that moves them: no cross terms but those of the means
    torch.testing.assert_close(found, gauss_newton_trace(logit_jacobian(nets, x), flat), rtol=1e-9, atol=0)


def test_the_scale_of_logits_ignores_what_all_logits_of_an_example_share():
    z = logits(2.0)
    assert float(logit_scale(z)) == pytest.approx(2.0, abs=0.03)
    torch.testing.assert_close(logit_scale(z + torch.randn(4000, 1, dtype=F64)), logit_scale(z))
