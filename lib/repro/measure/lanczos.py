"""Block Lanczos with full reorthogonalisation, all members at once, and the extreme eigenpairs it gives.

The projected matrix is the Rayleigh quotient Q H Q' itself, so Ritz values stay right also where a Krylov space is
exhausted and goes on from a random direction (Golub and Van Loan, Matrix Computations, section 10.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from repro.measure.operators import Operator
from repro.rng import generator


class Krylov(NamedTuple):
    """An orthonormal ``basis`` [M, m, P], the operator ``projected`` on it [M, m, m], and the ``coupling`` [M, b, b] of
    its last block to the one that would come next.
    """

    basis: Tensor
    projected: Tensor
    coupling: Tensor


class Eigenpairs(NamedTuple):
    """``values`` [M, k] in the order asked for, orthonormal ``vectors`` [M, k, P], ``residuals`` |Hv - λv| [M, k]."""

    values: Tensor
    vectors: Tensor
    residuals: Tensor


def lanczos(op: Operator, start: Tensor, steps: int) -> Krylov:
    """The Krylov space of ``start`` [M, b, P] (or [M, P]) after ``steps`` block products (at most P // b are taken).

    ``start`` may hold a gradient: span{g, Hg, H^2 g, ...}. Raises ValueError for ``steps`` < 1.
    """
    if steps < 1:
        raise ValueError(f"steps = {steps}: at least one is needed")
    *_, space = _growing(op, start if start.dim() == 3 else start[:, None], steps)
    return space


def top_eigenpairs(
    op: Operator, k: int, which: str = "largest", *, block: int = 1, tol: float = 1e-4, max_products: int | None = None,
    down_to: float | None = None,
) -> Eigenpairs:  # fmt: skip
    """The k extreme eigenpairs of every member.

    Args:
        k: how many; with ``down_to`` the most.
        which: ``largest`` or ``smallest`` (algebraic), or ``magnitude``; the values come in that order.
        block: vectors a step. An eigenvalue of multiplicity m (or m that agree to round-off) needs ``block`` >= m.
        tol: an eigenpair is found when |Hv - λv| <= tol |λ|; the eigenvalue's own error is of second order in it.
        max_products: products with the operator spent at most, by default 20 k + 400.
        down_to: find no more than each member's pairs whose key (λ, -λ or |λ|) is above this share of its first one's,
            and the next. As many come back as the member with the most of them has; further ones of other members
            need not be found: see their residuals.
    Members with non-finite curvature get NaN.
    Raises:
        ValueError: k or block outside 1 ... P, or an unknown ``which``.
        RuntimeError: not found within ``max_products``.
    """
    keys = {"largest": lambda v: v, "smallest": lambda v: -v, "magnitude": torch.Tensor.abs}
    if which not in keys:
        raise ValueError(f"which = {which!r}: allowed are {', '.join(keys)}")
    if not (1 <= k <= op.size and 1 <= block <= op.size):
        raise ValueError(f"k = {k}, block = {block}: allowed are 1 to {op.size}, the number of parameters")
    limit = max_products or 20 * k + 400
    draws = torch.randn(block, op.size, generator=generator(0, "lanczos"), dtype=torch.float64)
    start = draws.to(op.device, op.dtype).expand(op.members, -1, -1)
    check, space = k if down_to is None else min(k, 8), None
    for space in _growing(op, start, max(-(-limit // block), -(-k // block))):
        size = space.projected.shape[1]
        if size >= check or size + block > op.size:
            check = int(1.15 * size) + 1
            found, excess = _ritz(space, k, keys[which], tol, down_to)
            if excess <= 1 or size == op.size:
                return found(space)
    found, excess = _ritz(space, k, keys[which], tol, down_to)
    if excess > 1 and space.projected.shape[1] < op.size - op.size % block:
        raise RuntimeError(
            f"top {k} eigenpairs after {space.projected.shape[1]} products: residual {excess:.3g} times what tol = {tol}"
            " allows; give more max_products, a larger block or a larger tol"
        )
    return found(space)


def _ritz(space: Krylov, k: int, key, tol: float, down_to: float | None):
    """How to assemble the k wanted Ritz pairs, and their largest residual in units of what is allowed."""
    finite = space.projected.isfinite().flatten(1).all(1)
    values, vectors = torch.linalg.eigh(torch.where(finite[:, None, None], space.projected, 0.0))
    keys, order = key(values).sort(dim=1, descending=True)
    above = torch.ones_like(keys, dtype=torch.bool) if down_to is None else keys > down_to * keys[:, :1]
    k = min(k, 1 + int(above.sum(1).max()))
    order, needed = order[:, :k], above.roll(1, 1)[:, :k]
    needed[:, 0] = True
    values = values.gather(1, order)
    vectors = vectors.gather(2, order[:, None].expand(-1, vectors.shape[1], -1))  # [M, m, k]
    block = space.coupling.shape[1]
    residuals = (space.coupling @ vectors[:, -block:]).norm(dim=1)
    floor = 100 * torch.finfo(values.dtype).eps * space.projected.diagonal(dim1=1, dim2=2).abs().amax(1, keepdim=True)
    allowed = torch.maximum(tol * values.abs(), floor).clamp(min=torch.finfo(values.dtype).tiny)
    excess = (residuals / allowed).nan_to_num(0.0)[needed & finite[:, None]]

    def found(space: Krylov) -> Eigenpairs:
        nan = torch.where(finite, 0.0, torch.nan).to(values.dtype)[:, None]
        return Eigenpairs(values + nan, vectors.mT @ space.basis + nan[:, None], residuals + nan)

    return found, float(excess.max()) if excess.numel() else 0.0


def _growing(op: Operator, start: Tensor, steps: int) -> Iterator[Krylov]:
    """The Krylov space after 1, 2, ... block products; views of growing buffers."""
    members, b, size = start.shape
    steps = min(steps, size // b)
    basis, projected = start.new_empty(members, 0, size), start.new_zeros(members, steps * b, steps * b)
    capacity = 0
    block, _ = _orthonormal(start, basis)
    for step in range(steps):
        a, m = step * b, (step + 1) * b
        if m > capacity:  # room for as much again: a search may end long before ``steps``
            capacity = min(steps * b, max(2 * capacity, 32 * b))
            basis = torch.cat([basis[:, :a], start.new_empty(members, capacity - a, size)], 1)
        basis[:, a:m] = block
        q = basis[:, :m]
        w = op(block)
        near = slice(max(0, a - b), m)  # what the recurrence couples to; the rest is round-off, taken out second
        local = w @ q[:, near].mT
        w = w - local @ q[:, near]
        rows = w @ q.mT
        w = w - rows @ q
        rows[:, :, near] += local
        rows[:, :, a:] = 0.5 * (rows[:, :, a:] + rows[:, :, a:].mT)
        projected[:, a:m, :m], projected[:, :m, a:m] = rows, rows.mT
        block, coupling = _orthonormal(w, q, scale=rows.flatten(1).norm(dim=1))
        yield Krylov(q, projected[:, :m, :m], coupling)


def _orthonormal(w: Tensor, q: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Orthonormal rows of ``w`` [M, b, P], which is orthogonal to ``q`` up to round-off of ``scale`` [M], and their
    triangular factor [M, b, b].

    Rows with nothing left (an exhausted Krylov space) become random directions, with 0 in the factor.
    """
    ortho, factor = torch.linalg.qr(w.mT)
    size = factor.diagonal(dim1=1, dim2=2).abs()
    if scale is None:
        scale = size.amax(1)
    room = w.shape[2] - q.shape[1] >= w.shape[1]
    empty = size <= 10 * torch.finfo(w.dtype).eps * scale[:, None]
    factor = factor.masked_fill(empty[:, :, None], 0.0)
    if empty.any() and room:
        draws = torch.randn(w.shape[1:], generator=generator(q.shape[1], "lanczos restart"), dtype=torch.float64)
        ortho = torch.where(empty[:, None], draws.T.to(w), ortho)
    if (size <= 1e-2 * scale[:, None]).any() and room:  # little is left: round-off shows
        for _ in range(2):
            ortho = torch.linalg.qr(ortho - q.mT @ (q @ ortho))[0]
    return ortho.mT, factor
