import itertools

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from sklearn.cross_decomposition import CCA
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from repro.measure import similarity as sim
from repro.measure.kernels import rbf_cka, unbiased_cka
from repro.measure.representation import Representation, pair

INDICES = {
    "linear_cka": sim.linear_cka,
    "unbiased_cka": unbiased_cka,
    "rbf_cka": rbf_cka,
    "cca_r2": sim.cca_r2,
    "cca_mean": sim.cca_mean,
    "svcca_r2": sim.svcca_r2,
    "svcca_mean": sim.svcca_mean,
    "pwcca": sim.pwcca,
    "procrustes": sim.procrustes,
    "regression_r2": sim.regression_r2,
}
INVERTIBLE = ("cca_r2", "cca_mean")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def related(n: int = 60, p: int = 8, q: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two representations of different width and uneven spectrum that share part of their variance; not centred."""
    x = draw(n, p, seed=seed) * torch.linspace(3, 0.3, p).double() + 2
    return x, x[:, :4] @ draw(4, q, seed=seed + 1) + draw(n, q, seed=seed + 2) - 1


def rotation(p: int, seed: int = 5) -> torch.Tensor:
    return torch.linalg.qr(draw(p, p, seed=seed))[0]


@pytest.mark.parametrize("name", INDICES)
def test_a_representation_is_wholly_similar_to_itself(name):
    x = Representation(draw(40, 7))
    assert INDICES[name](x, x) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", INDICES)
@given(seed=some.integers(0, 10_000), scale=some.floats(0.01, 100), shift=some.floats(-5, 5))
@settings(max_examples=15, deadline=None)
def test_rotating_scaling_and_shifting_either_side_changes_nothing(name, seed, scale, shift):
    x, y = related(seed=seed)
    moved = scale * y @ rotation(y.shape[1], seed) + shift
    index = INDICES[name]
    before, after = (index(Representation(x), Representation(t)) for t in (y, moved))
    assert after == pytest.approx(before, abs=1e-9)
    if name != "pwcca":  # its weights are read off the neurons of the first argument, which a rotation mixes
        turned = Representation(scale * x @ rotation(x.shape[1], seed) + shift)
        assert index(turned, Representation(y)) == pytest.approx(before, abs=1e-9)


@pytest.mark.parametrize("name", INDICES)
def test_only_the_cca_family_ignores_every_invertible_map(name):
    x, y = related()
    stretch = draw(6, 6, seed=9) + torch.diag(torch.tensor([5.0, 1, 1, 1, 1, 0.1]).double())
    index = INDICES[name]
    before, after = (index(Representation(x), Representation(t)) for t in (y, y @ stretch))
    ignores = after == pytest.approx(before, abs=1e-9)
    assert ignores == (name in (*INVERTIBLE, "pwcca", "regression_r2"))


@pytest.mark.parametrize("name", [name for name in INDICES if name not in ("pwcca", "regression_r2")])
def test_an_index_does_not_depend_on_the_order_of_its_arguments(name):
    x, y = map(Representation, related())
    assert INDICES[name](x, y) == pytest.approx(INDICES[name](y, x), abs=1e-12)


@pytest.mark.parametrize(("n", "p", "q"), [(60, 8, 6), (12, 40, 30), (12, 40, 5), (30, 30, 30)])
def test_linear_cka_is_its_definition_by_gram_matrices(n, p, q):
    x, y = draw(n, p), draw(n, q, seed=1) + draw(n, p)[:, :1]
    h = torch.eye(n, dtype=torch.float64) - 1 / n
    k, l = (h @ t @ t.T @ h for t in (x, y))  # noqa: E741
    definition = (k * l).sum() / (k.norm() * l.norm())
    assert sim.linear_cka(Representation(x), Representation(y)) == pytest.approx(float(definition), abs=1e-12)
    hsic = torch.trace(k @ l) / (n - 1) ** 2
    assert sim.linear_hsic(Representation(x), Representation(y)) == pytest.approx(float(hsic), rel=1e-10)


def test_cka_by_features_and_by_gram_matrices_agree_to_ten_digits():
    x, y = (Representation(t) for t in related(n=50))
    features = (y.x.T @ x.x).norm() ** 2 / ((x.x.T @ x.x).norm() * (y.x.T @ y.x).norm())
    grams = (x.gram * y.gram).sum() / (x.gram.norm() * y.gram.norm())
    assert abs(features - grams) < 1e-10
    assert sim.linear_cka(x, y) == pytest.approx(float(features), abs=1e-12)


def test_cka_is_canonical_correlations_weighted_by_eigenvalues():
    x, y = map(Representation, related())
    lx, ly = x.singular_values.square(), y.singular_values.square()
    weighted = torch.einsum("i,j,ij->", lx, ly, (x.basis.T @ y.basis).square()) / (lx.norm() * ly.norm())
    assert sim.linear_cka(x, y) == pytest.approx(float(weighted), abs=1e-12)


def test_independent_gaussians_have_the_similarity_that_chance_gives():
    n, p = 400, 100
    pairs = [(Representation(draw(n, p, seed=s)), Representation(draw(n, p, seed=s + 100))) for s in range(6)]
    assert np.mean([sim.cca_r2(*pair) for pair in pairs]) == pytest.approx(p / (n - 1), rel=0.03)
    assert np.mean([sim.linear_cka(*pair) for pair in pairs]) == pytest.approx(p / (n + p), rel=0.03)
    assert np.mean([sim.regression_r2(*pair) for pair in pairs]) == pytest.approx(p / (n - 1), rel=0.03)
    assert abs(np.mean([unbiased_cka(*pair) for pair in pairs])) < 0.01


def test_the_cca_family_is_constant_once_there_are_as_many_units_as_inputs_and_cka_is_not():
    a, b, c = (Representation(t) for t in (draw(20, 25), draw(20, 30, seed=1) ** 3, torch.cat([draw(20, 25)] * 2, 1)))
    for index in (sim.cca_r2, sim.cca_mean, sim.pwcca, sim.regression_r2):
        assert [index(a, b), index(a, c), index(b, c)] == pytest.approx([1, 1, 1], abs=1e-9)
    assert sim.linear_cka(a, c) - sim.linear_cka(a, b) > 0.3


def test_canonical_correlations_are_cosines_of_scipys_subspace_angles_and_scikit_learns_cca():
    x, y = related()
    rho = sim.canonical_correlations(Representation(x), Representation(y)).numpy()
    centred = [(t - t.mean(0)).numpy() for t in (x, y)]
    angles = scipy.linalg.subspace_angles(*centred)
    np.testing.assert_allclose(rho, np.sort(np.cos(angles))[::-1], atol=1e-10)
    scores = CCA(n_components=1, scale=False, tol=1e-12, max_iter=10_000).fit_transform(*centred)
    assert np.corrcoef(scores[0][:, 0], scores[1][:, 0])[0, 1] == pytest.approx(rho[0], abs=1e-6)
    assert sim.cca_mean(Representation(x), Representation(y)) == pytest.approx(rho.mean())
    assert sim.cca_r2(Representation(x), Representation(y)) == pytest.approx((rho**2).mean())


@pytest.mark.parametrize(("p", "q"), [(6, 9), (9, 6), (12, 12)])
def test_spaces_that_hold_one_another_need_no_decomposition_and_have_that_of_lapack(p, q, monkeypatch):
    whole = draw(13, max(p, q), seed=2)
    x, y = (Representation(whole[:, :k] @ draw(k, k, seed=k)) for k in (p, q))
    u, rho, v = pair(x, y).svd
    with monkeypatch.context() as without:
        without.setattr(torch.linalg, "svd", None)  # not asked
        without.setattr(torch.linalg, "svdvals", None)
        assert pair(y, x).nested and torch.equal(pair(y, x).correlations, rho)
    overlap = x.basis.T @ y.basis
    assert torch.allclose(u * rho @ v.T, overlap, rtol=0, atol=1e-12)
    assert torch.allclose(torch.linalg.svdvals(overlap), rho, rtol=0, atol=1e-12)
    for side in (u, v):
        assert torch.allclose(side.T @ side, torch.eye(min(p, q)).double(), rtol=0, atol=1e-12)


def test_a_space_that_sticks_out_by_a_ten_thousandth_is_decomposed():
    x = draw(20, 5)
    found = pair(Representation(x), Representation(x + 1e-4 * draw(20, 5, seed=1)))
    assert not found.nested
    assert 1 - 1e-6 < found.correlations.min() < 1 - 1e-10


def test_regression_r2_is_scikit_learns_weighted_by_the_units_variance():
    x, y = related()
    fitted = LinearRegression().fit(y.numpy(), x.numpy())
    weighted = r2_score(x.numpy(), fitted.predict(y.numpy()), multioutput="variance_weighted")
    assert sim.regression_r2(Representation(x), Representation(y)) == pytest.approx(weighted, abs=1e-10)


def test_procrustes_matches_scipys_disparity():
    x, y = draw(30, 6), draw(30, 6, seed=1) + draw(30, 6)
    _, _, disparity = scipy.spatial.procrustes(x.numpy(), y.numpy())
    assert 1 - sim.procrustes(Representation(x), Representation(y)) ** 2 == pytest.approx(disparity, abs=1e-10)


def test_procrustes_distance_is_what_the_best_rotation_leaves():
    x, y = (Representation(t).x for t in (draw(30, 6), draw(30, 6, seed=1) + draw(30, 6)))
    x, y = x / x.norm(), y / y.norm()
    turn, _ = scipy.linalg.orthogonal_procrustes(x.numpy(), y.numpy())
    left = np.linalg.norm(x.numpy() @ turn - y.numpy()) ** 2
    assert 2 - 2 * sim.procrustes(Representation(x), Representation(y)) == pytest.approx(left, abs=1e-10)


def test_svcca_keeps_the_directions_of_the_variance_asked_for():
    x = Representation(draw(500, 5) * torch.tensor([10, 5, 1, 0.1, 0.01]).double())
    share = (x.singular_values**2).cumsum(0) / (x.singular_values**2).sum()
    kept = x.directions_for(0.99)
    assert share[kept - 1] >= 0.99 > share[kept - 2]
    assert x.directions_for(1.0) == 5
    assert x.truncated(0.99) is x.truncated(0.99), "one truncation serves all pairs"
    noisy = torch.cat([draw(500, 5, seed=3), 1e-3 * draw(500, 20, seed=4)], 1)
    same = torch.cat([draw(500, 5, seed=3), 1e-3 * draw(500, 20, seed=5)], 1)
    a, b = Representation(noisy), Representation(same)
    assert sim.svcca_mean(a, b) > 0.999 and sim.cca_mean(a, b) < 0.5


def signal_and_noise(k: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """k shared signal directions, rotated in the second, noise of deviation 0.1 in the other 200 - k neurons."""
    s = draw(2000, k, seed=seed)
    x, y = (0.1 * draw(2000, 200 - k, seed=seed + i) for i in (1, 2))
    return torch.cat([s, x], 1), torch.cat([s @ rotation(k, seed + 3), y], 1)


@pytest.mark.parametrize(("k", "mean", "weighted"), [(50, 0.572, 0.251), (100, 0.402, 0.070), (140, 0.254, 0.022)])
def test_pwcca_discounts_noise_directions_by_the_reference_amount(k, mean, weighted):
    x, y = map(Representation, signal_and_noise(k, seed=7))
    assert 1 - sim.cca_mean(x, y) == pytest.approx(mean, abs=0.01)
    assert 1 - sim.pwcca(x, y) == pytest.approx(weighted, abs=0.02)


def test_pwcca_weights_are_projections_of_neurons_on_canonical_variates():
    x, y = (Representation(t) for t in related())
    variates = []  # canonical variates of X through the generalised eigenproblem, not through our SVD
    sxx, syy, sxy = x.x.T @ x.x, y.x.T @ y.x, x.x.T @ y.x
    values, vectors = scipy.linalg.eigh((sxy @ torch.linalg.solve(syy, sxy.T)).numpy(), sxx.numpy())
    for i in np.argsort(values)[::-1][:6]:
        h = x.x @ torch.as_tensor(vectors[:, i].copy())
        variates.append(h / h.norm())
    rho = np.sqrt(np.sort(values)[::-1][:6])
    alpha = np.array([float((h @ x.x).abs().sum()) for h in variates])
    assert sim.pwcca(x, y) == pytest.approx((alpha * rho).sum() / alpha.sum(), abs=1e-8)


def test_a_dead_layer_resembles_nothing():
    dead, alive = Representation(torch.zeros(20, 4)), Representation(draw(20, 4))
    for name in ("linear_cka", "cca_r2", "cca_mean", "svcca_r2", "pwcca", "procrustes", "regression_r2"):
        assert INDICES[name](dead, alive) == 0, name
        assert INDICES[name](alive, dead) == 0, name


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [7, 597])
def test_a_layer_that_never_varies_is_dead_whatever_the_round_off_of_its_mean(precision, n):
    constant = Representation(torch.full((n, 3), 0.3, dtype=precision))
    assert constant.rank == 0 and sim.linear_cka(constant, constant) == 0 == sim.cca_mean(constant, constant)
    partly = torch.cat([draw(n, 2).to(precision), torch.full((n, 1), -1e3, dtype=precision)], 1)
    assert Representation(partly).rank == 2


def test_rank_ignores_directions_below_the_precision_that_activations_came_in():
    x = draw(100, 5)
    doubled = torch.cat([x, x @ draw(5, 5, seed=1)], 1)
    assert Representation(doubled).rank == 5
    assert Representation(doubled.float()).rank == 5
    assert Representation(doubled.float(), tolerance=1e-12).rank == 10  # round-off taken for signal


def test_different_probe_sets_and_broken_activations_are_refused():
    with pytest.raises(ValueError, match="20 and 30 inputs"):
        sim.linear_cka(Representation(draw(20, 3)), Representation(draw(30, 3)))
    broken = draw(20, 3)
    broken[4, 1] = torch.nan
    with pytest.raises(ValueError, match="1 of 20 inputs"):
        Representation(broken)
    with pytest.raises(ValueError, match="at least 4 inputs, got 3"):
        Representation(draw(3, 3))


def test_images_are_flattened_not_averaged():
    maps = draw(20, 2, 3, 3)
    assert Representation(maps).p == 18


def test_what_a_pair_remembers_does_not_depend_on_the_index_that_came_first():
    first, second = ([Representation(draw(30, p, seed=p + s)) for p in (4, 6, 5)] for s in (0, 50))
    for names in (list(INDICES), list(INDICES)[::-1]):
        for x, y in itertools.product(first, second):
            for name in names:
                for a, b in ((x, y), (y, x)):
                    alone = INDICES[name](Representation(a.x), Representation(b.x))
                    assert INDICES[name](a, b) == pytest.approx(alone, abs=1e-12), name


def test_a_layer_is_identified_if_the_corresponding_one_is_most_similar_and_ties_share_the_point():
    matrix = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.3, 0.1], [0.5, 0.2, 0.5]])
    assert sim.identification(matrix) == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert sim.identification(torch.ones(5, 5)) == pytest.approx(1 / 5)
    nearly = torch.ones(5, 5, dtype=torch.float64) + 1e-12 * draw(5, 5)
    assert float(sim.identification(nearly)) == pytest.approx(1 / 5)
    assert sim.identification(torch.stack([torch.eye(4), torch.eye(4).flip(0)])).tolist() == [1, 0]
    with pytest.raises(ValueError, match="NaN"):
        sim.identification(torch.full((2, 2), torch.nan))
    with pytest.raises(ValueError, match="2 x 3"):
        sim.identification(torch.ones(2, 3))
