"""Small conveniences around ``fit``: values a member, and steps to look at."""

from __future__ import annotations

from torch import Tensor

from repro.train.batches import Along, along
from repro.train.stack import Stack


def per_member(nets: Stack, values: Tensor) -> Along:
    """``values`` [M, ...], one row a member of ``nets``, as ``fit`` and the measurements take them."""
    return along(*nets.axes, values.reshape(*nets.shape.values(), *values.shape[1:]))


def log_spaced(steps: int, count: int, first: int = 1) -> list[int]:
    """About ``count`` different numbers of updates between ``first`` and ``steps``, evenly spaced on a log axis, both
    ends included (fewer where neighbours round to one number). For ``measure_at`` and ``keep_at``.

    Raises ValueError unless 1 <= first <= steps and count >= 2.
    """
    if not 1 <= first <= steps or count < 2:
        raise ValueError(f"steps = {steps}, count = {count}, first = {first}: need 1 <= first <= steps and count >= 2")
    return sorted({round(first * (steps / first) ** (i / (count - 1))) for i in range(count)})
