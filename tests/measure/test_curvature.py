"""Curvature products, Lanczos and the stochastic estimates against dense matrices in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from repro.measure.curvature import gauss_newton, hessian, loss_and_gradient
from repro.measure.flat import at, flatten, unflatten
from repro.measure.lanczos import lanczos, top_eigenpairs
from repro.measure.operators import from_matrix, on_sphere, random_basis, restrict
from repro.measure.stochastic import frobenius_norm, hutch_plus_plus, hutchinson, slq
from repro.rng import Streams
from repro.train import Stack, along, cross_entropy, fit, squared_error

torch.manual_seed(0)
X, Y = torch.randn(15, 5, dtype=torch.float64), torch.randint(3, (15,))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


class Unknown(nn.Module):
    """Goes the vmap way."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.out = nn.Parameter(torch.randn(5)), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(torch.sin(x * self.scale))


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 2, 2), nn.BatchNorm1d(2), nn.GELU(), nn.Flatten(), nn.Linear(8, 3)
    )


def stack(build, members: int = 2) -> Stack:
    return Stack.of([build() for _ in range(members)], {"seed": range(members)}).to(dtype=torch.float64)


def dense(nets: Stack, member: int, of, x=X, y=Y):
    """``torch.func`` on one plain network: the function of its flat parameters."""
    module = nets.member(member)
    names = [n for n, _ in module.named_parameters()]
    sizes = [p.numel() for p in module.parameters()]

    def outputs(vector):
        parts = [p.view(q.shape) for p, q in zip(vector.split(sizes), module.parameters(), strict=True)]
        state = dict(zip(names, parts, strict=True)) | dict(module.named_buffers())
        return functional_call(module, state, (x,))

    point = nets.flat()[member]
    return of(outputs, point)


def dense_hessian(nets, member, loss=F.cross_entropy, x=X, y=Y):
    return dense(nets, member, lambda f, p: torch.func.hessian(lambda v: loss(f(v), y))(p), x, y)


def dense_gauss_newton(nets, member):
    def of(f, point):
        jacobian, p = torch.func.jacrev(f)(point), f(point).softmax(1)
        inner = torch.diag_embed(p) - p[:, :, None] * p[:, None]
        return torch.einsum("nkp,nkl,nlq->pq", jacobian, inner, jacobian) / len(X)

    return dense(nets, member, of)


def indefinite(members: int = 3, size: int = 30, seed: int = 1) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(members, size, size, generator=g, dtype=torch.float64)
    return a + a.mT


# -- products --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [mlp, convnet, Unknown])
@pytest.mark.parametrize("batch", [None, 4])
def test_the_hessian_of_every_member_is_that_of_the_network_alone(build, batch):
    nets = stack(build)
    found = hessian(nets, cross_entropy, X, Y, batch=batch).dense()
    for m in range(2):
        torch.testing.assert_close(found[m], dense_hessian(nets, m))


@pytest.mark.parametrize("build", [mlp, convnet, Unknown])
@pytest.mark.parametrize("batch", [None, 4])
def test_the_gauss_newton_matrix_is_the_textbooks_sum_over_examples(build, batch):
    nets = stack(build)
    found = gauss_newton(nets, cross_entropy, X, Y, batch=batch).dense()
    for m in range(2):
        torch.testing.assert_close(found[m], dense_gauss_newton(nets, m))


def test_the_rest_of_the_hessian_of_a_bias_free_relu_network_has_no_trace():
    nets = stack(lambda: nn.Sequential(nn.Linear(5, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)))
    rest = (hessian(nets, cross_entropy, X, Y) - gauss_newton(nets, cross_entropy, X, Y)).dense()
    assert rest.norm() > 0.1
    torch.testing.assert_close(rest.diagonal(dim1=1, dim2=2).sum(1), torch.zeros(2, dtype=torch.float64))


def test_a_linear_model_with_squared_error_has_one_hessian_everywhere():
    nets, targets = stack(lambda: nn.Linear(5, 1)), torch.randn(15, 1, dtype=torch.float64)
    inputs = torch.cat([X, torch.ones(15, 1, dtype=torch.float64)], 1)
    expected = (inputs.T @ inputs / 15).expand(2, 6, 6)
    torch.testing.assert_close(hessian(nets, squared_error, X, targets).dense(), expected)
    torch.testing.assert_close(gauss_newton(nets, squared_error, X, targets).dense(), expected)


def test_a_loss_that_is_linear_in_the_parameters_has_no_curvature():
    nets = stack(lambda: nn.Linear(5, 1))
    found = hessian(nets, lambda out, y: out.mean((1, 2)), X, Y)
    assert found(torch.ones(2, 6, dtype=torch.float64)).abs().max() == 0


def test_targets_may_differ_between_members():
    nets, labels = stack(mlp), torch.stack([Y, (Y + 1) % 3])
    found = hessian(nets, cross_entropy, X, along("seed", labels)).dense()
    torch.testing.assert_close(found[1], dense_hessian(nets, 1, y=labels[1]))


def test_the_loss_and_its_gradient_include_the_penalty_as_the_hessian_does():
    nets = stack(mlp)
    loss, gradient = loss_and_gradient(nets, cross_entropy, X, Y, batch=4, l2=0.3)

    def penalised(outputs, point):
        def value(v):
            return F.cross_entropy(outputs(v), Y) + 0.15 * v @ v

        return value(point), torch.func.grad(value)(point), torch.func.hessian(value)(point)

    curved = hessian(nets, cross_entropy, X, Y, l2=0.3).dense()
    for m in range(2):
        for found, expected in zip((loss[m], gradient[m], curved[m]), dense(nets, m, penalised), strict=True):
            torch.testing.assert_close(found, expected)


def test_an_operator_stays_at_the_parameters_it_was_made_for():
    nets = stack(mlp)
    op = hessian(nets, cross_entropy, X, Y, batch=8)
    before = op.dense()
    nets.load({name: value + 1 for name, value in nets.params.items()})
    assert torch.equal(op.dense(), before)


def test_curvature_can_be_measured_during_training_with_dropout():
    def measure(nets, step):
        assert not nets.net.training
        return {"top": top_eigenpairs(hessian(nets, cross_entropy, X, Y), 2).values}

    def build():
        return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 3))

    run = fit(build, X, Y, seeds=[1, 2], steps=4, batch=5, lr=0.1, measure=measure, measure_at=[0, 4])
    expected = torch.linalg.eigvalsh(dense_hessian(run.final, 1)).flip(0)[:2]
    torch.testing.assert_close(torch.tensor(run.history["top"].values[1, 1]), expected, rtol=1e-6, atol=0)


def test_vectors_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"vectors \(2, 7\): this operator takes \[2, 39\]"):
        hessian(stack(mlp), cross_entropy, X, Y)(torch.zeros(2, 7, dtype=torch.float64))


def test_inputs_and_targets_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="15 inputs, 14 targets"):
        hessian(stack(mlp), cross_entropy, X, Y[:-1])


def test_vectors_and_named_parameters_are_two_views_of_one_thing():
    nets = stack(mlp)
    assert torch.equal(flatten(unflatten(nets, nets.flat())), nets.flat())
    blocks = torch.randn(2, 3, 39, dtype=torch.float64)
    assert unflatten(nets, blocks)["0.weight"].shape == (2, 3, 4, 5)
    assert torch.equal(flatten(unflatten(nets, blocks), leading=2), blocks)
    assert torch.equal(at(nets, 2 * nets.flat()).flat(), 2 * nets.flat())
    with pytest.raises(ValueError, match="length 5: a member has 39"):
        unflatten(nets, torch.zeros(2, 5))


# -- planes and spheres ----------------------------------------------------------------------------------------------


def test_a_plane_sees_the_hessian_of_the_loss_in_its_coordinates():
    nets = stack(mlp)
    basis = random_basis(Streams([0, 1], "plane"), 6, 39, torch.float64)
    found = restrict(hessian(nets, cross_entropy, X, Y), basis)

    def of(outputs, point):
        def on_plane(a):
            return F.cross_entropy(outputs(point + a @ basis[1]), Y)

        return torch.func.hessian(on_plane)(torch.zeros(6, dtype=torch.float64))

    torch.testing.assert_close(found[1], dense(nets, 1, of))


def test_random_bases_are_orthonormal_and_belong_to_the_seed():
    basis = random_basis(Streams([3, 3, 4], "plane"), 5, 20, torch.float64)
    torch.testing.assert_close(basis @ basis.mT, torch.eye(5, dtype=torch.float64).expand(3, 5, 5))
    assert torch.equal(basis[0], basis[1]) and not torch.equal(basis[0], basis[2])
    with pytest.raises(ValueError, match="dimension = 21"):
        random_basis(Streams([0], "plane"), 21, 20)


def test_on_a_sphere_curvature_is_the_second_derivative_along_great_circles():
    a = indefinite(1, 6)[0]
    point = torch.randn(6, dtype=torch.float64)
    op = on_sphere(from_matrix(a[None]), (a @ point)[None], point[None])
    radius = point.norm()
    for _ in range(3):
        v = torch.randn(6, dtype=torch.float64)
        v -= (v @ point) * point / radius**2
        v /= v.norm()

        def along_circle(t, v=v):
            p = torch.cos(t / radius) * point + radius * torch.sin(t / radius) * v
            return 0.5 * p @ a @ p

        second = torch.func.grad(torch.func.grad(along_circle))(torch.zeros((), dtype=torch.float64))
        torch.testing.assert_close(v @ op(v[None])[0], second)
    torch.testing.assert_close(op(point[None]), torch.zeros(1, 6, dtype=torch.float64))


# -- Lanczos ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
@pytest.mark.parametrize("block", [1, 3])
def test_extreme_eigenpairs_are_those_of_a_dense_solver(which, block):
    matrices = indefinite()
    found = top_eigenpairs(from_matrix(matrices), 4, which, block=block, tol=1e-8)
    values, vectors = torch.linalg.eigh(matrices)
    key = {"largest": values, "smallest": -values, "magnitude": values.abs()}[which]
    order = key.argsort(1, descending=True)[:, :4]
    torch.testing.assert_close(found.values, values.gather(1, order), rtol=1e-10, atol=1e-10)
    expected = vectors.mT.gather(1, order[..., None].expand(-1, -1, 30))
    overlaps = (found.vectors @ expected.mT).abs()
    torch.testing.assert_close(overlaps, torch.eye(4, dtype=torch.float64).expand(3, 4, 4), rtol=0, atol=1e-6)
    true = (from_matrix(matrices)(found.vectors) - found.values[..., None] * found.vectors).norm(dim=2)
    torch.testing.assert_close(found.residuals, true, rtol=1e-3, atol=1e-8)


def test_top_eigenvalues_of_networks_are_those_of_their_dense_hessians():
    nets = stack(mlp, 3)
    op = hessian(nets, cross_entropy, X, Y)
    expected = torch.linalg.eigvalsh(op.dense()).flip(1)[:, :5]
    torch.testing.assert_close(top_eigenpairs(op, 5).values, expected, rtol=1e-6, atol=1e-10)


def test_a_block_finds_every_copy_of_a_repeated_eigenvalue():
    q = torch.linalg.qr(indefinite(1, 20)[0])[0]
    values = torch.tensor([5.0] * 4 + [1.0] * 16, dtype=torch.float64)
    op = from_matrix((q * values @ q.T)[None])
    torch.testing.assert_close(top_eigenpairs(op, 6, block=4).values[0], values[:6])


def test_all_eigenvalues_come_out_of_a_space_as_large_as_the_matrix():
    matrices = indefinite(2, 12)
    found = top_eigenpairs(from_matrix(matrices), 12, tol=1e-12)
    torch.testing.assert_close(found.values, torch.linalg.eigvalsh(matrices).flip(1))


def test_an_exhausted_krylov_space_goes_on_with_a_random_direction():
    matrices = torch.stack([torch.zeros(9, 9), torch.diag(torch.tensor([3.0, 2.0] + [0.0] * 7))]).double()
    space = lanczos(from_matrix(matrices), torch.ones(2, 1, 9, dtype=torch.float64), 9)
    torch.testing.assert_close(space.basis @ space.basis.mT, torch.eye(9, dtype=torch.float64).expand(2, 9, 9))
    torch.testing.assert_close(
        torch.linalg.eigvalsh(space.projected)[1, -2:], torch.tensor([2.0, 3.0], dtype=torch.float64)
    )


def test_the_projected_operator_is_tridiagonal_and_starts_at_the_given_vector():
    matrices, start = indefinite(2, 12), torch.randn(2, 12, dtype=torch.float64)
    space = lanczos(from_matrix(matrices), start, 5)
    torch.testing.assert_close(space.basis[:, 0].abs(), (start / start.norm(dim=1, keepdim=True)).abs())
    torch.testing.assert_close(space.basis @ matrices @ space.basis.mT, space.projected)
    assert space.projected.triu(2).abs().max() < 1e-10


def test_a_member_that_diverged_gets_nan_and_the_others_their_values():
    matrices = indefinite()
    matrices[1] = torch.nan
    found = top_eigenpairs(from_matrix(matrices), 2)
    assert found.values[1].isnan().all() and found.vectors[1].isnan().all()
    expected = torch.linalg.eigvalsh(matrices[[0, 2]]).flip(1)[:, :2]
    torch.testing.assert_close(found.values[[0, 2]], expected, rtol=1e-6, atol=0)
    density = slq(from_matrix(matrices), Streams([0, 1, 2], "probes"), 1, 5)
    assert density.nodes[1].isnan().all() and density.nodes[0].isfinite().all()


def test_too_few_products_are_an_error_that_says_so():
    with pytest.raises(RuntimeError, match="top 3 eigenpairs after 4 products"):
        top_eigenpairs(from_matrix(indefinite(1, 200)), 3, max_products=4)
    with pytest.raises(ValueError, match="k = 31"):
        top_eigenpairs(from_matrix(indefinite()), 31)
    with pytest.raises(ValueError, match="which = 'top'"):
        top_eigenpairs(from_matrix(indefinite()), 1, "top")


# -- estimates -------------------------------------------------------------------------------------------------------


def test_quadrature_with_the_full_krylov_space_has_the_moments_of_its_probe():
    matrices = indefinite(2, 20)
    op, seeds = from_matrix(matrices), [5, 6]
    density = slq(op, Streams(seeds, "probes"), probes=1, steps=20)
    v = torch.where(Streams(seeds, "probes").uniform(1, 20) < 0.5, -1.0, 1.0).double()[:, 0] / math.sqrt(20)
    torch.testing.assert_close(density.moment(0), torch.ones(2, dtype=torch.float64))
    for power in (1, 2, 3):
        exact = torch.einsum("mp,mpq,mq->m", v, torch.linalg.matrix_power(matrices, power), v)
        torch.testing.assert_close(density.moment(power), exact)


def test_the_estimated_density_is_the_spectrums():
    size = 400
    matrices = indefinite(1, size) / math.sqrt(8 * size)  # Wigner's semicircle on [-1, 1]
    density = slq(from_matrix(matrices), Streams([0], "probes"), probes=10, steps=40)
    below = (torch.linalg.eigvalsh(matrices) < 0.3).double().mean()
    assert abs(density.share(-2.0, 0.3) - below) < 0.03
    grid = torch.linspace(-1.5, 1.5, 301, dtype=torch.float64)
    curve = density.on(grid, 0.1)
    torch.testing.assert_close(torch.trapezoid(curve, grid), torch.ones(1, dtype=torch.float64), rtol=0, atol=1e-3)
    assert abs(curve[0, 150] - 2 / math.pi) < 0.05


def test_trace_estimates_are_unbiased_and_exact_where_theory_says_so():
    diagonal = from_matrix(torch.diag_embed(torch.arange(12.0, dtype=torch.float64))[None])
    exact = hutchinson(diagonal, Streams([0], "probes"), 3)  # random signs see a diagonal without error
    torch.testing.assert_close(exact.mean, torch.tensor([66.0], dtype=torch.float64))
    matrices = indefinite(1, 60)
    trace = matrices.diagonal(dim1=1, dim2=2).sum(1)
    estimate = hutchinson(from_matrix(matrices), Streams([1], "probes"), 2000)
    assert abs(estimate.mean - trace) < 4 * estimate.error
    low = torch.randn(1, 60, 5, dtype=torch.float64)
    low = low @ low.mT  # rank 5: found whole by the range finder
    torch.testing.assert_close(
        hutch_plus_plus(from_matrix(low), Streams([1], "probes"), 30).mean, low.diagonal(dim1=1, dim2=2).sum(1)
    )
    norm = frobenius_norm(from_matrix(matrices), Streams([2], "probes"), 500)
    torch.testing.assert_close(norm, matrices.norm(dim=(1, 2)), rtol=0.03, atol=0)


@pytest.mark.parametrize(("which", "sign"), [("largest", 1.0), ("smallest", -1.0)])
def test_down_to_a_share_every_member_has_its_own_number_of_pairs_and_the_next(which, sign):
    spectra = sign * torch.stack(
        [0.8 ** torch.arange(60.0, dtype=torch.float64), 0.5 ** torch.arange(60.0, dtype=torch.float64)]
    )
    found = top_eigenpairs(from_matrix(torch.diag_embed(spectra)), 40, which, tol=1e-3, down_to=0.05)
    above = (spectra.abs() > 0.05).sum(1)
    assert found.values.shape[1] == 1 + above.max() < 40
    for values, exact, n in zip(found.values, spectra, above, strict=True):
        torch.testing.assert_close(values[: n + 1], exact[: n + 1], rtol=1e-5, atol=0)
    assert top_eigenpairs(from_matrix(torch.diag_embed(spectra)), 3, which, down_to=0.05).values.shape[1] == 3
