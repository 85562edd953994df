"""Similarities between many representations at once: one matrix product instead of a loop over pairs.

CKA, HSIC, the mean squared canonical correlation and the R^2 of a regression are all inner products of two n x n
matrices, the centred Gram matrix K = XX' (or another kernel) or the projector P = QQ' on a layer's column space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from repro.measure.kernels import centre, rbf_kernel
from repro.measure.representation import Representation, centred
from repro.measure.similarity import Index

T = TypeVar("T")
BLOCK = 24 << 20  # bytes


def pairwise(layers: Sequence[Representation], index: Index) -> Tensor:
    """Any index of every two of R layers, row against column: [R, R] in float64.

    For those that are no inner product. The two orders of a pair follow one another, so that they share what
    ``Representation`` remembers of it.
    """
    found = torch.zeros(len(layers), len(layers), dtype=torch.float64)
    for i, x in enumerate(layers):
        for j, y in enumerate(layers[: i + 1]):
            found[i, j], found[j, i] = index(x, y), index(y, x)
    return found


def pairwise_cka(activations: Sequence[Tensor], unbiased: bool = False) -> Tensor:
    """Linear CKA of every two of R layers' activations, each [n, ...] on the same n inputs: [R, R] in float64, computed
    in the activations' own precision (in float32 right to 1e-5, twice as fast).

    CKA is the cosine of the angle between two centred Gram matrices (Cortes, Mohri and Rostamizadeh 2012), so R of
    them, normalised, give all R^2 values as one product. ``unbiased`` takes the unbiased HSIC (Song et al. 2012), whose
    Gram matrices are U-centred (Szekely and Rizzo 2014). A layer without variance resembles nothing: 0. Memory: R n^2 / 2
    numbers. Raises ValueError for different numbers of inputs, fewer than 4 of them, or values that are not finite.
    """
    sizes = sorted({len(x) for x in activations})
    if len(sizes) != 1:
        raise ValueError(f"layers of {sizes} inputs: give one probe set to all")
    return _cosines(_blocks(activations, sizes[0], partial(_gram, unbiased=unbiased), activations[0])).double()


def pairwise_rbf_cka(layers: Sequence[Representation], fraction: float = 0.4) -> Tensor:
    """``rbf_cka`` of every two of R layers: [R, R]. Memory: R n^2 / 2 numbers."""
    kernel = lambda layer, out: out.copy_(centre(rbf_kernel(layer, fraction)))  # noqa: E731
    return _cosines(_blocks(layers, layers[0].n, kernel, layers[0].x))


def pairwise_hsic(layers: Sequence[Representation]) -> Tensor:
    """``linear_hsic`` of every two of R layers: [R, R]. Memory: R n^2 / 2 numbers."""
    grams = list(_products([layer.x for layer in layers]))
    return _inner(grams, grams) / (layers[0].n - 1) ** 2


def pairwise_cca(layers: Sequence[Representation]) -> Tensor:
    """``cca_r2`` of every two of R layers, ||Q_X'Q_Y||_F^2 / min(rank) with ||Q_X'Q_Y||_F^2 = tr(P_X P_Y): [R, R].

    ``svcca_r2`` is that of ``[layer.truncated() for layer in layers]``. A layer without variance resembles nothing: 0.
    Memory: R n^2 / 2 numbers.
    """
    projectors = list(_products([layer.basis for layer in layers]))
    ranks = torch.tensor([layer.rank for layer in layers], device=layers[0].x.device)
    return _inner(projectors, projectors) / torch.minimum(ranks[:, None], ranks).clamp(min=1)


def pairwise_regression(layers: Sequence[Representation]) -> Tensor:
    """``regression_r2`` of every two of R layers, tr(P_Y K_X) / tr(K_X), the share of the row's variance that the
    column explains: [R, R]. A row without variance is 0. Memory: R n^2 / 2 numbers.
    """
    grams = list(_products([layer.x for layer in layers]))
    variance = torch.stack([layer.x.square().sum() for layer in layers])
    explained = _inner(grams, _products([layer.basis for layer in layers]))
    return explained / variance.clamp(min=torch.finfo(torch.float64).tiny)[:, None]


def _blocks(items: Sequence[T], n: int, fill: Callable[[T, Tensor], object], like: Tensor) -> Iterator[Tensor]:
    """One symmetric n x n matrix an item, written by ``fill(item, out)``, as rows whose inner products are those of the
    matrices: the upper triangle, times the root of 2 off the diagonal. In blocks [some, n (n + 1) / 2] of the dtype and
    device of ``like``, of a size that allocators keep for the next call instead of asking the system anew.
    """
    row, column = torch.triu_indices(n, n, device=like.device)
    where, weight = row * n + column, like.new_full(row.shape, 2**0.5).masked_fill_(row == column, 1)
    size, whole = max(1, BLOCK // (len(where) * like.element_size())), like.new_empty(n, n)
    for first in range(0, len(items), size):
        block = like.new_empty(len(items[first : first + size]), len(where))
        for item, out in zip(items[first : first + size], block, strict=True):
            fill(item, whole)
            torch.index_select(whole.view(-1), 0, where, out=out).mul_(weight)
        yield block


def _inner(rows: Sequence[Tensor], columns: Iterable[Tensor]) -> Tensor:
    """Inner products of all rows of some blocks with all rows of others, which are needed one at a time: [R, R]."""
    return torch.cat([torch.cat([a @ b.T for a in rows]) for b in columns], 1)


def _cosines(blocks: Iterable[Tensor]) -> Tensor:
    """Cosines [R, R] of the angles between the blocks' rows, which are normalised in place; 0 for a row of zeros."""
    blocks = list(blocks)
    for rows in blocks:
        rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny))
    return _inner(blocks, blocks)


def _products(factors: Sequence[Tensor]) -> Iterator[Tensor]:
    """A A' of each factor [n, k], in blocks."""
    return _blocks(factors, len(factors[0]), lambda a, out: torch.mm(a, a.T, out=out), factors[0])


def _gram(x: Tensor, out: Tensor, unbiased: bool) -> None:
    """Centred or U-centred linear Gram matrix of activations [n, ...], written to ``out`` [n, n]."""
    n, x = len(x), centred(x.detach().flatten(1))
    if n < 4 or x is None:
        raise ValueError(f"activations of {n} inputs: give at least 4, all finite")
    torch.mm(x, x.T, out=out)
    if unbiased:
        rows = out.fill_diagonal_(0).sum(1)
        shift = rows / (n - 2) - rows.sum() / (2 * (n - 1) * (n - 2))
        out.sub_(shift).sub_(shift[:, None]).fill_diagonal_(0)
