"""Tasks drawn from Gaussians: XOR clusters, Gaussian classes, a hierarchy of classes. Draws come from the generator
given, and no other.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Clusters(NamedTuple):
    """XOR clusters: inputs ``x`` [n, p], observed labels ``y`` [n] in {-1, +1} (float), ``clean`` labels, ``flipped``
    mask, ``means`` [2, p].
    """

    x: Tensor
    y: Tensor
    clean: Tensor
    flipped: Tensor
    means: Tensor


class Hierarchy(NamedTuple):
    """Classes in groups: inputs ``x`` [n, dim], labels ``y`` [n] in 0 ... supers * classes - 1, ``groups`` [supers *
    classes] of each class, ``means``.
    """

    x: Tensor
    y: Tensor
    groups: Tensor
    means: Tensor


def xor_clusters(
    n: int, p: int, mu: float, flip: float, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Clusters:
    """XOR cluster data (Xu et al. 2024, arXiv 2310.02541): x ~ N(+-mu_k, I_p), k uniform in {1, 2}; the clean label is
    +1 for k = 1 and -1 for 2.

    ``mu`` is the norm of both means. They lie along the first two axes: the noise is isotropic, so no generality is
    lost. Every label is flipped independently with probability ``flip``. Raises ValueError for p < 2, n < 1, mu < 0 or
    flip outside [0, 1].
    """
    if p < 2 or n < 1 or mu < 0 or not 0 <= flip <= 1:
        raise ValueError(f"n, p, mu, flip are {n}, {p}, {mu}, {flip}: give n >= 1, p >= 2, mu >= 0 and flip in [0, 1]")
    means = torch.zeros(2, p, dtype=dtype)
    means[0, 0] = means[1, 1] = mu
    axis = torch.randint(2, (n,), generator=generator)
    side = 2 * torch.randint(2, (n,), generator=generator) - 1
    x = torch.randn(n, p, generator=generator, dtype=dtype)
    x[torch.arange(n), axis] += mu * side
    clean = (1 - 2 * axis).to(dtype)
    flipped = torch.rand(n, generator=generator) < flip
    return Clusters(x, torch.where(flipped, -clean, clean), clean, flipped, means)


def gaussian_classes(
    n: int, dim: int, classes: int, separation: float, generator: torch.Generator, noise: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Isotropic Gaussian classes: inputs [n, dim], labels [n] (balanced, shuffled) and class means [classes, dim].

    Means are random directions of norm ``separation``; ``noise`` is the standard deviation along each axis.
    """
    means = _sphere(classes, dim, separation, generator)
    y = _balanced(n, classes, generator)
    return means[y] + noise * torch.randn(n, dim, generator=generator), y, means


def hierarchy(
    n: int,
    generator: torch.Generator,
    supers: int = 4,
    classes: int = 4,
    dim: int = 40,
    super_norm: float = 2.0,
    class_norm: float = 1.0,
    noise: float = 0.3,
) -> Hierarchy:
    """``classes`` classes in each of ``supers`` groups: x = group mean + class offset + noise.

    Group means and offsets are random directions of norms ``super_norm`` and ``class_norm``; labels are balanced and
    shuffled.
    """
    groups = torch.arange(supers).repeat_interleave(classes)
    means = _sphere(supers, dim, super_norm, generator)[groups] + _sphere(supers * classes, dim, class_norm, generator)
    y = _balanced(n, supers * classes, generator)
    return Hierarchy(means[y] + noise * torch.randn(n, dim, generator=generator), y, groups, means)


def _sphere(count: int, dim: int, norm: float, generator: torch.Generator) -> Tensor:
    return norm * torch.nn.functional.normalize(torch.randn(count, dim, generator=generator), dim=1)


def _balanced(n: int, classes: int, generator: torch.Generator) -> Tensor:
    if n < classes:
        raise ValueError(f"n is {n}: {classes} classes need at least {classes} examples")
    return (torch.arange(n) % classes)[torch.randperm(n, generator=generator)]
