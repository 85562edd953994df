"""Reparametrised stacks: planes, spheres and connectors that fit() trains."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repro.measure.operators import random_basis
from repro.measure.paths import losses_at, mixtures
from repro.rng import Streams
from repro.train import Stack, along, cross_entropy, fit
from repro.train.connect import barycentric, connectors, on_random_points, star, vertices
from repro.train.reparametrise import networks
from repro.train.subspace import on_plane

torch.manual_seed(0)
X, Y = torch.randn(24, 4, dtype=torch.float64), torch.randint(3, (24,))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


class Unknown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.out = nn.Parameter(torch.randn(4)), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(torch.sin(x * self.scale))


def stack(build=mlp, members: int = 2) -> Stack:
    return Stack.of([build() for _ in range(members)], {"seed": range(members)}).to(dtype=torch.float64)


def planes(nets: Stack, dimension: int, **options) -> tuple[Stack, torch.Tensor]:
    basis = random_basis(Streams(nets.labels("seed"), "plane"), dimension, nets.flat().shape[1], torch.float64)
    return on_plane(nets, basis, **options), basis


@pytest.mark.parametrize("build", [mlp, Unknown])
def test_training_on_a_plane_is_gradient_descent_in_its_coordinates(build):
    nets = stack(build)
    on, basis = planes(nets, 3)
    trained = networks(fit(on, X, Y, steps=5, batch=None, lr=0.3).final)
    for m in range(2):
        net, a = nets.member(m), torch.zeros(3, dtype=torch.float64, requires_grad=True)
        names, sizes = [n for n, _ in net.named_parameters()], [p.numel() for p in net.parameters()]
        for _ in range(5):
            theta = (nets.flat()[m] + a @ basis[m]).split(sizes)
            state = {n: t.view_as(p) for n, t, p in zip(names, theta, net.parameters(), strict=True)}
            loss = F.cross_entropy(torch.func.functional_call(net, state, (X,)), Y)
            a = (a - 0.3 * torch.autograd.grad(loss, a)[0]).detach().requires_grad_()
        torch.testing.assert_close(trained.flat()[m], (nets.flat()[m] + a @ basis[m]).detach())


def test_a_plane_that_is_all_of_space_trains_like_the_network():
    nets = stack()
    size = nets.flat().shape[1]
    on = on_plane(nets, torch.eye(size, dtype=torch.float64).expand(2, size, size))
    run, free = (fit(n, X, Y, steps=6, batch=8, lr=0.2) for n in (on, nets))
    torch.testing.assert_close(networks(run.final).flat(), free.final.flat())


def test_nothing_leaves_the_plane_and_nothing_moves_before_training():
    nets = stack()
    on, basis = planes(nets, 4)
    torch.testing.assert_close(networks(on).flat(), nets.flat())
    torch.testing.assert_close(on.predict(X), nets.predict(X))
    moved = networks(fit(on, X, Y, steps=10, lr=0.05, optimizer="adam", batch=8).final).flat() - nets.flat()
    off = moved - torch.einsum("md,mdp->mp", torch.einsum("mp,mdp->md", moved, basis), basis)
    assert moved.norm() > 0.1 and off.norm() < 1e-12


def test_members_that_share_planes_train_as_if_each_had_its_own():
    nets = Stack.of([mlp() for _ in range(4)], {"radius": [1, 2], "seed": [5, 3]}).to(dtype=torch.float64)
    basis, lengths = random_basis(Streams([5, 3], "plane"), 3, nets.flat().shape[1], torch.float64), torch.rand(4)
    own = on_plane(nets, lengths.double()[:, None, None] * basis.repeat(2, 1, 1))
    shared = on_plane(nets, along("seed", basis), scale=lengths)
    one, whole, parts = (fit(n, X, Y, steps=4, batch=8, lr=0.3, momentum=0.5, members_at_once=k).final
                         for n, k in ((own, 4), (shared, 4), (shared, 3)))  # fmt: skip
    torch.testing.assert_close(networks(whole).flat(), networks(one).flat())
    torch.testing.assert_close(networks(parts).flat(), networks(one).flat())
    torch.testing.assert_close(whole.member(3)(X), networks(one).predict(X)[3])
    torch.testing.assert_close(
        random_basis(Streams([5, 3, 5, 3], "plane"), 3, 43, torch.float64), basis.repeat(2, 1, 1)
    )


def test_on_a_sphere_the_norm_stays():
    nets = stack()
    on, _ = planes(nets, 4, sphere=True)
    trained = networks(fit(on, X, Y, steps=10, lr=0.05, optimizer="adam", batch=8).final)
    assert (trained.flat() - nets.flat()).norm() > 0.1
    torch.testing.assert_close(trained.flat().norm(dim=1), nets.flat().norm(dim=1))


def test_members_in_chunks_and_members_taken_out_are_the_same_networks():
    nets = stack(members=4)
    on, _ = planes(nets, 3)
    whole = fit(on, X, Y, steps=4, batch=8, lr=0.1).final
    parts = fit(on, X, Y, steps=4, batch=8, lr=0.1, members_at_once=3).final
    torch.testing.assert_close(parts.flat(), whole.flat())
    torch.testing.assert_close(whole.sel(seed=[2]).predict(X)[0], whole.predict(X)[2])
    torch.testing.assert_close(whole.member(2)(X), whole.predict(X)[2])


def test_a_network_with_running_statistics_or_dropout_is_refused():
    for layer, message in ((nn.BatchNorm1d(5), "buffer '1.running_mean'"), (nn.Dropout(0.5), "dropout")):
        nets = stack(lambda layer=layer: nn.Sequential(nn.Linear(4, 5), layer, nn.Linear(5, 3)))
        with pytest.raises(ValueError, match=message):
            planes(nets, 2)
    with pytest.raises(ValueError, match=r"basis \(2, 3, 9\): expected \[2, d, 43\]"):
        on_plane(stack(), torch.zeros(2, 3, 9))


# -- connectors ------------------------------------------------------------------------------------------------------


def test_a_barycentric_subdivision_of_a_triangle_has_four_free_vertices_and_six_triangles():
    shape = barycentric(3)
    assert shape.free == ((0, 1), (0, 2), (1, 2), (0, 1, 2))
    assert sorted(shape.simplices) == [(0, 3, 6), (0, 4, 6), (1, 3, 6), (1, 5, 6), (2, 4, 6), (2, 5, 6)]
    assert len(barycentric(4).simplices) == 24 and star(5).simplices[3] == (3, 5)
    with pytest.raises(ValueError, match="optima = 1"):
        star(1)


def test_sampled_points_lie_on_a_simplex_and_cover_it_evenly():
    shape = barycentric(3)
    weights = shape.sample(Streams(range(3000), "points"))
    torch.testing.assert_close(weights.sum(1), torch.ones(3000))
    assert (weights >= 0).all() and ((weights > 0).sum(1) == 3).all()
    torch.testing.assert_close(weights.mean(0), torch.tensor([1, 1, 1, 1, 1, 1, 3]) / 9, rtol=0, atol=0.02)


def test_before_training_a_subdivided_triangle_is_the_flat_one():
    optima = torch.randn(2, 3, 43, dtype=torch.float64)
    shape = barycentric(3)
    corners = vertices(connectors(stack(), optima, shape, [7, 8]))
    flat = torch.stack(list(mixtures(corners, shape.grid(2).flatten(0, 1))), 1)
    centroid = optima.mean(1, keepdim=True)
    coordinates = torch.linalg.lstsq((optima - centroid).mT, (flat - centroid).mT).solution
    torch.testing.assert_close((optima - centroid).mT @ coordinates, (flat - centroid).mT)


@pytest.mark.parametrize("shape", [star(3), barycentric(3)])
def test_training_a_connector_lowers_its_surface_and_leaves_the_optima(shape):
    build = lambda: nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 3))  # noqa: E731
    optima = fit(build, X.float(), Y, seeds=[1, 2, 3], steps=400, batch=None, lr=0.05, optimizer="adam").final
    nets = connectors(optima, optima.flat()[None], shape, [5])
    run = fit(
        nets, X.float(), Y, steps=400, batch=None, objective=on_random_points(shape, cross_entropy, points=2),
        optimizer="adam", lr=0.01,
    )  # fmt: skip
    assert torch.equal(vertices(run.final)[:, :3], optima.flat()[None])
    one = optima.sel(seed=[1])
    flat, bent = (
        losses_at(one, mixtures(vertices(n), shape.grid(5).flatten(0, 1)), cross_entropy, X.float(), Y).max()
        for n in (nets, run.final)
    )
    assert bent < 0.3 * flat


def test_connectors_train_alike_alone_and_together():
    shape, optima = star(2), torch.randn(3, 2, 43, dtype=torch.float64)
    objective = on_random_points(shape, cross_entropy)
    together = fit(connectors(stack(), optima, shape, [4, 5, 6]), X, Y, steps=5, batch=8, lr=0.1, objective=objective)
    alone = fit(connectors(stack(), optima[1:2], shape, [5]), X, Y, steps=5, batch=8, lr=0.1, objective=objective)
    torch.testing.assert_close(together.final.params["free"][1], alone.final.params["free"][0])
    with pytest.raises(ValueError, match=r"optima \(3, 2, 43\): expected \[3, 3, 43\]"):
        connectors(stack(), optima, star(3), [4, 5, 6])


def test_planes_take_per_member_data():
    on, _ = planes(stack(), 3)
    labels = torch.stack([Y, (Y + 1) % 3])
    run = fit(on, X, along("seed", labels), steps=3, batch=None, lr=0.1)
    torch.testing.assert_close(torch.tensor(run.history["loss"].values[1, 0]), F.cross_entropy(
        on.predict(X)[1], labels[1]).float())  # fmt: skip
