import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import rbf_kernel as sklearn_rbf

from repro.measure import kernels
from repro.measure.representation import Representation
from repro.measure.similarity import linear_cka


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_rbf_kernel_is_scikit_learns_at_a_share_of_the_median_distance():
    x = Representation(draw(31, 4) + 10)
    sigma = 0.4 * np.median(torch.pdist(x.x).numpy())
    expected = sklearn_rbf(x.x.numpy(), gamma=1 / (2 * sigma**2))
    np.testing.assert_allclose(kernels.rbf_kernel(x, 0.4).numpy(), expected, atol=1e-10)


def test_rbf_cka_is_hsic_over_its_norms():
    x, y = Representation(draw(30, 4)), Representation(draw(30, 4) + 0.5 * draw(30, 4, seed=1))
    k, l = kernels.rbf_kernel(x, 0.8), kernels.rbf_kernel(y, 0.8)  # noqa: E741
    expected = kernels.hsic(k, l) / (kernels.hsic(k, k) * kernels.hsic(l, l)).sqrt()
    assert kernels.rbf_cka(x, y, 0.8) == pytest.approx(float(expected), abs=1e-12)


def test_a_very_wide_rbf_kernel_is_the_linear_one():
    x, y = Representation(draw(30, 4)), Representation(draw(30, 3, seed=1) + draw(30, 4)[:, :3])
    assert kernels.rbf_cka(x, y, 1000.0) == pytest.approx(linear_cka(x, y), abs=1e-5)


def test_biased_hsic_is_the_trace_of_centred_kernels():
    k, l = (t @ t.T for t in (draw(12, 3), draw(12, 5, seed=1)))  # noqa: E741
    h = torch.eye(12, dtype=torch.float64) - 1 / 12
    assert float(kernels.hsic(k, l)) == pytest.approx(float(torch.trace(k @ h @ l @ h)) / 121)
    torch.testing.assert_close(kernels.centre(k), h @ k @ h)


def test_unbiased_hsic_averages_its_kernel_over_all_quadruples():
    n = 6
    k, l = (t @ t.T for t in (draw(n, 3), draw(n, 2, seed=1)))  # noqa: E741
    from itertools import permutations

    quadruples = [k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]) for i, j, q, r in permutations(range(n), 4)]
    assert float(kernels.unbiased_hsic(k, l)) == pytest.approx(float(torch.stack(quadruples).mean()), abs=1e-10)


def test_unbiased_hsic_does_not_mind_centring():
    k, l = (t @ t.T for t in (draw(12, 3) + 3, draw(12, 5, seed=1) - 1))  # noqa: E741
    centred = kernels.unbiased_hsic(kernels.centre(k), kernels.centre(l))
    assert float(kernels.unbiased_hsic(k, l)) == pytest.approx(float(centred), rel=1e-8)


@pytest.mark.parametrize(("n", "p", "q"), [(40, 3, 5), (10, 30, 20)])
def test_unbiased_cka_from_features_is_the_one_from_kernels(n, p, q):
    x, y = draw(n, p), draw(n, q, seed=1) + draw(n, p)[:, :1]
    k, l = x @ x.T, y @ y.T  # noqa: E741
    hsic = kernels.unbiased_hsic
    expected = hsic(k, l) / (hsic(k, k) * hsic(l, l)).sqrt()
    assert kernels.unbiased_cka(Representation(x), Representation(y)) == pytest.approx(float(expected), abs=1e-10)


def test_unbiased_cka_of_independent_wide_layers_is_nought_where_the_biased_one_is_not():
    pairs = [(Representation(draw(50, 200, seed=s)), Representation(draw(50, 200, seed=s + 50))) for s in range(10)]
    assert abs(np.mean([kernels.unbiased_cka(*p) for p in pairs])) < 0.02
    assert np.mean([linear_cka(*p) for p in pairs]) == pytest.approx(200 / 250, rel=0.03)


def test_minibatches_estimate_the_alignment_of_the_whole():
    x = draw(4096, 20)
    y = x @ draw(20, 20, seed=1) + 3 * draw(4096, 20, seed=2)
    whole = kernels.unbiased_cka(Representation(x), Representation(y))
    shuffled = torch.Generator().manual_seed(0)
    assert kernels.minibatch_cka(x, y, 64, shuffled) == pytest.approx(whole, abs=0.01)
    assert kernels.minibatch_cka(x, y, 4096) == pytest.approx(whole, abs=1e-10)
    with pytest.raises(ValueError, match="batch is 3"):
        kernels.minibatch_cka(x, y, 3)


def test_kernels_without_a_scale_and_tiny_samples_are_refused():
    with pytest.raises(ValueError, match="median distance between inputs is 0"):
        kernels.rbf_kernel(Representation(torch.zeros(10, 2)), 0.4)
    with pytest.raises(ValueError, match="fraction is -1"):
        kernels.rbf_kernel(Representation(draw(10, 2)), -1)
    with pytest.raises(ValueError, match="at least 4 inputs, got 3"):
        kernels.unbiased_hsic(torch.eye(3), torch.eye(3))
