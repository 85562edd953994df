"""Stiffness: does a small gradient step on one example lower the loss on another?

Fort, Nowak, Jastrzebski and Narayanan (arXiv 1901.09491). A step -eps g1 changes the loss on example 2 by -eps g1.g2 +
O(eps^2), hence S_sign = E[sign(g1.g2)] and S_cos = E[cos(g1, g2)] over pairs of distinct examples. Every function takes
leading member axes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot


class Stiffness(NamedTuple):
    """Pairwise stiffness: ``sign`` and ``cosine``, each [..., N1, N2]; NaN where an example has no gradient left."""

    sign: Tensor
    cosine: Tensor


class Profile(NamedTuple):
    """Mean stiffness ``mean`` [..., bins] in equal-count bins of distance, at the bins' mean distances ``distance``
    [..., bins].
    """

    distance: Tensor
    mean: Tensor


class Blocks(NamedTuple):
    """Means of a class matrix [..., C, C] over pairs of classes, each [...]: NaN where there is no such pair."""

    same_class: Tensor
    same_group: Tensor
    other_group: Tensor


def stiffness(gradients1: Tensor, gradients2: Tensor, floor: float = 1e-12) -> Stiffness:
    """Stiffness between two sets of per-example gradients [..., N1, P] and [..., N2, P].

    Examples with a gradient norm below ``floor`` are fitted: their direction is round-off, so their pairs are NaN.
    """
    products = gradients1 @ gradients2.transpose(-1, -2)
    return from_products(products, gradients1.norm(dim=-1), gradients2.norm(dim=-1), floor)


def from_products(products: Tensor, norms1: Tensor, norms2: Tensor, floor: float = 1e-12) -> Stiffness:
    """Stiffness out of inner products [..., N1, N2] and gradient norms [..., N1], [..., N2], as ``gradients.gram``
    gives them.
    """
    alive = (norms1 >= floor).unsqueeze(-1) & (norms2 >= floor).unsqueeze(-2)
    cosine = products / norms1.unsqueeze(-1) / norms2.unsqueeze(-2)
    return Stiffness(products.sign().masked_fill(~alive, torch.nan), cosine.clamp(-1, 1).masked_fill(~alive, torch.nan))


def without_self_pairs(values: Tensor) -> Tensor:
    """Train-train stiffness [..., N, N] with an example's pair with itself (stiffness 1 by definition) taken out as
    NaN.
    """
    n1, n2 = values.shape[-2:]
    if n1 != n2:
        raise ValueError(f"a {n1} x {n2} matrix compares two different sets: it has no self-pairs to take out")
    return values.masked_fill(torch.eye(n1, dtype=torch.bool, device=values.device), torch.nan)


def by_class(values: Tensor, labels1: Tensor, labels2: Tensor, classes: int) -> Tensor:
    """Class stiffness matrix C(a, b) = E[S | X1 in a, X2 in b] out of ``values`` [..., N1, N2] and labels [..., N1],
    [..., N2]: [..., C, C].

    Pairs that are NaN are left out; a pair of classes without any is NaN.
    """
    kept = ~values.isnan()
    members1 = one_hot(labels1.long(), classes).to(torch.float64).transpose(-1, -2)
    members2 = one_hot(labels2.long(), classes).to(torch.float64)
    total = members1 @ values.nan_to_num().to(torch.float64) @ members2
    return total / (members1 @ kept.to(torch.float64) @ members2)


def within_between(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Mean diagonal and mean off-diagonal entry of class matrices [..., C, C], each [...]; classes that are NaN are
    left out.
    """
    diagonal = torch.eye(matrix.shape[-1], dtype=torch.bool, device=matrix.device)
    return _masked_mean(matrix, diagonal), _masked_mean(matrix, ~diagonal)


def block_means(matrix: Tensor, groups: Tensor) -> Blocks:
    """Means of class matrices [..., C, C] within classes, between classes of one group, and between groups; ``groups``
    [C] gives each class's group.
    """
    same = torch.eye(matrix.shape[-1], dtype=torch.bool, device=matrix.device)
    group = groups.unsqueeze(-1) == groups.unsqueeze(-2)
    return Blocks(_masked_mean(matrix, same), _masked_mean(matrix, group & ~same), _masked_mean(matrix, ~group))


def cosine_distance(x1: Tensor, x2: Tensor) -> Tensor:
    """1 - cos(x1, x2) between two sets of inputs [..., N1, d] and [..., N2, d]: [..., N1, N2] in [0, 2]."""
    unit1, unit2 = (torch.nn.functional.normalize(x, dim=-1) for x in (x1, x2))
    return 1 - unit1 @ unit2.transpose(-1, -2)


def profile(values: Tensor, distance: Tensor, bins: int = 20) -> Profile:
    """Mean of ``values`` [..., N1, N2] in ``bins`` equal-count bins of ``distance`` [N1, N2] (or [..., N1, N2]).

    Bins are cut on all pairs, so that all members share them; pairs that are NaN are then left out of the means.
    Raises ValueError with more bins than pairs.
    """
    flat, near = values.flatten(-2), distance.flatten(-2)
    if not 1 <= bins <= flat.shape[-1]:
        raise ValueError(f"bins is {bins}: give a number in [1, {flat.shape[-1]}], the number of pairs")
    order = near.argsort(dim=-1, stable=True)
    flat = flat.gather(-1, order.expand(flat.shape)).tensor_split(bins, dim=-1)
    near = near.gather(-1, order).tensor_split(bins, dim=-1)
    return Profile(torch.stack([b.mean(-1) for b in near], -1), torch.stack([b.nanmean(-1) for b in flat], -1))


def critical_length(profile: Profile) -> Tensor:
    """The distance xi at which a profile first falls through zero, by linear interpolation between bins: [...]; NaN if
    it never does.
    """
    mean = profile.mean
    distance = profile.distance.expand(mean.shape)
    falls = (mean[..., :-1] > 0) & (mean[..., 1:] <= 0)
    left = falls.int().argmax(-1, keepdim=True)
    (m0, m1), (d0, d1) = ((t.gather(-1, left), t.gather(-1, left + 1)) for t in (mean, distance))
    crossing = d0 + (d1 - d0) * m0 / (m0 - m1)
    return torch.where(falls.any(-1), crossing.squeeze(-1), torch.nan)


def slope(profile: Profile) -> Tensor:
    """Least-squares slope of mean stiffness against distance: [...]; bins that are NaN are left out."""
    kept = ~profile.mean.isnan()
    d = profile.distance.expand(profile.mean.shape).masked_fill(~kept, torch.nan)
    d = d - d.nanmean(-1, keepdim=True)
    m = profile.mean - profile.mean.nanmean(-1, keepdim=True)
    return (d * m).nansum(-1) / d.square().nansum(-1)


def _masked_mean(matrix: Tensor, mask: Tensor) -> Tensor:
    return matrix.masked_fill(~mask, torch.nan).flatten(-2).nanmean(-1)
