"""Neural collapse: how far features and classifiers are from the geometry of class means alone.

Papyan, Han and Donoho (2020) for NC1-NC3; distances to a target frame as in Dang et al. (ICML 2023), who take the
difference of Gram matrices of unit Frobenius norm. Every function takes leading member axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def class_means(features: Tensor, labels: Tensor, classes: int | None = None) -> Tensor:
    """Mean of ``features`` [..., N, d] over each class of ``labels`` [N]: [..., K, d].

    Raises ValueError for a class without examples.
    """
    member = one_hot(labels, -1 if classes is None else classes).to(features)  # [N, K]
    counts = member.sum(0)
    if (counts == 0).any():
        raise ValueError(f"class {int(counts.argmin())} has no examples")
    return member.T @ features / counts[:, None]


def nc1(features: Tensor, labels: Tensor) -> Tensor:
    """Variability within classes against between them, tr(Σ_W Σ_B^+) / K, of ``features`` [..., N, d]: [...].

    Σ_W averages over the N examples, Σ_B over the K class means about the mean of all examples. 0 is full collapse, NaN
    stands for features that are not finite.
    """
    means = class_means(features, labels)
    within = features - means[..., labels, :]
    between = means - features.mean(-2, keepdim=True)
    sigma_w = within.mT @ within / within.shape[-2]
    sigma_b = between.mT @ between / between.shape[-2]
    # Σ_B has rank K - 1: what is beyond is round-off and must not be inverted; NaN would stop all members
    rtol = 1e3 * torch.finfo(features.dtype).eps
    inverse = torch.linalg.pinv(sigma_b.nan_to_num(0.0, 0.0, 0.0), rtol=rtol, hermitian=True)
    return (sigma_w * inverse).sum((-2, -1)) / means.shape[-2]


def frame_distance(gram: Tensor, target: Tensor) -> Tensor:
    """|A/|A| - B/|B||_F for matrices ``gram`` [..., K, K] and a ``target`` frame [..., K, K]: [...] in [0, 2].

    NC2 of class means H [..., K, d]: ``frame_distance(H @ H.mT, etf(K))``; of a classifier W [..., K, d]:
    ``frame_distance(W @ W.mT, ...)``; NC3, their alignment: ``frame_distance(W @ H.mT, ...)``. Lengths are normalised
    away: judge absolute ones by themselves.
    """
    unit = [m / m.norm(dim=(-2, -1), keepdim=True) for m in (gram, target.to(gram))]
    return (unit[0] - unit[1]).norm(dim=(-2, -1))


def etf(classes: int) -> Tensor:
    """Gram matrix of a simplex equiangular tight frame, I - 11'/K, at unit Frobenius norm: [K, K] in float64."""
    if classes < 2:
        raise ValueError(f"classes = {classes}: a simplex has at least 2")
    return (torch.eye(classes, dtype=torch.float64) - 1 / classes) / (classes - 1) ** 0.5


def orthogonal_frame(squared_lengths: Tensor) -> Tensor:
    """Gram matrix of orthogonal vectors with ``squared_lengths`` [..., K] (equal ones: the plain orthogonal frame), at
    unit Frobenius norm: [..., K, K].
    """
    return torch.diag_embed(squared_lengths / squared_lengths.norm(dim=-1, keepdim=True))


def partial_products(weights: Sequence[Tensor]) -> list[Tensor]:
    """For linear layers W_1 ... W_M, each [..., out, in], first layer first: [W_M ... W_1, W_M ... W_2, ..., W_M]."""
    products = [weights[-1]]
    for weight in reversed(weights[:-1]):
        products.insert(0, products[0] @ weight)
    return products


def off_diagonal_share(gram: Tensor) -> Tensor:
    """Largest off-diagonal magnitude of ``gram`` [..., K, K] over its largest diagonal one: [...]; 0 is orthogonality."""
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    return (gram - torch.diag_embed(diagonal)).abs().amax((-2, -1)) / diagonal.abs().amax(-1)
