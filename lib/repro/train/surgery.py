"""Operations on the weights of a stack: re-initialise, shuffle, keep the signs, add noise. All return new stacks.

``masks`` (parameter name -> 0/1 [M, *shape]) confine an operation to surviving weights; entries off the mask stay as
they are. ``names`` confine it to some parameters, by default all weight matrices and kernels (two or more axes).
Every member's random numbers come from ``streams``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from repro.rng import Streams
from repro.train.stack import Stack

Masks = Mapping[str, Tensor]


def weight_names(nets: Stack) -> list[str]:
    """Parameters with two or more axes: weights and kernels, not biases and norms' scales."""
    return [name for name, p in nets.params.items() if p.dim() > 2]


def shuffled(
    nets: Stack, streams: Streams, masks: Masks | None = None, names: Sequence[str] | None = None, *,
    keep_signs: bool = False,
) -> Stack:  # fmt: skip
    """The surviving weights of every layer in random order, with ``keep_signs`` only among weights of one sign."""

    def change(name: str, p: Tensor, alive: Tensor) -> Tensor:
        classes = alive.long() * (2 + p.sign().long()) if keep_signs else alive.long()
        # ranks within each class, by place and by lot: a weight goes from its lot's rank to the same rank by place
        lot = streams.uniform(p.shape[1], dtype=torch.float64).to(p.device)
        by_lot = (classes + lot).argsort(1)  # classes are whole numbers, lots are below 1
        by_place = classes.argsort(dim=1, stable=True)
        return p.scatter(1, by_place, p.gather(1, by_lot))

    return _changed(nets, change, masks, names)


def redrawn_with_signs(
    nets: Stack, streams: Streams, masks: Masks | None = None, names: Sequence[str] | None = None
) -> Stack:
    """Each surviving weight keeps its sign and gets a magnitude drawn with replacement from its layer's survivors.

    Only the signs are left of the state; the scale of a layer stays, which fresh draws from the initial distribution
    would shrink (survivors of magnitude pruning are large).
    """

    def change(name: str, p: Tensor, alive: Tensor) -> Tensor:
        order = alive.long().argsort(dim=1, descending=True, stable=True)  # survivors first
        count = alive.sum(1, keepdim=True)
        draw = (streams.uniform(p.shape[1], dtype=torch.float64).to(p.device) * count).long()
        return p.sign() * p.abs().gather(1, order.gather(1, draw))

    return _changed(nets, change, masks, names)


def signs_only(nets: Stack, masks: Masks | None = None, names: Sequence[str] | None = None) -> Stack:
    """Each surviving weight becomes its sign times the root mean square of its layer's survivors."""

    def change(name: str, p: Tensor, alive: Tensor) -> Tensor:
        square = (p.square() * alive).sum(1, keepdim=True) / alive.sum(1, keepdim=True)
        return p.sign() * square.sqrt()

    return _changed(nets, change, masks, names)


def with_weights_of(
    nets: Stack, other: Stack, masks: Masks | None = None, names: Sequence[str] | None = None, *, signs: bool = False
) -> Stack:
    """The surviving weights replaced by those of ``other`` (a fresh initialisation, an earlier checkpoint); with
    ``signs``, by their magnitudes under the present signs.
    """

    def change(name: str, p: Tensor, alive: Tensor) -> Tensor:
        new = other.params[name].flatten(1)
        return p.sign() * new.abs() if signs else new

    return _changed(nets, change, masks, names)


def with_noise(
    nets: Stack, std: Mapping[str, Tensor] | float, streams: Streams, masks: Masks | None = None,
    names: Sequence[str] | None = None,
) -> Stack:  # fmt: skip
    """Gaussian noise added to surviving weights; ``std``: one number, or by name [M] (see :func:`layer_std`)."""

    def change(name: str, p: Tensor, alive: Tensor) -> Tensor:
        scale = std if isinstance(std, float | int) else std[name][:, None]
        return p + scale * streams.normal(p.shape[1], dtype=p.dtype).to(p.device)

    return _changed(nets, change, masks, names)


def layer_std(nets: Stack, names: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Standard deviation of each layer's weights, by name [M]."""
    return {name: nets.params[name].flatten(1).std(1) for name in names or weight_names(nets)}


def effective_std(changed: Stack, reference: Stack, unit: Mapping[str, Tensor], masks: Masks | None = None) -> Tensor:
    """How far a state has moved: the standard deviation over survivors of (changed - reference), per layer in units of
    ``unit`` (by name [M]; see :func:`layer_std`), averaged over the layers of ``unit``: [M].
    """
    moves = []
    for name, scale in unit.items():
        difference = (changed.params[name] - reference.params[name]).flatten(1)
        alive = _alive(masks, name, changed.params[name])
        mean = (difference * alive).sum(1, keepdim=True) / alive.sum(1, keepdim=True)
        variance = ((difference - mean).square() * alive).sum(1) / alive.sum(1)
        moves.append(variance.sqrt() / scale)
    return torch.stack(moves).mean(0)


def _changed(
    nets: Stack, change: Callable[[str, Tensor, Tensor], Tensor], masks: Masks | None, names: Sequence[str] | None
) -> Stack:
    """A copy with ``change(name, weights [M, n], alive [M, n])`` written to the surviving entries."""
    unknown = [name for name in names or () if name not in nets.params]
    if unknown:
        raise ValueError(f"parameter {unknown[0]!r}: this network has {', '.join(nets.params)}")
    new = nets.copy()
    with torch.no_grad():
        for name in names or weight_names(nets):
            p = nets.params[name]
            alive = _alive(masks, name, p)
            flat = p.flatten(1)
            new.params[name].copy_(torch.where(alive, change(name, flat, alive), flat).view_as(p))
    return new


def _alive(masks: Masks | None, name: str, p: Tensor) -> Tensor:
    if masks is None or name not in masks:
        return torch.ones_like(p, dtype=torch.bool).flatten(1)
    return masks[name].to(p.device).expand_as(p).flatten(1) != 0
