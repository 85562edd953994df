"""Torch's own fused optimizers on a stack whose members may have different hyperparameters."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from repro.train.stack import Stack

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "adagrad": torch.optim.Adagrad,
}  # fmt: skip
Schedule = Callable[[int], float]

# The wrappers around torch's optimizers import torch's compiler (1.5 s and 1,000 modules in every process) to tell it
# what not to compile. Nothing is compiled here, so what they wrap is called itself.
for _method in vars(torch.optim.Optimizer).values():
    if _plain := getattr(_method, "__wrapped__", None):
        vars(_plain)["__dynamo_disable"] = _plain  # where the wrapper looks before it imports


def schedule_of(schedule: str | Schedule, steps: int) -> Schedule:
    """The factor on the learning rate at each step (0 … steps-1): ``constant``, ``cosine``, ``linear`` or a function."""
    named: dict[str, Schedule] = {
        "constant": lambda step: 1.0,
        "cosine": lambda step: 0.5 * (1.0 + math.cos(math.pi * step / steps)),
        "linear": lambda step: 1.0 - step / steps,
    }
    if callable(schedule):
        return schedule
    if schedule not in named:
        raise ValueError(f"schedule = {schedule!r}: allowed are {', '.join(named)} or a function of the step")
    return named[schedule]


def allowed_hyperparameters(name: str) -> list[str]:
    """The hyperparameters of optimizer ``name`` that may be set or swept. Raises ``ValueError`` for an unknown name."""
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer = {name!r}: allowed are {', '.join(OPTIMIZERS)}")
    technical = {
        "self",
        "params",
        "foreach",
        "maximize",
        "capturable",
        "differentiable",
        "fused",
        "decoupled_weight_decay",
    }
    return [p for p in inspect.signature(OPTIMIZERS[name]).parameters if p not in technical]


class StackOptimizer:
    """Steps all members of ``nets`` together.

    Members with equal hyperparameters that lie next to each other form one parameter group (all of them, usually);
    its tensors are slices of the stacked parameters. The optimizers offered act on every number alone, so a stacked
    step is each member's own step.
    """

    def __init__(self, nets: Stack, name: str, hyper: Mapping[str, Any]) -> None:
        allowed = allowed_hyperparameters(name)
        for key, value in hyper.items():
            if key not in allowed:
                raise ValueError(f"{key} = {value!r}: {name} takes {', '.join(allowed)}")
            if isinstance(value, (int, float)) and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{key} = {value!r}: must be finite and at least 0")
        self.params = [p for p in nets.net.parameters() if p.requires_grad]
        swept = {axis: nets.labels(axis) for axis in [*nets.axes, *nets.parts] if axis in allowed}
        members = [{**hyper, **{axis: labels[m] for axis, labels in swept.items()}} for m in range(nets.members)]
        starts = [m for m in range(nets.members) if m == 0 or members[m] != members[m - 1]]
        self.runs = list(zip(starts, [*starts[1:], nets.members], strict=True))
        self.whole = len(self.runs) == 1
        groups = [{"params": self._slices(a, b), **members[a]} for a, b in self.runs]
        fused = nets.device.type in ("cpu", "cuda")
        self.optimizer = OPTIMIZERS[name](groups, fused=fused)
        self.sizes = [b - a for a, b in self.runs]
        self.parts = list(zip(*(group["params"] for group in groups), strict=True))  # of every parameter
        self._update = inspect.unwrap(type(self.optimizer).step)
        self.base = [group["lr"] for group in self.optimizer.param_groups]

    def _slices(self, a: int, b: int) -> list[Tensor]:
        return self.params if self.whole else [p.detach()[a:b] for p in self.params]

    def zero_grad(self) -> None:
        for p in self.params:
            p.grad = None

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """One update with the learning rates times ``factor``."""
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * factor
        if not self.whole:
            for p, parts in zip(self.params, self.parts, strict=True):
                grads = repeat(None) if p.grad is None else p.grad.split(self.sizes)
                for part, grad in zip(parts, grads, strict=False):
                    part.grad = grad
        self._update(self.optimizer)
