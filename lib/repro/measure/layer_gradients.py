"""What is held of every example's gradient in one layer, and the inner products that follow from it.

With the layer's input a and its errors delta = dL/dz, the gradient of one example's loss is

- linear, z = W a + b: the outer product delta a^T in W and delta in b, so that (Goodfellow 2015, arXiv 1510.01799, for
  the norms) g_i . g_j = (a_i . a_j + 1) (delta_i . delta_j) without the gradients: :class:`LinearFactors`;
- convolution: the sum over positions of delta times the patch of a beneath it: :class:`Rows`; where these are many more
  numbers than a and delta, formed when they are needed, for some input channels at a time: :class:`ConvFactors`;
- batch norm in eval mode, z = w (a - mean) / sd + b: sums over positions of delta (a - mean) / sd, and of delta.

Each kind has ``numbers``, how many it holds; ``squares()``, the squared norms [N]; ``total()``, the sum over its
examples, flat in the order weight, bias; and ``blocks(channels)``, parts of it that ``add_products`` can multiply.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
BLOCK = 2**22  # numbers of a convolution's gradients formed at once, 16 MiB in float32
PATCHES = 2**19  # numbers of patches copied out at once: 2 MiB stay in the cache
SQUARE = 128  # side of the squares on the diagonal of a symmetric product that are multiplied whole


class LinearFactors(NamedTuple):
    """Inputs ``a`` [N, in] and errors ``delta`` [N, out]; ``bias`` is 1 if the layer has one, else 0."""

    a: Tensor
    delta: Tensor
    bias: int

    @property
    def numbers(self) -> int:
        return self.a.numel() + self.delta.numel()

    def squares(self) -> Tensor:
        return (self.a.square().sum(1) + self.bias) * self.delta.square().sum(1)

    def total(self) -> Tensor:
        return torch.cat([(self.delta.T @ self.a).flatten(), *([self.delta.sum(0)] if self.bias else [])])

    def blocks(self, channels: int) -> Iterator[LinearFactors]:
        yield self

    def add_products(self, out: Tensor, other: LinearFactors) -> None:
        """Add the inner products to ``out`` [N1, N2]; with oneself, those of :func:`lower_tiles` alone."""
        for row, column in lower_tiles(0, len(out)) if other is self else ALL:
            inputs = self.a[row] @ other.a[column].T
            out[row, column].addcmul_(inputs.add_(self.bias), self.delta[row] @ other.delta[column].T)


class Rows(NamedTuple):
    """The gradients themselves: ``weight`` [N, W] and ``bias`` [N, O] or None. A convolution's weights are ordered as
    ``order`` = (output channels, positions of the kernel, input channels), others have (W, 1, 1).
    """

    weight: Tensor
    bias: Tensor | None
    order: tuple[int, int, int]

    @property
    def numbers(self) -> int:
        return sum(part.numel() for part in self._parts())

    def squares(self) -> Tensor:
        return sum(part.square().sum(1) for part in self._parts())

    def total(self) -> Tensor:
        weight, *bias = (part.sum(0) for part in self._parts())
        return torch.cat([weight.view(self.order).mT.flatten(), *bias])

    def blocks(self, channels: int) -> Iterator[Rows]:
        yield self

    def add_products(self, out: Tensor, other: Rows) -> None:
        """As :meth:`LinearFactors.add_products`; what is above the diagonal squares may be left incomplete."""
        for mine, theirs in zip(self._parts(), other._parts(), strict=True):
            half = other is self and mine.shape[1] > SQUARE  # of few columns the whole is as cheap
            for row, column in lower_tiles(0, len(out)) if half else ALL:
                out[row, column].addmm_(mine[row], theirs[column].T)

    def _parts(self) -> list[Tensor]:
        return [self.weight] if self.bias is None else [self.weight, self.bias]


class ConvFactors(NamedTuple):
    """Inputs ``a`` [N, C, *space] and errors ``delta`` [N, O, *positions] of the convolution ``layer``."""

    a: Tensor
    delta: Tensor
    layer: nn.Module

    @property
    def numbers(self) -> int:
        return self.a.numel() + self.delta.numel()

    def squares(self) -> Tensor:
        return sum(rows.squares() for rows in self.blocks(channels_at_once([self])))

    def total(self) -> Tensor:
        kernel, bias = math.prod(self.layer.kernel_size), []
        parts = []
        for rows in self.blocks(channels_at_once([self])):
            parts.append(rows.weight.sum(0).view(rows.order).mT)
            bias += [] if rows.bias is None else [rows.bias.sum(0)]
        return torch.cat([torch.cat(parts, 1).reshape(self.layer.out_channels, -1, kernel).flatten(), *bias])

    def blocks(self, channels: int) -> Iterator[Rows]:
        """The gradients for ``channels`` input channels (of every group) at a time; the bias comes with the first."""
        for start in range(0, self.layer.in_channels // self.layer.groups, channels):
            yield _conv_rows(self.layer, self.a, self.delta, slice(start, start + channels))


Part = LinearFactors | Rows | ConvFactors
ALL = [(slice(None), slice(None))]


def conv_gradients(layer: nn.Module, a: Tensor, delta: Tensor) -> ConvFactors | Rows:
    """What to hold of a convolution: its gradients, or its factors where these are less than half as many numbers (the
    gradients will have to be formed from them, beside them).
    """
    factors = ConvFactors(a, delta, layer)
    many = len(a) * layer.weight.numel() > 2 * factors.numbers
    return factors if many else _conv_rows(layer, a, delta, slice(0, layer.in_channels))


def norm_gradients(normed: Tensor, delta: Tensor) -> Rows:
    """The gradients of a batch norm, from normalised inputs and errors [N, C, *positions]."""
    weight, bias = (t if t.dim() == 2 else t.flatten(2).sum(2) for t in (delta * normed, delta))
    return Rows(weight, bias, (weight.shape[1], 1, 1))


def channels_at_once(parts: list[Part]) -> int:
    """For how many input channels the gradients of all examples in ``parts``, of one layer, fit ``BLOCK``; at least 1."""
    layer = getattr(parts[0], "layer", None)
    if layer is None:
        return 1
    per_channel = sum(len(part.a) for part in parts) * layer.out_channels * math.prod(layer.kernel_size)
    size = layer.in_channels // layer.groups
    return math.ceil(size / math.ceil(size / max(1, BLOCK // per_channel)))  # blocks of nearly one size


def lower_tiles(start: int, stop: int) -> list[tuple[slice, slice]]:
    """Squares that cover the diagonal of a matrix and what is below it: little more than half of it."""
    if stop - start <= SQUARE:
        return [(slice(start, stop), slice(start, stop))]
    middle = (start + stop) // 2
    return [
        (slice(middle, stop), slice(start, middle)),
        *lower_tiles(start, middle),
        *lower_tiles(middle, stop),
    ]


def mirror(out: Tensor) -> None:
    """Copy what is below the diagonal squares of :func:`lower_tiles` to the other side."""
    for row, column in lower_tiles(0, len(out)):
        if row != column:
            out[column, row] = out[row, column].T


def _conv_rows(layer: nn.Module, a: Tensor, delta: Tensor, channels: slice) -> Rows:
    """Each example's gradient of a convolution's weights in the input ``channels`` (of every group)."""
    groups = layer.groups
    windows = _windows(layer, a).unflatten(1, (groups, -1))[:, :, channels]  # [N, g, c, *positions, *kernel]
    kernel, width = math.prod(layer.kernel_size), windows.shape[2]
    some = max(1, PATCHES * len(a) // windows.numel())
    errors = delta.flatten(2).unflatten(1, (groups, -1))
    weight = delta.new_empty(len(a), groups, layer.out_channels // groups, kernel * width)
    for views, theirs, place in zip(*(t.split(some) for t in (windows, errors, weight)), strict=True):
        torch.bmm(theirs.flatten(0, 1), _patches(views, kernel * width), out=place.flatten(0, 1))
    bias = delta.flatten(2).sum(2) if layer.bias is not None and channels.start == 0 else None
    return Rows(weight.flatten(1), bias, (layer.out_channels, kernel, width))


def _patches(windows: Tensor, columns: int) -> Tensor:
    """[N, g, c, *positions, *kernel] -> [N · g, positions, kernel · c], copied in runs: of channels where these are last
    in memory, else of positions.
    """
    products, dims = windows.shape[0] * windows.shape[1], (windows.dim() - 3) // 2
    if windows.shape[2] > 1 and windows.stride(2) == 1:
        return windows.movedim(2, -1).reshape(products, -1, columns)
    positions = tuple(range(3, 3 + dims))
    behind = windows.movedim(2, -1).movedim(tuple(p - 1 for p in positions), tuple(range(-dims, 0)))
    return behind.reshape(products, columns, -1).mT


def _windows(layer: nn.Module, a: Tensor) -> Tensor:
    """What of the input lies beneath the kernel at each position: a view [N, C, *positions, *kernel] of padded ``a``."""
    margins = [m for margin in reversed(_margins(layer)) for m in margin]
    if any(margins):
        a = F.pad(a, margins, "constant" if layer.padding_mode == "zeros" else layer.padding_mode)
    for axis, (size, step, gap) in enumerate(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True), 2):
        a = a.unfold(axis, (size - 1) * gap + 1, step)[..., ::gap]
    return a


def _margins(layer: nn.Module) -> list[tuple[int, int]]:
    """What is padded before and behind each axis of space."""
    if layer.padding == "same":  # an odd number: the larger half behind
        totals = [gap * (size - 1) for size, gap in zip(layer.kernel_size, layer.dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(0, 0)] * len(layer.kernel_size) if layer.padding == "valid" else [(m, m) for m in layer.padding]
