"""A layer's activations on a probe set, centred, with the decompositions that every similarity index shares."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
NESTED = 1e-10  # sum of 1 - rho^2 below which all canonical correlations count as 1: each is then within 5e-11 of it


class Representation:
    """Activations [n, ...] of one layer on n inputs, flattened to [n, p], centred over inputs and held in float64.

    The decompositions are computed when first asked for and kept, so that comparing a layer with fifty others costs one
    of each. ``tolerance`` is the singular value, relative to the largest, below which a direction counts as absent: by
    default max(n, p) times the machine epsilon of the dtype the activations *came in*, since directions below it are
    the round-off of the forward pass. Raises ValueError on fewer than 4 rows, or on values that are not finite.
    """

    def __init__(self, activations: Tensor, tolerance: float | None = None) -> None:
        x = activations.detach().flatten(1)
        if x.shape[0] < 4:
            raise ValueError(f"a representation needs at least 4 inputs, got {x.shape[0]}")
        precision = torch.finfo(x.dtype).eps if x.is_floating_point() else torch.finfo(torch.float64).eps
        self.tolerance = max(x.shape) * precision if tolerance is None else tolerance
        values = centred(x.to(torch.float64))
        if values is None:
            raise ValueError(
                f"{int((~x.isfinite()).any(1).sum())} of {len(x)} inputs have activations that are not finite"
            )
        self.x = values  # [n, p]
        self._remembered: dict[Hashable, object] = {}
        self._latest: tuple[weakref.ref[Representation], Pair] | None = None

    @property
    def n(self) -> int:
        """Number of inputs."""
        return self.x.shape[0]

    @property
    def p(self) -> int:
        """Number of units."""
        return self.x.shape[1]

    @cached_property
    def gram(self) -> Tensor:
        """Centred linear Gram matrix H X X' H [n, n]."""
        return self.x @ self.x.T

    @cached_property
    def self_product(self) -> Tensor:
        """||X'X||_F = ||XX'||_F, by whichever of the two is smaller."""
        return self.gram.norm() if self.p > self.n else (self.x.T @ self.x).norm()

    @cached_property
    def squared_distances(self) -> Tensor:
        """Squared Euclidean distances between the inputs' activations [n, n]."""
        # Recentred rows keep the expansion |a|^2 + |b|^2 - 2ab accurate; the clamp removes its round-off below zero.
        square = self.gram.diagonal()
        return (square.unsqueeze(0) + square.unsqueeze(1) - 2 * self.gram).clamp(min=0).fill_diagonal_(0)

    @cached_property
    def _svd(self) -> tuple[Tensor, Tensor]:
        # QR first: the SVD of the small triangle costs a fraction of a tall matrix's and, unlike an eigendecomposition
        # of X'X, does not square the condition number, on which ranks depend.
        if self.n >= self.p:
            q, r = torch.linalg.qr(self.x)
            u, s, _ = torch.linalg.svd(r)
            u = q @ u
        else:
            _, r = torch.linalg.qr(self.x.T)
            u, s, _ = torch.linalg.svd(r.T)
        rank = int((s > self.tolerance * s[0]).sum()) if s[0] > 0 else 0
        return u[:, :rank], s[:rank]

    @property
    def basis(self) -> Tensor:
        """Orthonormal basis Q of the column space [n, rank], ordered by variance."""
        return self._svd[0]

    @property
    def singular_values(self) -> Tensor:
        """Singular values of the centred activations [rank], largest first."""
        return self._svd[1]

    @cached_property
    def loadings(self) -> Tensor:
        """Coordinates of every unit in the basis, Q'X [rank, p]."""
        return self.basis.T @ self.x

    @property
    def rank(self) -> int:
        """Number of directions above the tolerance; at most min(n - 1, p)."""
        return len(self.singular_values)

    def directions_for(self, variance: float) -> int:
        """Smallest number of principal directions that keep a share ``variance`` of the total variance."""
        if not 0 < variance <= 1:
            raise ValueError(f"variance is {variance}: give a share in (0, 1]")
        if self.rank == 0:
            return 0
        share = self.singular_values.square().cumsum(0) / self.singular_values.square().sum()
        # A share of exactly 1 means every direction, whatever the round-off of the cumulative sum.
        return self.rank if variance == 1 else int((share < variance).sum()) + 1

    def principal(self, count: int) -> Representation:
        """The representation on its ``count`` directions of largest variance: n x count principal components."""
        if not 1 <= count <= self.rank:
            raise ValueError(f"count is {count}: give a number of directions in [1, {self.rank}], the rank")
        basis, values = self.basis[:, :count], self.singular_values[:count]
        cut = Representation(basis * values, tolerance=self.tolerance)
        cut._svd = basis, values  # known already: spare the second decomposition
        return cut

    def truncated(self, variance: float = 0.99) -> Representation:
        """The representation on the directions that keep a share ``variance`` of its variance, as SVCCA does before
        CCA.
        """
        return self.remember(("truncated", variance), lambda: self.principal(self.directions_for(variance)))

    def remember(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What ``compute`` returns, computed once per ``key`` and then kept (kernels, truncations)."""
        if key not in self._remembered:
            self._remembered[key] = compute()
        return self._remembered[key]  # type: ignore[return-value]


class Pair:
    """What the CCA family needs of two representations: the overlap Q_X'Q_Y [r1, r2] of their bases, and its SVD,
    which a pair and its ``mirror``, the same for (y, x), have in common.
    """

    def __init__(self, overlap: Tensor, mirror: Pair | None = None) -> None:
        self.overlap, self.mirror = overlap, mirror

    @cached_property
    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """U [r1, k], canonical correlations [k], V [r2, k]."""
        if self.mirror is not None:
            v, rho, u = self.mirror.svd
            return u, rho, v
        if self.nested:
            return self._svd_of_nested()
        u, rho, vh = torch.linalg.svd(self.overlap, full_matrices=False)
        return u, rho.clamp(max=1), vh.T

    @cached_property
    def correlations(self) -> Tensor:
        """Canonical correlations rho [min(r1, r2)], largest first; taken from the SVD if that is there."""
        if self.mirror is not None:
            return self.mirror.correlations
        known = "svd" in self.__dict__ or self.nested
        return self.svd[1] if known else torch.linalg.svdvals(self.overlap).clamp(max=1)

    @cached_property
    def nested(self) -> bool:
        """Whether one column space lies in the other: sum_i (1 - rho_i^2) = k - ||overlap||_F^2 is 0, and so is every
        term, because none is negative. Two layers with n - 1 directions each always are (theorem 1 of the paper).
        """
        k = min(self.overlap.shape)
        return k > 0 and k - float(self.overlap.square().sum()) < NESTED

    def _svd_of_nested(self) -> tuple[Tensor, Tensor, Tensor]:
        # The smaller side of the overlap is then orthonormal: times the identity, the overlap is its own SVD.
        r1, r2 = self.overlap.shape
        k, like = min(r1, r2), {"dtype": self.overlap.dtype, "device": self.overlap.device}
        one, eye = torch.ones(k, **like), torch.eye(k, **like)
        return (eye, one, self.overlap.T) if r1 <= r2 else (self.overlap, one, eye)

    def swapped(self) -> Pair:
        """The same for (y, x)."""
        return self.mirror or Pair(self.overlap.T, mirror=self)


def centred(x: Tensor) -> Tensor | None:
    """Activations [n, p] less their means over inputs; a unit that never varies is exactly 0, not the round-off of its
    mean. None where a number is not finite.
    """
    mean = x.mean(0)  # finite only where every number is: no further pass over them
    if not mean.isfinite().all():
        return None
    x = x - mean
    round_off = 16 * torch.finfo(x.dtype).eps * mean.abs()
    return x.masked_fill_((x.amax(0) <= round_off) & (x.amin(0) >= -round_off), 0)


def pair(x: Representation, y: Representation) -> Pair:
    """The ``Pair`` of two representations, remembered for the latest partner, whichever way round they come."""
    check_pair(x, y)
    if x._latest is None or x._latest[0]() is not y:
        known = y._latest is not None and y._latest[0]() is x
        x._latest = weakref.ref(y), y._latest[1].swapped() if known else Pair(x.basis.T @ y.basis)
    return x._latest[1]


def cross_product(x: Representation, y: Representation) -> Tensor:
    """||Y'X||_F^2 = tr(XX' YY'), by whichever matrix is smaller: p1 x p2 or n x n."""
    check_pair(x, y)
    if x.p * y.p <= x.n**2:
        return (y.x.T @ x.x).square().sum()
    return (x.gram * y.gram).sum()


def check_pair(x: Representation, y: Representation) -> None:
    """Raise ValueError where two representations are not of the same number of inputs."""
    if x.n != y.n:
        raise ValueError(f"representations of {x.n} and {y.n} inputs cannot be compared: give both the same probe set")
