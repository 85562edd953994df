"""Similarity of two representations of the same inputs, in the notation of Kornblith et al. (2019, arXiv 1905.00414).

X in R^{n x p1} and Y in R^{n x p2}: centred, rows are the same inputs in the same order. Q_X is an orthonormal basis of
X's column space. Every index takes two ``Representation``s and returns a float; kernels (RBF, unbiased, minibatch) are
in ``repro.measure.kernels``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from repro.measure.representation import Representation, cross_product, pair

Index = Callable[[Representation, Representation], float]


def linear_cka(x: Representation, y: Representation) -> float:
    """Linear centred kernel alignment ||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F), in [0, 1].

    Invariant to rotations and isotropic scaling. Biased upwards: for independent Gaussians it is near sqrt(p1 p2 / ((n
    + p1)(n + p2))). Uses p x p products where they are smaller than n x n ones, so that memory stays O(n (p1 + p2)) for
    n > p.
    """
    return _ratio(cross_product(x, y), x.self_product * y.self_product)


def linear_hsic(x: Representation, y: Representation) -> float:
    """Hilbert-Schmidt independence criterion with linear kernels, ||Y'X||_F^2 / (n - 1)^2: not normalised, so it grows
    with the layer's scale.
    """
    return float(cross_product(x, y)) / (x.n - 1) ** 2


def regression_r2(x: Representation, y: Representation) -> float:
    """Share of X's variance that a linear regression on Y explains, ||Q_Y' X||_F^2 / ||X||_F^2. Not symmetric."""
    return _ratio((x.singular_values.unsqueeze(1) * pair(x, y).overlap).square().sum(), x.x.square().sum())


def cca_r2(x: Representation, y: Representation) -> float:
    """Mean squared canonical correlation ||Q_Y' Q_X||_F^2 / min(rank): for independent Gaussians of equal width p/(n -
    1) on average.
    """
    return _ratio(pair(x, y).overlap.square().sum(), torch.tensor(float(min(x.rank, y.rank))))


def cca_mean(x: Representation, y: Representation) -> float:
    """Mean canonical correlation ||Q_Y' Q_X||_* / min(rank)."""
    return float(canonical_correlations(x, y).mean().nan_to_num())


def svcca_r2(x: Representation, y: Representation, variance: float = 0.99) -> float:
    """``cca_r2`` on the principal directions that keep a share ``variance`` of each representation's variance (Raghu et
    al. 2017).
    """
    return cca_r2(_cut(x, variance), _cut(y, variance))


def svcca_mean(x: Representation, y: Representation, variance: float = 0.99) -> float:
    """``cca_mean`` on the principal directions that keep a share ``variance`` of each representation's variance (Raghu
    et al. 2017).
    """
    return cca_mean(_cut(x, variance), _cut(y, variance))


def pwcca(x: Representation, y: Representation) -> float:
    """Projection-weighted CCA (Morcos, Raghu and Bengio 2018): sum_i alpha_i rho_i, with the first argument's weights.
    Not symmetric.

    alpha_i is proportional to sum_j |<h_i, z_j>| over the centred neurons z_j of X, h_i being the canonical variates of
    X.
    """
    if pair(x, y).nested:
        return 1.0  # a mean of ones, however weighted
    u, rho, _ = pair(x, y).svd
    weights = (u.T @ x.loadings).abs().sum(1)  # the variates h = Q_X U are orthonormal, and h'Z = U' Q_X' X
    return _ratio((weights * rho).sum(), weights.sum())


def procrustes(x: Representation, y: Representation) -> float:
    """Similarity after the best rotation, ||X'Y||_* / (||X||_F ||Y||_F), in [0, 1].

    With unit Frobenius norms the orthogonal Procrustes distance is 2 - 2s (Ding et al. 2021), and SciPy's disparity,
    which also scales, 1 - s^2.
    """
    # ||X'Y||_* from the coordinates in each column space: rank x rank instead of p x p.
    small = pair(x, y).overlap * x.singular_values.unsqueeze(1) * y.singular_values
    return _ratio(torch.linalg.matrix_norm(small, "nuc"), x.x.norm() * y.x.norm())


def canonical_correlations(x: Representation, y: Representation) -> Tensor:
    """Canonical correlations rho [min(rank)], largest first: the singular values of Q_Y' Q_X."""
    return pair(x, y).correlations


def identification(similarity: Tensor, tolerance: float = 1e-9) -> Tensor:
    """Share of layers whose most similar layer of the other network is the corresponding one, for matrices [..., L, L]:
    [...].

    A maximum shared by k layers (within ``tolerance``, relative) scores 1/k if the corresponding layer is among them:
    chance is 1/L even where an index is constant, while taking the first of the tied would score whatever the order of
    layers happens to give. Raises ValueError for matrices that are not square or hold NaN.
    """
    if similarity.shape[-1] != similarity.shape[-2]:
        raise ValueError(
            f"similarity is {similarity.shape[-2]} x {similarity.shape[-1]}: corresponding layers need a square matrix"
        )
    if similarity.isnan().any():
        raise ValueError("similarity holds NaN: which layer is the most similar is not defined")
    best = similarity.amax(-1, keepdim=True)
    tied = similarity >= best - tolerance * best.abs()
    hit = tied.diagonal(dim1=-2, dim2=-1)
    return (hit.to(similarity.dtype) / tied.sum(-1)).mean(-1)


def _cut(x: Representation, variance: float) -> Representation:
    return x.truncated(variance) if x.rank else x


def _ratio(numerator: Tensor, denominator: Tensor) -> float:
    """A layer without variance (all units dead) resembles nothing: 0, not NaN."""
    return float(numerator / denominator) if denominator > 0 else 0.0
