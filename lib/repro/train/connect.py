"""Low-loss connectors between optima: free vertices trained so that simplices spanned with the fixed optima stay low.

A triangle between three optima::

    shape = barycentric(3)
    nets = connectors(optima_stack, optima, shape, seeds)              # optima [M, 3, P]
    run = fit(nets, x, y, steps=500, objective=on_random_points(shape, cross_entropy), optimizer="adam", lr=3e-3)
    vertices(run.final)                                               # [M, 7, P]; shape.grid(6) weights them
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repro.measure.paths import simplex_grid
from repro.rng import Streams
from repro.train.batches import Batch
from repro.train.reparametrise import Reparametrised
from repro.train.stack import Stack


@dataclass(frozen=True)
class Complex:
    """Simplices between ``optima`` fixed vertices (numbers 0 ... optima - 1) and free ones (the numbers after).

    ``free``: for each free vertex the optima in whose middle it starts. ``simplices``: their vertices' numbers, all of
    one length.
    """

    optima: int
    free: tuple[tuple[int, ...], ...]
    simplices: tuple[tuple[int, ...], ...]

    @property
    def vertices(self) -> int:
        return self.optima + len(self.free)

    def grid(self, divisions: int) -> Tensor:
        """Weights of a regular grid on every simplex: [simplices, T, vertices]."""
        local = simplex_grid(len(self.simplices[0]), divisions)
        weights = local.new_zeros(len(self.simplices), len(local), self.vertices)
        for row, simplex in zip(weights, self.simplices, strict=True):
            row[:, list(simplex)] = local
        return weights

    def sample(self, streams: Streams) -> Tensor:
        """Weights of a uniform point on a random simplex for each member: [M, vertices]."""
        corners = torch.tensor(self.simplices, device=streams.device)[streams.integers(len(self.simplices))]
        exponential = -torch.log1p(-streams.uniform(corners.shape[1]))
        local = exponential / exponential.sum(1, keepdim=True)
        return local.new_zeros(len(corners), self.vertices).scatter(1, corners, local)


def star(optima: int) -> Complex:
    """One free centre, joined to each optimum by a segment."""
    _at_least_two(optima)
    return Complex(optima, (tuple(range(optima)),), tuple((i, optima) for i in range(optima)))


def barycentric(optima: int) -> Complex:
    """The barycentric subdivision of the simplex between the optima: a free vertex for every set of two or more."""
    _at_least_two(optima)
    sets = [s for size in range(1, optima + 1) for s in itertools.combinations(range(optima), size)]
    orders = itertools.permutations(range(optima))
    flags = [[sets.index(tuple(sorted(order[:size]))) for size in range(1, optima + 1)] for order in orders]
    return Complex(optima, tuple(sets[optima:]), tuple(tuple(flag) for flag in flags))


class Connector(Reparametrised):
    """θ = weights @ (optima, free): a point on a complex with trainable vertices ``free`` [f, P]."""

    def __init__(self, module: nn.Module, optima: Tensor, free: Tensor) -> None:
        super().__init__(module)
        self.free = nn.Parameter(free)
        self.register_buffer("optima", optima)
        self.register_buffer("weights", torch.full((len(optima) + len(free),), 1 / (len(optima) + len(free))).to(free))

    def formula(self, own: Mapping[str, Tensor]) -> Tensor:
        fixed, free = own["weights"].unsqueeze(-2).tensor_split([own["optima"].shape[-2]], dim=-1)
        return (fixed @ own["optima"] + free @ own["free"]).squeeze(-2)


def connectors(nets: Stack, optima: Tensor, shape: Complex, seeds: Sequence[int]) -> Stack:
    """A connector for each group of ``optima`` [M, m, P] (vectors as in ``nets.flat()``): a stack along ``seed``.

    ``nets`` lends the architecture. ``seeds`` [M] order the minibatches and draw the points. Raises ValueError where
    sizes disagree, or the networks have buffers or dropout.
    """
    groups, corners, size = optima.shape
    if corners != shape.optima or groups != len(seeds) or size != nets.flat().shape[1]:
        raise ValueError(
            f"optima {tuple(optima.shape)}: expected [{len(seeds)}, {shape.optima}, {nets.flat().shape[1]}]"
        )
    free = torch.stack([optima[:, list(near)].mean(1) for near in shape.free], 1)
    stack = Stack(Connector(nets.template, optima[0], free[0]), {"seed": seeds}).to(nets.device, optima.dtype)
    stack.load({"optima": optima, "free": free})
    return stack


def on_random_points(
    shape: Complex, loss: Callable[[Tensor, Tensor], Tensor], points: int = 1
) -> Callable[[Stack, Batch], Tensor]:
    """An objective for ``fit``: the mean loss at ``points`` random points of each member's complex."""

    def objective(nets: Stack, batch: Batch) -> Tensor:
        values = []
        for _ in range(points):
            nets.net.weights = shape.sample(batch.streams).to(nets.net.weights)
            values.append(loss(nets(batch.x), batch.y))
        return torch.stack(values).mean(0)

    return objective


def vertices(nets: Stack) -> Tensor:
    """All vertices of trained connectors, the optima first: [M, vertices, P]."""
    return torch.cat([nets.buffers["optima"], nets.params["free"]], 1)


def _at_least_two(optima: int) -> None:
    if optima < 2:
        raise ValueError(f"optima = {optima}: a connector joins at least 2")
