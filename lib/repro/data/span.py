"""XOR clusters in p dimensions, drawn and trained on in n + 2: exactly, and at a cost that p does not enter.

Gradient descent on a first layer never leaves its start plus the span of the inputs. Rotate the n noise vectors onto
their first n axes: their coordinates are the lower triangular L of the QR decomposition, and for Gaussian noise in d
dimensions L is drawn directly (Bartlett 1933): L_ij ~ N(0, 1) below the diagonal, L_ii^2 ~ chi^2(d - i), i = 0, 1 ...
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class SpanClusters(NamedTuple):
    """Training set: ``x`` [n, n+2] (two signal coordinates, then noise), ``y``, ``clean`` [n] in {-1, +1}, ``flipped`` [n]."""

    x: Tensor
    y: Tensor
    clean: Tensor
    flipped: Tensor


class SpanPoints(NamedTuple):
    """Fresh points: ``x`` [N, n+2] and ``clean`` [N] as above; ``outside`` [N, N] are their coordinates outside of the
    span of the training set, which meet only a network's initial weights.
    """

    x: Tensor
    clean: Tensor
    outside: Tensor


def bartlett(rows: int, dim: int, generator: torch.Generator) -> Tensor:
    """Lower triangular L [rows, rows] with L L^T distributed as Z Z^T for Z [rows, dim] of standard normals.

    Raises ValueError unless 1 <= rows <= dim.
    """
    if not 1 <= rows <= dim:
        raise ValueError(f"rows is {rows} in {dim} dimensions: give 1 to {dim}")
    lower = torch.randn(rows, rows, generator=generator, dtype=torch.float64).tril(-1)
    numpy = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))  # torch draws no chi-squared
    lower.diagonal().copy_(torch.from_numpy(np.sqrt(numpy.chisquare(dim - np.arange(rows)))))
    return lower.float()


def xor_clusters_in_span(n: int, p: int, mu: float, flip: float, generator: torch.Generator) -> SpanClusters:
    """n points x ~ N(+-mu_k, I_p) with |mu_1| = |mu_2| = ``mu``, mu_1 orthogonal to mu_2; labels +1 for +-mu_1, -1 for
    +-mu_2, each flipped with probability ``flip`` (Xu et al. 2024, arXiv 2310.02541).

    Raises ValueError unless p >= n + 2, mu >= 0 and flip is in [0, 1].
    """
    if mu < 0 or not 0 <= flip <= 1 or p < n + 2:
        raise ValueError(f"p, mu, flip are {p}, {mu}, {flip} for n = {n}: give p >= n + 2, mu >= 0 and flip in [0, 1]")
    signal, clean = _signal(n, mu, generator)
    flipped = torch.rand(n, generator=generator) < flip
    x = torch.cat([signal, bartlett(n, p - 2, generator)], dim=1)
    return SpanClusters(x, torch.where(flipped, -clean, clean), clean, flipped)


def xor_points_in_span(count: int, n: int, p: int, mu: float, generator: torch.Generator) -> SpanPoints:
    """``count`` fresh points of the same clusters, in the coordinates of a training set of ``n``."""
    signal, clean = _signal(count, mu, generator)
    x = torch.cat([signal, torch.randn(count, n, generator=generator)], dim=1)
    return SpanPoints(x, clean, bartlett(count, p - 2 - n, generator))


def _signal(n: int, mu: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    axis = torch.randint(2, (n,), generator=generator)
    side = 2.0 * torch.randint(2, (n,), generator=generator) - 1
    signal = torch.randn(n, 2, generator=generator)
    signal[torch.arange(n), axis] += mu * side
    return signal, 1.0 - 2.0 * axis
