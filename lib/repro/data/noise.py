"""Label noise. Two things often confused are kept apart: which labels were drawn anew, and which are wrong."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Noisy(NamedTuple):
    """Labels [n] with masks [n]: ``randomised`` were selected and drawn anew, ``wrong`` differ from the truth.

    A redrawn label may hit the truth, so ``wrong`` is part of ``randomised``; with symmetric flips they are the same.
    """

    labels: Tensor
    randomised: Tensor
    wrong: Tensor


def flip_labels(y: Tensor, share: float, classes: int, generator: torch.Generator, symmetric: bool = False) -> Noisy:
    """Select exactly round(``share`` n) of the labels ``y`` [n] in 0 ... ``classes`` - 1 and draw them anew.

    A new label is uniform over all classes (the truth included), or, if ``symmetric``, over the wrong ones. ``y`` is
    left as it is. Raises ValueError for a share outside [0, 1], fewer than 2 classes, or a label outside of its range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}: give a number in [0, 1]")
    if classes < 2 or (len(y) and not 0 <= int(y.min()) <= int(y.max()) < classes):
        raise ValueError(
            f"classes is {classes} for labels in [{int(y.min())}, {int(y.max())}]: "
            "give at least 2 and more than the largest"
        )
    n = len(y)
    randomised = torch.zeros(n, dtype=torch.bool, device=y.device)
    randomised[torch.randperm(n, generator=generator)[: round(share * n)].to(y.device)] = True
    if symmetric:
        drawn = (y + torch.randint(1, classes, (n,), generator=generator).to(y)) % classes
    else:
        drawn = torch.randint(classes, (n,), generator=generator).to(y)
    labels = torch.where(randomised, drawn, y)
    return Noisy(labels, randomised, labels != y)
