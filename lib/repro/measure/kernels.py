"""Centred kernel alignment with other kernels and estimators: RBF, unbiased HSIC, minibatches.

Kernel form (Kornblith et al. 2019, eq. 3): HSIC(K, L) = tr(KHLH) / (n - 1)^2 with H = I - 11'/n. Unbiased form: Song et
al. (2012, eq. 5).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from repro.measure.representation import Representation, check_pair, cross_product


def hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741 - K and L are the paper's symbols
    """Biased HSIC tr(KHLH) / (n - 1)^2 of two kernel matrices [n, n]."""
    return (centre(k) * l).sum() / (len(k) - 1) ** 2


def unbiased_hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    """Unbiased HSIC of two kernel matrices [n, n] (Song et al. 2012): 0 on average for independent samples; may be
    negative.

    Invariant to centring. Raises ValueError for n < 4.
    """
    n = len(k)
    if n < 4:
        raise ValueError(f"unbiased HSIC needs at least 4 inputs, got {n}")
    k, l = (m - torch.diag(m.diagonal()) for m in (k, l))  # noqa: E741
    rows_k, rows_l = k.sum(1), l.sum(1)
    trace = (k * l).sum()
    pairs = rows_k.sum() * rows_l.sum() / ((n - 1) * (n - 2))
    triples = 2 / (n - 2) * rows_k.dot(rows_l)
    return (trace + pairs - triples) / (n * (n - 3))


def centre(k: Tensor) -> Tensor:
    """HKH for a kernel matrix [n, n]."""
    return k - k.mean(0) - k.mean(1, keepdim=True) + k.mean()


def rbf_kernel(x: Representation, fraction: float) -> Tensor:
    """exp(-|a - b|^2 / (2 sigma^2)) [n, n], sigma being ``fraction`` times the median distance between two inputs.

    The median is each representation's own, which makes the kernel invariant to isotropic scaling.
    """
    if not fraction > 0:
        raise ValueError(f"fraction is {fraction}: give a positive share of the median distance")
    above = torch.triu_indices(x.n, x.n, offset=1, device=x.x.device)
    median = x.squared_distances[above[0], above[1]].median()
    if median == 0:
        raise ValueError("the median distance between inputs is 0: an RBF bandwidth cannot be set from it")
    return torch.exp(-x.squared_distances / (2 * fraction**2 * median))


def rbf_cka(x: Representation, y: Representation, fraction: float = 0.4) -> float:
    """CKA with RBF kernels of bandwidth ``fraction`` x median distance (the paper's 0.2, 0.4, 0.8)."""
    check_pair(x, y)
    k, l = (r.remember(("rbf", fraction), lambda r=r: _unit(centre(rbf_kernel(r, fraction)))) for r in (x, y))  # noqa: E741
    return float((k * l).sum())


def unbiased_cka(x: Representation, y: Representation) -> float:
    """Linear CKA with unbiased HSIC: near 0 for independent representations whatever n and p, hence comparable between
    widths. May be negative.
    """
    return _alignment(_linear_unbiased_hsic(x, y), _linear_unbiased_hsic(x, x), _linear_unbiased_hsic(y, y))


def minibatch_cka(x: Tensor, y: Tensor, batch: int, generator: torch.Generator | None = None) -> float:
    """Linear CKA of activations [n, p1] and [n, p2] from minibatches (Nguyen, Raghu and Kornblith 2021): unbiased HSICs
    averaged, then normalised.

    The expected numerator and denominators are those of the whole set. Rows are shuffled with ``generator``, else taken
    in order; the remainder of n / ``batch`` is left out. Raises ValueError unless 4 <= batch <= n.
    """
    n = len(x)
    if not 4 <= batch <= n or len(y) != n:
        raise ValueError(
            f"batch is {batch} for {n} and {len(y)} inputs: give equally many inputs and a batch in [4, {n}]"
        )
    order = torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
    sums = [0.0, 0.0, 0.0]
    for rows in order[: n - n % batch].split(batch):
        a, b = Representation(x[rows]), Representation(y[rows])
        sums = [s + _linear_unbiased_hsic(*pair) for s, pair in zip(sums, ((a, b), (a, a), (b, b)), strict=True)]
    return _alignment(*sums)


def _linear_unbiased_hsic(x: Representation, y: Representation) -> float:
    """``unbiased_hsic`` of two linear kernels, from features: for centred rows K1 = 0, so only ||Y'X||_F^2 and the
    kernels' diagonals are needed.
    """
    n = x.n
    diagonal_x, diagonal_y = x.x.square().sum(1), y.x.square().sum(1)
    trace = cross_product(x, y) - diagonal_x.dot(diagonal_y)
    pairs = diagonal_x.sum() * diagonal_y.sum() / ((n - 1) * (n - 2))
    triples = 2 / (n - 2) * diagonal_x.dot(diagonal_y)
    return float((trace + pairs - triples) / (n * (n - 3)))


def _unit(k: Tensor) -> Tensor:
    return k / k.norm()


def _alignment(cross: float, own_x: float, own_y: float) -> float:
    # An unbiased self-HSIC can come out negative at tiny n, where no alignment is defined.
    return cross / math.sqrt(own_x * own_y) if own_x > 0 and own_y > 0 else math.nan
