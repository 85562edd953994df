"""Random numbers that depend on *what* they are for, not on *when* they are drawn.

A seed is split into independent streams by purpose (initial weights, minibatch order, dropout ...), so that training a
network alone, in a stack of sixteen, or in chunks gives it the same numbers.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Sequence

import numpy as np
import torch


def seeds(base: int, n: int) -> list[int]:
    """``n`` independent seeds below 2**31 from one base seed.

    Unlike ``range(base, base + n)``, two neighbouring base seeds share none, so rerunning a page with another base seed
    draws fresh units. Raises ``ValueError`` for ``n < 1``.
    """
    if n < 1:
        raise ValueError(f"n = {n}: at least one seed is needed")
    return [int(child.generate_state(1)[0] >> 1) for child in np.random.SeedSequence(base).spawn(n)]


def generator(seed: int, purpose: str, device: str | torch.device = "cpu") -> torch.Generator:
    """The stream of random numbers that ``seed`` has for ``purpose`` (any words)."""
    state = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


class Streams:
    """One stream a seed, drawn for a stack of members: members with the same seed see the same numbers.

    ``members`` holds the seed of each member, shape [M]. Draws have shape [M, *shape].
    """

    def __init__(self, members: Sequence[int], purpose: str, device: str | torch.device = "cpu") -> None:
        distinct = sorted(set(members))
        self.generators = [generator(seed, purpose, device) for seed in distinct]
        self.device = torch.device(device)
        self.shared = len(distinct) != len(members) or list(members) != distinct
        self.rows = torch.tensor([distinct.index(seed) for seed in members], device=device)

    def distinct(self) -> Streams:
        """The same streams, one for each distinct seed; what is made of their draws goes to the members by
        :meth:`spread`.
        """
        each = copy.copy(self)
        each.shared = False
        return each

    def spread(self, draws: torch.Tensor) -> torch.Tensor:
        """Values of the distinct seeds, in ascending order, as the members' own: [distinct, ...] to [M, ...]."""
        return draws.index_select(0, self.rows) if self.shared else draws

    def _empty(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.empty(len(self.generators), *shape, dtype=dtype, device=self.device)

    def uniform(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Uniform numbers in [0, 1), shape [M, *shape]."""
        draws = self._empty(*shape, dtype=dtype)
        for row, g in zip(draws.unbind(), self.generators, strict=True):
            row.uniform_(generator=g)
        return self.spread(draws)

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Standard normal numbers, shape [M, *shape]."""
        draws = self._empty(*shape, dtype=dtype)
        for row, g in zip(draws.unbind(), self.generators, strict=True):
            row.normal_(generator=g)
        return self.spread(draws)

    def integers(self, high: int, *shape: int) -> torch.Tensor:
        """Integers in 0 … high-1, shape [M, *shape]."""
        draws = self._empty(*shape, dtype=torch.long)
        for row, g in zip(draws.unbind(), self.generators, strict=True):
            row.random_(high, generator=g)
        return self.spread(draws)

    def permutation(self, n: int) -> torch.Tensor:
        """A random order of 0 … n-1 for each member, shape [M, n]."""
        return self.spread(torch.stack([torch.randperm(n, generator=g, device=self.device) for g in self.generators]))
