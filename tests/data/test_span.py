"""Drawing and training in the span is the p-dimensional problem itself."""

import pytest
import torch

from repro.data.span import bartlett, xor_clusters_in_span, xor_points_in_span

G = torch.Generator


def gradient_descent(x, y, w, a, steps, lr):
    """Full-batch logistic GD on the first layer of f = a . relu(W x), by hand."""
    for _ in range(steps):
        h = x @ w.T
        g = -y * torch.sigmoid(-y * (h.relu() @ a)) / len(y)
        w = w - lr * ((h > 0) * g[:, None] * a).T @ x
    return w


def test_gradient_descent_in_the_span_equals_gradient_descent_in_p_dimensions():
    n, p, m, count = 12, 90, 8, 5
    generator = G().manual_seed(3)
    noise, fresh = (torch.randn(k, p - 2, generator=generator, dtype=torch.float64) for k in (n, count))
    signal, signal_fresh = (3 * torch.randn(k, 2, generator=generator, dtype=torch.float64) for k in (n, count))
    q, r = torch.linalg.qr(torch.cat([noise, fresh]).T)  # noise = L Q^T: the rotation onto the span
    coordinates = r.T
    w = 0.3 * torch.randn(m, p, generator=generator, dtype=torch.float64)
    a = torch.where(torch.rand(m, generator=generator) < 0.5, -1.0, 1.0).double() / m**0.5
    y = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0).double()

    full = gradient_descent(torch.cat([signal, noise], 1), y, w, a, 20, 0.05)
    expected = (torch.cat([signal_fresh, fresh], 1) @ full.T).relu() @ a

    rotated = torch.cat([w[:, :2], w[:, 2:] @ q], 1)  # initial weights in the new axes
    start, outside = rotated[:, : n + 2], rotated[:, n + 2 :]
    trained = gradient_descent(torch.cat([signal, coordinates[:n, :n]], 1), y, start, a, 20, 0.05)
    x = torch.cat([signal_fresh, coordinates[n:, :n]], 1)
    found = (x @ trained.T + coordinates[n:, n:] @ outside.T).relu() @ a
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_bartlett_factors_have_the_moments_of_a_wishart_matrix():
    rows, dim, draws = 4, 30, 4000
    generator = G().manual_seed(0)
    grams = torch.stack([(low := bartlett(rows, dim, generator).double()) @ low.T for _ in range(draws)])
    error = (dim * 2 / draws) ** 0.5 * 4  # four standard errors of the diagonal's mean
    torch.testing.assert_close(grams.mean(0), dim * torch.eye(rows, dtype=torch.float64), rtol=0, atol=error)
    diagonal = torch.eye(rows, dtype=torch.bool)
    assert abs(grams.var(0)[diagonal].mean() / (2 * dim) - 1) < 0.1  # Var chi^2(d) = 2 d
    assert abs(grams.var(0)[~diagonal].mean() / dim - 1) < 0.1


def test_clusters_have_the_stated_geometry():
    train = xor_clusters_in_span(400, 10_000, 40.0, 0.1, G().manual_seed(1))
    assert train.x.shape == (400, 402)
    assert torch.equal(train.flipped, train.y != train.clean) and 0.05 < train.flipped.float().mean() < 0.15
    strongest = train.x[:, :2].abs().argmax(1)
    assert torch.equal(train.clean, 1.0 - 2.0 * strongest)
    norms = train.x[:, 2:].square().sum(1)
    assert abs(norms.mean() / 9_998 - 1) < 0.01
    fresh = xor_points_in_span(50, 400, 10_000, 40.0, G().manual_seed(2))
    total = fresh.x[:, 2:].square().sum(1) + fresh.outside.square().sum(1)
    assert abs(total.mean() / 9_998 - 1) < 0.02


@pytest.mark.parametrize(("n", "p", "mu", "flip"), [(10, 11, 1.0, 0.1), (10, 50, -1.0, 0.1), (10, 50, 1.0, 1.5)])
def test_impossible_clusters_are_refused_in_one_line(n, p, mu, flip):
    with pytest.raises(ValueError, match=r"^p, mu, flip are [^\n]+$"):
        xor_clusters_in_span(n, p, mu, flip, G())
