"""Losses on segments, triangles, simplices and random balls in the parameter space of a stack of networks.

Points are vectors in the order of ``nets.flat()``, one a member; a path is any sequence of them. Networks with batch
norm keep their buffers: give :func:`evaluate` a measure that first calls ``repro.train.batchnorm.refresh_batchnorm``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from repro.measure.flat import unflatten
from repro.rng import Streams

if TYPE_CHECKING:
    from repro.train import Along, Stack

Loss = Callable[[Tensor, Tensor], Tensor]


def evaluate(nets: Stack, points: Iterable[Tensor], measure: Callable[[Stack], Tensor]) -> Tensor:
    """``measure(networks)`` [M, ...] with the members' parameters at each of T ``points`` [M, P]: [M, T, ...]."""
    moved, found = nets.copy(), []
    for point in points:
        moved.load(unflatten(nets, point))
        found.append(measure(moved))
    return torch.stack(found, 1)


def losses_at(
    nets: Stack, points: Iterable[Tensor], loss: Loss, x: Tensor | Along, y: Tensor | Along, batch: int | None = None
) -> Tensor:
    """Each member's loss (or accuracy: any function of outputs and targets) over (x, y) at T ``points``: [M, T].

    x, y are shared or ``along(...)``, as for ``fit``, ``batch`` as for ``Stack.predict``; evaluation mode.
    """
    each = not isinstance(x, Tensor)
    inputs = x.of(nets) if each else x
    targets = y.to(nets.device).expand(nets.members, *y.shape) if isinstance(y, Tensor) else y.of(nets)
    return evaluate(nets, points, lambda at: loss(at.predict(inputs, batch, each), targets).detach())


def mixtures(vertices: Tensor, weights: Tensor) -> Iterator[Tensor]:
    """The points sum_i w_i θ_i for ``vertices`` θ [M, m, P] and T rows of ``weights`` [T, m]: T times [M, P]."""
    for row in weights.to(vertices):
        yield torch.einsum("v,mvp->mp", row, vertices)


def segment(points: int) -> Tensor:
    """Weights of ``points`` equally spaced mixtures of two vertices, from the first to the second: [points, 2]."""
    if points < 2:
        raise ValueError(f"points = {points}: a segment has at least its 2 ends")
    t = torch.linspace(0, 1, points, dtype=torch.float64)
    return torch.stack([1 - t, t], 1)


def simplex_grid(vertices: int, divisions: int) -> Tensor:
    """Barycentric weights of the regular grid on a simplex whose edges are cut into ``divisions``: [T, vertices].

    ``simplex_grid(3, 6)`` has the 28 points of a triangle. Raises ValueError unless both are at least 1.
    """
    if vertices < 1 or divisions < 1:
        raise ValueError(f"vertices = {vertices}, divisions = {divisions}: both must be at least 1")
    bars = itertools.combinations(range(divisions + vertices - 1), vertices - 1)
    edges = torch.tensor([[-1, *bar, divisions + vertices - 1] for bar in bars], dtype=torch.float64)
    return (edges.diff(dim=1) - 1) / divisions


def barrier(losses: Tensor, over: str = "ends") -> Tensor:
    """Height of a path above what it connects, from ``losses`` [..., T] at equally spaced points: [...].

    ``over="ends"``: the maximum less the higher end, 0 where nothing rises. ``over="chord"``: the largest excess over
    the straight line between the end losses (Frankle et al. 2020), which also sees a bump on a slope.
    """
    if over not in ("ends", "chord"):
        raise ValueError(f"over = {over!r}: allowed are ends, chord")
    first, last = losses[..., :1], losses[..., -1:]
    t = torch.linspace(0, 1, losses.shape[-1], dtype=losses.dtype, device=losses.device)
    base = torch.maximum(first, last) if over == "ends" else first + t * (last - first)
    return (losses - base).amax(-1)


def perturbations(nets: Stack, radius: float, streams: Streams, count: int, relative: bool = True) -> Iterator[Tensor]:
    """``count`` points at distance ``radius`` (with ``relative``: times the norm of the parameters) in random
    directions, uniform on the sphere: [M, P] each.
    """
    point = nets.flat()
    reach = radius * (point.norm(dim=1, keepdim=True) if relative else 1.0)
    for _ in range(count):
        direction = streams.normal(point.shape[1], dtype=point.dtype).to(point.device)
        yield point + reach * direction / direction.norm(dim=1, keepdim=True)


def tunnel_rise(
    nets: Stack, radius: float, streams: Streams, loss: Loss, x: Tensor | Along, y: Tensor | Along, *,
    count: int = 10, relative: bool = True,
) -> Tensor:  # fmt: skip
    """Mean rise of each member's loss under random perturbations of ``radius``: [M]; the wider the low-loss tunnel, the
    smaller. Compare members at equal loss; ``relative`` because L2 penalties shrink the parameters themselves.
    """
    at_rest = losses_at(nets, [nets.flat()], loss, x, y)
    moved = losses_at(nets, perturbations(nets, radius, streams, count, relative), loss, x, y)
    return (moved - at_rest).mean(1)
