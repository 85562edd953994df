"""Magnitude pruning of a stack, and iterative magnitude pruning with rewinding (Frankle et al. 2020).

Used as::

    masks = magnitude_masks(run.final, density=0.2)
    fit(run.at(100), x, y, mask=for_fit(run.final, masks), steps=...)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from repro.train.batches import Along
from repro.train.per_member import per_member
from repro.train.stack import Stack
from repro.train.surgery import weight_names

Masks = dict[str, Tensor]


def magnitude_masks(
    nets: Stack, density: float, names: Sequence[str] | None = None, *, scope: str = "global",
    within: Mapping[str, Tensor] | None = None,
) -> Masks:  # fmt: skip
    """Keep the largest magnitudes of each member: parameter name -> 0/1 [M, *shape].

    Args:
        density: share of all weights in ``names`` that survives, in (0, 1].
        names: parameters pruned, by default all weight matrices and kernels.
        scope: ``global`` compares weights of all layers, ``layer`` keeps the same share in each.
        within: masks whose zeros stay zero.
    """
    if not 0 < density <= 1:
        raise ValueError(f"density = {density}: a share of the weights in (0, 1]")
    if scope not in ("global", "layer"):
        raise ValueError(f"scope = {scope!r}: allowed are global, layer")
    names = list(names or weight_names(nets))
    sizes = [nets.params[name][0].numel() for name in names]
    # what is pruned stays pruned, also against survivors that happen to be 0
    scores = [nets.params[name].abs().flatten(1) for name in names]
    if within is not None:
        scores = [s.masked_fill(within[name].flatten(1) == 0, -1.0) for s, name in zip(scores, names, strict=True)]
    if scope == "global":
        kept = list(_largest(torch.cat(scores, 1), density).split(sizes, 1))
    else:
        kept = [_largest(s, density) for s in scores]
    return {name: k.view_as(nets.params[name]).to(nets.params[name]) for name, k in zip(names, kept, strict=True)}


def for_fit(nets: Stack, masks: Mapping[str, Tensor]) -> dict[str, Along]:
    """Masks [M, *shape] as ``fit(mask=...)`` takes them; ``nets`` is the stack that they belong to."""
    return {name: per_member(nets, mask) for name, mask in masks.items()}


def density_of(masks: Mapping[str, Tensor]) -> Tensor:
    """Share of the weights under ``masks`` that survives, [M]."""
    return torch.cat([mask.flatten(1) for mask in masks.values()], 1).mean(1)


def iterative_magnitude_pruning(
    train: Callable[[Stack, Mapping[str, Along]], Stack], rewind: Stack, rounds: int, keep: float = 0.8,
    names: Sequence[str] | None = None, scope: str = "global",
) -> list[Masks]:  # fmt: skip
    """Masks after 0, 1, ... ``rounds`` rounds of: train from ``rewind`` under the mask, keep the largest ``keep`` of
    the survivors.

    ``train(start, mask)`` gets the stack rewound to and the masks for ``fit``, and returns the trained networks. The
    first round trains dense, so ``rewind`` should come from that same run's early checkpoint.
    """
    if rounds < 1 or not 0 < keep < 1:
        raise ValueError(f"rounds = {rounds}, keep = {keep}: need at least one round and a share in (0, 1)")
    masks = magnitude_masks(rewind, 1.0, names)
    history = [masks]
    for done in range(1, rounds + 1):
        trained = train(rewind, for_fit(rewind, masks))
        masks = magnitude_masks(trained, keep**done, names, scope=scope, within=masks)
        history.append(masks)
    return history


def _largest(scores: Tensor, density: float) -> Tensor:
    """Where the largest ``density`` of each row lie, exactly that many."""
    count = max(1, round(density * scores.shape[1]))
    kept = torch.zeros_like(scores, dtype=torch.bool)
    return kept.scatter(1, scores.topk(count, dim=1).indices, True)
