"""Training data for a stack: shared by all members or differing along named axes, in minibatches fixed by the seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from repro.rng import Streams
from repro.train.stack import Stack


@dataclass(frozen=True)
class Along:
    """Values that differ between members; the leading axes of ``values`` follow ``dims``. Made by :func:`along`."""

    dims: tuple[str, ...]
    values: Tensor

    def rows(self, nets: Stack) -> Tensor:
        """For each member its row in ``values`` with the leading axes flattened, [M]."""
        index = torch.zeros(nets.members, dtype=torch.long)
        for position, dim in enumerate(self.dims):
            labels, size = nets.labels(dim), self.values.shape[position]
            known = nets.ordered_labels(dim)
            if size != len(known):
                raise ValueError(f"values along {dim!r} have length {size}, the axis has {len(known)}")
            index = index * size + torch.tensor([known.index(label) for label in labels])
        return index

    def of(self, nets: Stack) -> Tensor:
        """The values of each member, [M, ...], to read only; right also where ``nets`` is a chunk of a larger stack."""
        return pick(self.flat().to(nets.device), self.rows(nets))

    def flat(self) -> Tensor:
        return self.values.flatten(0, len(self.dims) - 1) if len(self.dims) > 1 else self.values


def pick(values: Tensor, rows: Tensor) -> Tensor:
    """``values[rows]``, without a copy where the rows follow one another."""
    first, count = int(rows[0]), len(rows)
    if torch.equal(rows, torch.arange(first, first + count)):
        return values[first : first + count]
    return values[rows.to(values.device)]


def along(*dims_and_values: str | Tensor) -> Along:
    """``along("seed", y)``: y has shape [seeds, N, ...] and each member takes its own row; more axes may be named."""
    *dims, values = dims_and_values
    if not dims or not all(isinstance(d, str) for d in dims) or not isinstance(values, Tensor):
        raise ValueError("along(axis name, ..., tensor): axis names first, then one tensor")
    return Along(tuple(dims), values)


class Source:
    """One tensor of the training set as the members of ``nets`` see it."""

    def __init__(self, data: Tensor | Along, nets: Stack) -> None:
        self.each = isinstance(data, Along)
        self.values = (data.flat() if self.each else data).to(nets.device)
        self.rows = data.rows(nets) if self.each else None
        self.column = self.rows.to(nets.device)[:, None] if self.each else None
        self.members, self.size = nets.members, self.values.shape[int(self.each)]

    def at(self, index: Tensor) -> Tensor:
        """Examples [M, B] -> [M, B, ...]."""
        rows = self.column * self.size + index if self.each else index
        table = self.values.flatten(0, 1) if self.each else self.values
        # index_select copies whole rows, plain indexing number by number
        return table.index_select(0, rows.flatten()).unflatten(0, index.shape)

    @cached_property
    def whole(self) -> Tensor:
        """The whole set, [M, N, ...], to read only; a view where members share it or their rows follow one another."""
        if self.each:
            return pick(self.values, self.rows)
        return self.values.expand(self.members, *self.values.shape)


@dataclass
class Batch:
    """What an objective sees: inputs and targets [M, B, ...] (None without data), the step, and the members' streams."""

    x: Tensor | None
    y: Tensor | None
    step: int
    streams: Streams
    index: Tensor | None = None


class Batches:
    """Minibatches of ``nets``' members: every epoch a fresh order for each seed; a last, smaller batch is left out."""

    def __init__(self, nets: Stack, x: Tensor | Along | None, y: Tensor | Along | None, batch: int | None) -> None:
        self.seeds = nets.labels("seed")
        self.device = nets.device
        self.x, self.y = (None if data is None else Source(data, nets) for data in (x, y))
        if self.x is not None and self.y is not None and self.x.size != self.y.size:
            raise ValueError(f"x holds {self.x.size} examples, y holds {self.y.size}")
        self.size = None if self.x is None else self.x.size
        if batch is not None and (batch < 1 or (self.size is not None and batch > self.size)):
            raise ValueError(f"batch = {batch}: the data holds {self.size} examples, so 1 to {self.size} are allowed")
        self.batch = batch

    def epoch_length(self) -> int:
        """Steps in one pass over the data."""
        return 1 if self.batch is None or self.size is None else math.floor(self.size / self.batch)

    def draw(self, steps: int) -> Iterator[Batch]:
        """``steps`` batches."""
        # the order is drawn on the CPU, so that every device trains on the same batches
        order, streams = Streams(self.seeds, "batches"), Streams(self.seeds, "objective", self.device)
        index = None
        for step in range(steps):
            if self.batch is not None and self.size is not None:
                place = step % self.epoch_length()
                if place == 0:
                    epoch = order.permutation(self.size).to(self.device)
                index = epoch[:, place * self.batch : (place + 1) * self.batch]
            x, y = (None if s is None else s.whole if index is None else s.at(index) for s in (self.x, self.y))
            yield Batch(x, y, step, streams, index)
