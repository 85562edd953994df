"""Parameters of a stack as one vector a member, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from repro.train import Stack


def split(vectors: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Vectors [..., P] as tensors of these ``shapes`` by name, each [..., *shape].

    Raises ValueError where P is not the sum of their sizes.
    """
    sizes = [shape.numel() for shape in shapes.values()]
    if vectors.shape[-1] != sum(sizes):
        raise ValueError(f"vectors of length {vectors.shape[-1]}: a member has {sum(sizes)} parameters")
    parts = vectors.split(sizes, dim=-1)
    return {
        name: part.reshape(*vectors.shape[:-1], *shape)
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


def unflatten(nets: Stack, vectors: Tensor) -> dict[str, Tensor]:
    """Vectors [M, ..., P] in the order of ``nets.flat()`` as tensors by parameter name, each [M, ..., *shape]."""
    return split(vectors, {name: p.shape[1:] for name, p in nets.params.items()})


def flatten(tensors: Mapping[str, Tensor], leading: int = 1) -> Tensor:
    """The inverse of :func:`unflatten`: tensors with ``leading`` axes in front of the parameter's own, [M, ..., P]."""
    return torch.cat([t.flatten(leading) for t in tensors.values()], dim=-1)


def at(nets: Stack, vectors: Tensor) -> Stack:
    """A copy of ``nets`` whose parameters are ``vectors`` [M, P]; buffers stay."""
    moved = nets.copy()
    moved.load(unflatten(nets, vectors))
    return moved
