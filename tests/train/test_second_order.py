"""Second-order steps on functions that can be solved, and on small networks."""

import math

import pytest
import torch
from torch import nn

from repro.measure.curvature import loss_and_gradient
from repro.measure.flat import at
from repro.measure.operators import from_matrix, on_sphere
from repro.measure.references import SphericalSpins, spin_index
from repro.measure.spectrum import negative_share
from repro.train import Stack, along, cross_entropy, fit
from repro.train.second_order import (
    descend,
    distinct,
    eigenbasis,
    find_critical_points,
    krylov_basis,
    network_derivatives,
    newton_step,
    saddle_free_step,
)

F64 = torch.float64
torch.manual_seed(0)
X, Y = torch.randn(40, 3, dtype=F64), torch.randint(3, (40,))


def saddle(points, rows=None):
    """5 x^2 - y^2, a row a point."""
    hessian = torch.diag(torch.tensor([10.0, -2.0], dtype=F64)).expand(len(points), 2, 2)
    return (hessian @ points[..., None])[..., 0], hessian


def mlp(hidden: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(3, hidden), nn.Tanh(), nn.Linear(hidden, 3))


def stack(build=mlp, members: int = 3) -> Stack:
    return Stack.of([build() for _ in range(members)], {"seed": range(members)}).to(dtype=F64)


def test_newton_lands_on_the_saddle_and_saddle_free_newton_doubles_its_distance():
    points = torch.tensor([[1.0, 0.5]], dtype=F64)
    gradient, hessian = saddle(points)
    basis = eigenbasis(hessian)
    torch.testing.assert_close(points + newton_step(gradient, basis), torch.zeros(1, 2, dtype=F64))
    torch.testing.assert_close(points + saddle_free_step(gradient, basis), torch.tensor([[0.0, 1.0]], dtype=F64))


def test_where_the_hessian_is_positive_both_steps_are_one():
    a = torch.randn(2, 5, 5, dtype=F64)
    basis, gradient = eigenbasis(a @ a.mT), torch.randn(2, 5, dtype=F64)
    torch.testing.assert_close(newton_step(gradient, basis, 0.3), saddle_free_step(gradient, basis, 0.3))
    expected = -torch.linalg.solve(a @ a.mT + 0.3 * torch.eye(5, dtype=F64), gradient)
    torch.testing.assert_close(newton_step(gradient, basis, 0.3), expected)


def test_the_absolute_hessian_is_that_of_eigenvalues_not_of_entries():
    a = torch.randn(1, 5, 5, dtype=F64)
    a = a + a.mT
    gradient = torch.randn(1, 5, dtype=F64)
    u, s, _ = torch.linalg.svd(a)  # sqrt(A A') = U S U'
    expected = -torch.linalg.solve(u * s[:, None] @ u.mT + 0.1 * torch.eye(5, dtype=F64), gradient)
    torch.testing.assert_close(saddle_free_step(gradient, eigenbasis(a), 0.1), expected)


def test_in_a_full_krylov_space_the_step_is_the_exact_one():
    a = torch.randn(2, 6, 6, dtype=F64)
    a, gradient = a + a.mT, torch.randn(2, 6, dtype=F64)
    exact = saddle_free_step(gradient, eigenbasis(a), 0.01)
    torch.testing.assert_close(saddle_free_step(gradient, krylov_basis(from_matrix(a), gradient, 6), 0.01), exact)
    small = saddle_free_step(gradient, krylov_basis(from_matrix(a), gradient, 1), 0.01)
    cosine = torch.nn.functional.cosine_similarity(small, gradient)
    torch.testing.assert_close(cosine, -torch.ones(2, dtype=F64))  # one dimension is the gradient's own


@pytest.mark.parametrize("krylov", [None, 12])
def test_descent_gets_further_than_gradient_descent_with_as_many_steps(krylov):
    nets = stack()
    found = descend(nets, cross_entropy, X, Y, steps=15, krylov=krylov, l2=1e-3)
    assert found.losses.shape == (3, 16) and found.dampings.shape == (3, 15)
    assert (found.losses[:, -1] < found.losses[:, 0]).all()
    plain = fit(nets, X, Y, steps=15, batch=None, lr=0.5, weight_decay=1e-3).final
    assert (found.losses[:, -1] < loss_and_gradient(plain, cross_entropy, X, Y, l2=1e-3)[0]).all()
    torch.testing.assert_close(found.losses[:, -1], loss_and_gradient(found.final, cross_entropy, X, Y, l2=1e-3)[0])


def test_every_step_takes_the_damping_with_the_lowest_loss():
    nets, grid = stack(), (1.0, 1e-2, 1e-4)
    best = descend(nets, cross_entropy, X, Y, steps=1, dampings=grid)
    each = torch.stack([descend(nets, cross_entropy, X, Y, steps=1, dampings=(mu,)).losses[:, 1] for mu in grid], 1)
    torch.testing.assert_close(best.losses[:, 1], each.min(1).values)
    torch.testing.assert_close(best.dampings[:, 0], torch.tensor(grid)[each.argmin(1)])


def test_on_a_convex_problem_saddle_free_and_damped_newton_are_the_same():
    nets = stack(lambda: nn.Linear(3, 3))
    one, two = (descend(nets, cross_entropy, X, Y, steps=6, rule=rule, l2=0.01) for rule in ("newton", "saddle-free"))
    torch.testing.assert_close(one.final.flat(), two.final.flat())
    assert (one.losses[:, -1] - two.losses.min()).abs().max() < 1e-9


def test_minibatch_descent_follows_the_order_of_the_seed():
    nets = stack()
    together = descend(nets, cross_entropy, X, Y, steps=4, batch=10)
    alone = descend(nets.sel(seed=[1]), cross_entropy, X, Y, steps=4, batch=10)
    torch.testing.assert_close(together.final.flat()[1], alone.final.flat()[0])


def test_a_linear_network_has_its_saddles_found_and_random_points_are_rejected():
    strengths = torch.tensor([2.0, 1.0], dtype=F64)

    def loss(v):
        a, b = v[:2].view(1, 2), v[2:].view(2, 1)
        return 0.5 * (b @ a - torch.diag(strengths)).square().sum()

    both = torch.func.vmap(torch.func.grad(loss)), torch.func.vmap(torch.func.hessian(loss))
    start = torch.randn(40, 4, dtype=F64, generator=torch.Generator().manual_seed(1))
    found = find_critical_points(lambda p, rows: (both[0](p), both[1](p)), start)
    losses = torch.func.vmap(loss)(found.points)[found.found]
    assert found.found.sum() > 20
    known = torch.tensor([0.5, 2.0, 2.5], dtype=F64)  # mode 1, mode 2, none
    assert (losses[:, None] - known).abs().min(1).values.max() < 1e-6
    assert not find_critical_points(lambda p, rows: (both[0](p), both[1](p)), start, steps=0).found.any()


def test_critical_points_of_networks_have_a_vanishing_gradient():
    nets = stack(members=8)
    found = find_critical_points(network_derivatives(nets, cross_entropy, X, Y, l2=0.01), nets.flat())
    assert found.found.any()
    _, gradient = loss_and_gradient(at(nets, found.points), cross_entropy, X, Y, l2=0.01)
    torch.testing.assert_close(gradient.norm(dim=1), found.gradient_norms)


def test_critical_points_of_spherical_spins_follow_the_index_law():
    n = 30
    g = torch.Generator().manual_seed(0)
    spins = SphericalSpins(torch.randn(n, n, n, generator=g, dtype=F64))

    def derivatives(sigma, rows):
        gradient, matrices = spins.gradient(sigma), spins.hessian(sigma)
        op = on_sphere(from_matrix(matrices), gradient, sigma)
        radial = (gradient * sigma).sum(1, keepdim=True) / n
        return gradient - radial * sigma, op.dense()

    def retract(sigma):
        return sigma * math.sqrt(n) / sigma.norm(dim=1, keepdim=True)

    start = retract(torch.randn(24, n, generator=g, dtype=F64))
    found = find_critical_points(derivatives, start, steps=80, retract=retract, clip=3.0)
    assert found.found.sum() >= 18
    kept = found.points[found.found]
    index = negative_share(found.values[found.found]) * n / (n - 1)  # the radial direction is not on the sphere
    assert (index - spin_index(spins.energy(kept))).abs().mean() < 0.05


def test_a_point_that_has_arrived_rests_and_the_others_go_on():
    asked = []

    def derivatives(points, rows):
        asked.append(rows.tolist())
        return saddle(points)

    start = torch.tensor([[5.0, 0.0], [0.0, 0.0], [2.5, 0.0]], dtype=F64)
    found = find_critical_points(derivatives, start, steps=9, clip=1.0)
    assert found.found.all() and found.points.abs().max() < 1e-9
    assert asked[:3] == [[0, 1, 2], [0, 2], [0, 2]] and asked[-2] == [0] and asked[-1] == [0, 1, 2]
    assert len(asked) == 7  # five steps of 1, a look, and the verification


def test_searches_of_networks_do_not_depend_on_when_others_arrive():
    torch.manual_seed(3)
    nets = stack(members=6)
    data = along("seed", torch.randn(6, 20, 3, dtype=F64)), along("seed", torch.randint(3, (6, 20)))
    together = find_critical_points(network_derivatives(nets, cross_entropy, *data, l2=0.01), nets.flat(), clip=2.0)
    arrived = [m for m in range(6) if together.found[m]]
    assert 0 < len(arrived) < 6
    alone, own = nets.sel(seed=arrived), [along("seed", part.values[arrived]) for part in data]
    one = find_critical_points(network_derivatives(alone, cross_entropy, *own, l2=0.01), alone.flat(), clip=2.0)
    torch.testing.assert_close(one.values, together.values[arrived])


def test_searching_in_single_precision_is_refused():
    with pytest.raises(ValueError, match="float64 only"):
        find_critical_points(saddle, torch.zeros(1, 2))
    with pytest.raises(ValueError, match="rule = 'gauss'"):
        descend(stack(), cross_entropy, X, Y, steps=1, rule="gauss")


def test_a_point_that_diverged_is_not_found_and_does_not_stop_the_others():
    start = torch.tensor([[1.0, 0.5], [torch.nan, 0.0]], dtype=F64)
    found = find_critical_points(saddle, start, clip=10.0)
    assert found.found.tolist() == [True, False]


def test_copies_of_a_critical_point_count_once():
    rows = torch.tensor([[0.5, 1.0], [0.7, 1.0], [0.5 + 1e-9, 1.0], [0.5, 0.0]], dtype=F64)
    assert distinct(rows).tolist() == [True, True, False, True]
