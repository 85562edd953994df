"""What a notebook's job may use at a scale: accelerators, memory and time, told in the notebook's own metadata.

``metadata.repro = {"small": {"minutes": 2}, "full": {"gpu": 1, "memory_gb": 24, "minutes": 20}}``; what is not told
keeps its default. The runner holds jobs to the minutes, a cluster to all three.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from repro.parameters import OneLineError


class ResourceError(OneLineError):
    """A notebook's metadata asks for something that cannot be asked for."""


@dataclass(frozen=True)
class Resources:
    """``gpu``: whole accelerators; ``memory_gb``: main memory in GB (10^9 bytes); ``minutes``: wall time."""

    gpu: int
    memory_gb: float
    minutes: float


DEFAULTS = {"small": Resources(gpu=0, memory_gb=4, minutes=5), "full": Resources(gpu=1, memory_gb=16, minutes=60)}
#: Smallest and largest value that is taken for meant.
LIMITS = {"gpu": (0, 16), "memory_gb": (0.5, 4096), "minutes": (0.05, 7 * 24 * 60)}


def resources(notebook: Path, scale: str) -> Resources:
    """What ``notebook`` asks for at ``scale`` ("small" or "full"); raises ResourceError, one line, if it cannot be had."""
    asked = _asked(notebook)
    for name in asked:
        if name not in DEFAULTS:
            raise ResourceError(f"{notebook}: metadata.repro has {name!r}; allowed: {', '.join(DEFAULTS)}")
        _check(notebook, name, asked[name])
    return replace(DEFAULTS[scale], **asked.get(scale, {}))


def _asked(notebook: Path) -> Mapping[str, Any]:
    try:
        asked = json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("repro", {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResourceError(f"{notebook} is not a readable notebook: {type(error).__name__}: {error}") from None
    if not isinstance(asked, dict):
        raise ResourceError(f"{notebook}: metadata.repro is {asked!r}, not a mapping of scales")
    return asked


def _check(notebook: Path, scale: str, entry: Any) -> None:
    where = f"{notebook}: metadata.repro.{scale}"
    if not isinstance(entry, dict):
        raise ResourceError(f"{where} is {entry!r}, not a mapping like {asdict(DEFAULTS[scale])}")
    for name, value in entry.items():
        if name not in LIMITS:
            raise ResourceError(
                f"{where} has {name!r}; allowed: {', '.join(field.name for field in fields(Resources))}"
            )
        low, high = LIMITS[name]
        wanted = int if name == "gpu" else (int, float)
        if isinstance(value, bool) or not isinstance(value, wanted) or not low <= value <= high:
            kind = "a whole number" if name == "gpu" else "a number"
            raise ResourceError(f"{where}.{name} is {value!r}; allowed: {kind} in [{low}, {high}]")
