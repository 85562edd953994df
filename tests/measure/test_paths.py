import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repro.measure.paths import (
    barrier,
    evaluate,
    losses_at,
    mixtures,
    perturbations,
    segment,
    simplex_grid,
    tunnel_rise,
)
from repro.rng import Streams
from repro.train import Stack, accuracy, along, cross_entropy, squared_error

torch.manual_seed(0)
X, Y = torch.randn(20, 4, dtype=torch.float64), torch.randint(3, (20,))


def stack(members: int = 2) -> Stack:
    build = [nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)) for _ in range(members)]
    return Stack.of(build, {"seed": range(members)}).to(dtype=torch.float64)


def test_the_loss_along_a_line_is_that_of_the_interpolated_networks():
    start, end = stack(), stack()
    corners = torch.stack([start.flat(), end.flat()], 1)
    found = losses_at(start, mixtures(corners, segment(5)), cross_entropy, X, Y, batch=7)
    a, b = start.member(1), end.member(1)
    for t, value in zip((0, 0.25, 0.5, 0.75, 1), found[1], strict=True):
        mixed = start.member(1)
        mixed.load_state_dict({n: (1 - t) * p + t * b.state_dict()[n] for n, p in a.state_dict().items()})
        torch.testing.assert_close(value, F.cross_entropy(mixed(X), Y).detach())


def test_looking_along_a_path_leaves_the_networks_where_they_are():
    nets = stack()
    before = nets.flat().clone()
    losses_at(nets, [nets.flat() + 1], cross_entropy, X, Y)
    assert torch.equal(nets.flat(), before)


def test_any_measure_and_each_members_own_data_can_be_taken_along():
    nets = stack()
    labels = along("seed", torch.stack([Y, (Y + 1) % 3]))
    own = losses_at(nets, [nets.flat()], accuracy, X, labels)
    assert torch.equal(own[1], losses_at(nets, [nets.flat()], accuracy, X, (Y + 1) % 3)[1])
    inputs = along("seed", torch.stack([X, -X]))
    assert torch.equal(
        losses_at(nets, [nets.flat()], accuracy, inputs, Y)[1], losses_at(nets, [nets.flat()], accuracy, -X, Y)[1]
    )
    assert evaluate(nets, [nets.flat()] * 3, lambda at: at.predict(X)).shape == (2, 3, 20, 3)


def test_a_grid_on_a_simplex_holds_every_mixture_once():
    grid = simplex_grid(3, 6)
    assert grid.shape == (28, 3) and len({tuple(row.tolist()) for row in grid}) == 28
    torch.testing.assert_close(grid.sum(1), torch.ones(28, dtype=torch.float64))
    assert (grid >= 0).all() and simplex_grid(1, 4).tolist() == [[1.0]]
    with pytest.raises(ValueError, match="divisions = 0"):
        simplex_grid(3, 0)


def test_barriers_are_measured_over_the_ends_or_over_the_chord():
    slope_with_a_bump = torch.tensor([[0.0, 1.5, 2.0], [2.0, 3.0, 0.0]])
    assert barrier(slope_with_a_bump).tolist() == [0.0, 1.0]
    assert barrier(slope_with_a_bump, over="chord").tolist() == [0.5, 2.0]
    with pytest.raises(ValueError, match="over = 'mean'"):
        barrier(slope_with_a_bump, over="mean")


def test_a_convex_loss_has_no_barrier_on_any_line():
    nets = Stack.of([nn.Linear(4, 3) for _ in range(2)]).to(dtype=torch.float64)
    corners = torch.stack([nets.flat(), torch.randn_like(nets.flat())], 1)
    path = losses_at(nets, mixtures(corners, segment(21)), cross_entropy, X, Y)
    assert (barrier(path) == 0).all() and (barrier(path, "chord") < 1e-12).all()


def test_perturbations_have_the_radius_asked_for():
    nets = stack()
    for relative, radius in ((True, 0.3 * nets.flat().norm(dim=1)), (False, torch.full((2,), 0.3).double())):
        for point in perturbations(nets, 0.3, Streams([1, 2], "tunnel"), 3, relative):
            torch.testing.assert_close((point - nets.flat()).norm(dim=1), radius)


def test_the_rise_in_a_quadratic_bowl_is_half_its_mean_curvature():
    nets = Stack.of([nn.Linear(4, 1, bias=False)]).to(dtype=torch.float64)
    target = nets.predict(X)[0]
    rise = tunnel_rise(nets, 0.5, Streams([0], "tunnel"), squared_error, X, target, count=3000, relative=False)
    expected = 0.5 * 0.25 * X.square().sum(1).mean() / 4
    torch.testing.assert_close(rise[0], expected, rtol=0.03, atol=0)
