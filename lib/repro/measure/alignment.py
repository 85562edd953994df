"""Similarities between many representations at once: one matrix product instead of a loop over pairs.

Linear CKA, the mean squared canonical correlation and the R^2 of a regression are all inner products of two n x n
matrices, the centred Gram matrix K = XX' or the projector P = QQ' on a layer's column space.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from repro.measure.representation import Representation


def pairwise_cka(activations: Sequence[Tensor], unbiased: bool = False) -> Tensor:
    """Linear CKA of every two of R layers' activations, each [n, ...] on the same n inputs: [R, R] in float64.

    CKA is the cosine of the angle between two centred Gram matrices (Cortes, Mohri and Rostamizadeh 2012), so R of
    them, normalised, give all R^2 values as one product. ``unbiased`` takes the unbiased HSIC (Song et al. 2012), whose
    Gram matrices are U-centred (Szekely and Rizzo 2014). A layer without variance resembles nothing: 0. Memory: R n^2
    numbers. Raises ValueError for different numbers of inputs, fewer than 4 of them, or values that are not finite.
    """
    sizes = sorted({len(x) for x in activations})
    if len(sizes) != 1:
        raise ValueError(f"layers of {sizes} inputs: give one probe set to all")
    flat = torch.empty(len(activations), sizes[0] ** 2, dtype=torch.float64, device=activations[0].device)
    for row, x in zip(flat, activations, strict=True):
        _gram(x, unbiased, out=row.view(sizes[0], sizes[0]))
    norms = torch.linalg.vector_norm(flat, dim=1).clamp(min=torch.finfo(torch.float64).tiny)
    return flat @ flat.T / norms / norms[:, None]


def pairwise_cca(layers: Sequence[Representation]) -> Tensor:
    """``cca_r2`` of every two of R layers, ||Q_X'Q_Y||_F^2 / min(rank) with ||Q_X'Q_Y||_F^2 = tr(P_X P_Y): [R, R].

    ``svcca_r2`` is that of ``[layer.truncated() for layer in layers]``. A layer without variance resembles nothing: 0.
    Memory: R n^2 numbers.
    """
    projectors = _products([layer.basis for layer in layers])
    ranks = torch.tensor([layer.rank for layer in layers], device=projectors.device)
    return (projectors @ projectors.T) / torch.minimum(ranks[:, None], ranks).clamp(min=1)


def pairwise_regression(layers: Sequence[Representation]) -> Tensor:
    """``regression_r2`` of every two of R layers, tr(P_Y K_X) / tr(K_X), the share of the row's variance that the
    column explains: [R, R]. A row without variance is 0. Memory: R n^2 numbers.
    """
    grams = _products([layer.x for layer in layers])
    variance = torch.stack([layer.x.square().sum() for layer in layers])
    bases = [layer.basis for layer in layers]
    explained = torch.cat([grams @ _products(bases[i : i + 8]).T for i in range(0, len(bases), 8)], 1)
    return explained / variance.clamp(min=torch.finfo(torch.float64).tiny)[:, None]


def _products(factors: Sequence[Tensor]) -> Tensor:
    """A A' of each factor [n, k], flattened: [R, n^2]."""
    n = len(factors[0])
    products = torch.empty(len(factors), n, n, dtype=factors[0].dtype, device=factors[0].device)
    for product, factor in zip(products, factors, strict=True):
        torch.mm(factor, factor.T, out=product)
    return products.flatten(1)


def _gram(x: Tensor, unbiased: bool, out: Tensor) -> None:
    """Centred or U-centred linear Gram matrix of activations [n, ...], written to ``out`` [n, n]."""
    x = x.detach().flatten(1).to(torch.float64)
    n, mean = len(x), x.mean(0)  # the mean is finite only where every number is
    if n < 4 or not mean.isfinite().all():
        raise ValueError(f"activations of {n} inputs: give at least 4, all finite")
    x = x - mean
    torch.mm(x, x.T, out=out)
    if unbiased:
        rows = out.fill_diagonal_(0).sum(1)
        shift = rows / (n - 2) - rows.sum() / (2 * (n - 1) * (n - 2))
        out.sub_(shift).sub_(shift[:, None]).fill_diagonal_(0)
