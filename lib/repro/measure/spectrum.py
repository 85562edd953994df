"""What is read off eigenvalues and eigenvectors. Every function takes leading axes."""

from __future__ import annotations

import torch
from torch import Tensor


def negative_share(values: Tensor, tol: float = 1e-8) -> Tensor:
    """The index: share of eigenvalues [..., n] below -tol times the largest magnitude: [...]."""
    return (values < -tol * _scale(values)).to(values.dtype).mean(-1)


def positive_share(values: Tensor, tol: float = 1e-8) -> Tensor:
    """Share of eigenvalues [..., n] above tol times the largest magnitude: [...]."""
    return (values > tol * _scale(values)).to(values.dtype).mean(-1)


def near_zero(values: Tensor, fraction: float = 1e-2) -> Tensor:
    """Which eigenvalues [..., n] are below ``fraction`` of the largest in magnitude, as 0/1; its mean is the bulk's
    share.
    """
    return (values.abs() < fraction * values.amax(-1, keepdim=True)).to(values.dtype)


def trace_over_norm(values: Tensor) -> Tensor:
    """Tr H / |H|_F = sum λ / sqrt(sum λ^2) of eigenvalues [..., n]: [...] in [-sqrt n, sqrt n]."""
    scaled = values / _scale(values)  # squares of tiny eigenvalues would underflow
    return scaled.sum(-1) / scaled.norm(dim=-1)


def outliers_by_gap(values: Tensor, lowest: int = 2, highest: int | None = None) -> Tensor:
    """How many eigenvalues stand out: the j in ``lowest`` ... ``highest`` with the largest ratio λ_j / λ_(j+1): [...].

    ``values`` [..., n] in any order; a next value that is 0 or negative counts as round-off of the largest. One
    dominant eigenvalue is common, hence ``lowest`` = 2. Raises ValueError unless 1 <= lowest <= highest < n.
    """
    n = values.shape[-1]
    highest = n - 1 if highest is None else highest
    if not 1 <= lowest <= highest < n:
        raise ValueError(f"lowest = {lowest}, highest = {highest}: need 1 <= lowest <= highest < {n} eigenvalues")
    ordered = values.sort(-1, descending=True).values
    floor = torch.finfo(values.dtype).eps * ordered[..., :1].abs()
    ordered = torch.maximum(ordered, floor)
    return (ordered[..., lowest - 1 : highest] / ordered[..., lowest : highest + 1]).argmax(-1) + lowest


def subspace_overlap(first: Tensor, second: Tensor) -> Tensor:
    """|U V'|_F^2 / k for orthonormal rows U [..., k, P] and V [..., l, P]: [...] in [0, 1]; 1 if V contains U, and k
    random directions give l / P.
    """
    return (first @ second.mT).square().sum((-2, -1)) / first.shape[-2]


def subspace_share(vectors: Tensor, basis: Tensor) -> Tensor:
    """Share of the squared norm of ``vectors`` [..., B, P] that lies in the span of orthonormal ``basis`` rows
    [..., k, P]: [..., B].
    """
    return (vectors @ basis.mT).square().sum(-1) / vectors.square().sum(-1)


def _scale(values: Tensor) -> Tensor:
    return values.abs().amax(-1, keepdim=True)
