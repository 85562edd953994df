"""Closed forms against brute force."""

import math

import pytest
import torch
from torch import nn

from repro.measure.curvature import hessian
from repro.measure.references import (
    SphericalSpins,
    collapse_threshold,
    deep_linear_critical_points,
    deep_linear_mode,
    deep_linear_weights,
    free_features,
    softmax_regression_spectrum,
    spin_index,
    threshold_energy,
    two_point_flow,
)
from repro.train import Stack, cross_entropy

F64 = torch.float64
STRENGTHS = torch.tensor([3.0, 2.0, 1.0], dtype=F64)


def test_softmax_regression_at_zero_has_the_spectrum_of_the_inputs():
    torch.manual_seed(0)
    x, y = torch.randn(30, 4, dtype=F64), torch.randint(3, (30,))
    net = nn.Linear(4, 3, bias=False)
    nn.init.zeros_(net.weight)
    found = torch.linalg.eigvalsh(hessian(Stack.of([net]).to(dtype=F64), cross_entropy, x, y).dense())
    torch.testing.assert_close(softmax_regression_spectrum(x, 3), found[0].flip(0))


def linear_loss(a, b):
    return 0.5 * (b @ a - torch.diag(STRENGTHS)).square().sum()


@pytest.mark.parametrize("hidden", [1, 2, 3, 4])
def test_critical_points_of_a_linear_network_have_the_loss_and_index_of_their_dense_hessian(hidden):
    for point in deep_linear_critical_points(STRENGTHS, hidden):
        a, b = deep_linear_weights(STRENGTHS, hidden, point.modes)
        split = a.numel()

        def of(v, split=split, a=a, b=b):
            return linear_loss(v[:split].view_as(a), v[split:].view_as(b))

        v = torch.cat([a.flatten(), b.flatten()])
        assert torch.func.grad(of)(v).norm() < 1e-12
        assert point.loss == pytest.approx(float(of(v)))
        assert point.index == int((torch.linalg.eigvalsh(torch.func.hessian(of)(v)) < -1e-9).sum())


def test_only_the_strongest_modes_are_a_minimum():
    minima = [p for p in deep_linear_critical_points(STRENGTHS, 2) if p.index == 0]
    assert [p.modes for p in minima] == [(0, 1)] and minima[0].loss == 0.5
    with pytest.raises(ValueError, match="positive and distinct"):
        deep_linear_critical_points(torch.tensor([1.0, 1.0]), 2)


def test_a_mode_grows_along_the_sigmoid_of_gradient_flow():
    a = b = torch.full((), math.sqrt(0.01), dtype=F64)
    t, dt = 0.0, 1e-4
    while t < 1.2:
        a, b, t = a - dt * b * (a * b - 2.0), b - dt * a * (a * b - 2.0), t + dt
    torch.testing.assert_close(deep_linear_mode(torch.tensor(t, dtype=F64), 2.0, 0.01), a * b, rtol=1e-3, atol=0)


def test_one_layer_of_free_features_has_the_lengths_of_the_formula():
    counts, lam = torch.tensor([60.0, 30, 10, 4]), 2e-2
    found = free_features(counts, 1, lam, lam)
    expected = counts.double().sqrt() - 104 * lam  # sqrt(n λ_H / λ_W) - N λ_H
    torch.testing.assert_close(found.head[:3], expected[:3])
    assert found.head[3] == 0 and 104**2 * lam**2 > 4  # below the count threshold N^2 λ_W λ_H


@pytest.mark.parametrize(("layers", "decay"), [(1, 2e-2), (2, 5e-3), (3, 2e-3)])
def test_no_descent_gets_below_the_predicted_minimum_and_some_reach_it(layers, decay):
    torch.manual_seed(layers)
    counts = torch.tensor([6, 3, 2])
    labels = torch.repeat_interleave(torch.arange(3), counts)
    targets = nn.functional.one_hot(labels).T.double()
    shapes = [(5, 11)] + [(5, 5)] * (layers - 1) + [(3, 5)]
    tensors = [(0.7 * torch.randn(*shape, dtype=F64)).requires_grad_() for shape in shapes]

    def loss():
        out = tensors[0]
        for weight in tensors[1:]:
            out = weight @ out
        return (out - targets).square().sum() / 22 + 0.5 * decay * sum(t.square().sum() for t in tensors)

    optimizer = torch.optim.LBFGS(
        tensors, max_iter=4000, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    head = tensors[-1]
    for weight in reversed(tensors[1:-1]):
        head = head @ weight
    theory = free_features(counts, layers, decay, decay)
    torch.testing.assert_close(head.detach().square().sum(1), theory.head, rtol=1e-5, atol=1e-7)
    features = tensors[0].detach() @ targets.T / counts
    torch.testing.assert_close(features.square().sum(0), theory.feature, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close((head.detach() @ features).diagonal(), theory.output, rtol=1e-5, atol=1e-7)


def test_the_collapse_threshold_is_where_zero_becomes_the_better_minimum():
    for layers, known in ((1, 1.0), (3, 0.5291), (6, 0.6373)):
        assert collapse_threshold(layers) == pytest.approx(known, abs=5e-5)
    x = torch.linspace(0, 5, 100_001, dtype=F64)
    for ratio, lives in ((0.52, True), (0.54, False)):
        best = (1 / (x**3 + 1) + ratio * x).argmin()
        assert bool(best > 0) is lives
    with pytest.raises(ValueError, match="feature_decay = 0"):
        free_features(torch.tensor([2.0]), 1, 0.1, 0)


def test_spin_derivatives_are_those_of_the_energy():
    torch.manual_seed(0)
    spins = SphericalSpins(torch.randn(5, 5, 5, dtype=F64))
    sigma = torch.randn(2, 5, dtype=F64)

    def total(s):
        return 5 * spins.energy(s[None])[0]

    for b in range(2):
        torch.testing.assert_close(spins.gradient(sigma)[b], torch.func.grad(total)(sigma[b]))
        torch.testing.assert_close(spins.hessian(sigma)[b], torch.func.hessian(total)(sigma[b]))


def test_the_index_law_is_the_integral_of_a_shifted_semicircle():
    assert spin_index(torch.tensor([-threshold_energy(), 0.0, threshold_energy()])).tolist() == pytest.approx(
        [0, 0.5, 1]
    )
    assert spin_index(torch.tensor(-5.0)) == 0
    energy = 0.7
    x = torch.linspace(-1, energy / threshold_energy(), 100_001, dtype=F64)
    expected = torch.trapezoid((1 - x * x).clamp(min=0).sqrt() * 2 / math.pi, x)
    torch.testing.assert_close(spin_index(torch.tensor(energy, dtype=F64)), expected, rtol=1e-6, atol=1e-6)


def test_two_points_are_fitted_along_the_flow_of_the_logistic_loss():
    w, dt, ratio = torch.zeros(2, dtype=F64), 1e-4, torch.tensor([8.0, 1.0], dtype=F64)
    for _ in range(20_000):
        w = w + dt * ratio * torch.sigmoid(-w)
    torch.testing.assert_close(two_point_flow(torch.tensor(2.0), 8.0), w, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(two_point_flow(torch.tensor(0.0), 8.0), torch.zeros(2, dtype=F64))
    late = two_point_flow(torch.tensor([1e6, 1e12]), 64.0)
    torch.testing.assert_close(late[1, 0] - late[1, 1], torch.tensor(math.log(64), dtype=F64), rtol=1e-6, atol=0)
