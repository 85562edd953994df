"""A page's claims and surroundings as the record of schema.py: plain JSON, without NaN or infinity."""

from __future__ import annotations

import math
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro import parameters
from repro.evidence.criteria import Finding
from repro.evidence.intervals import EvidenceError
from repro.evidence.schema import SCHEMA, VERSION

if TYPE_CHECKING:
    from repro.evidence.page import Claim, Page, Side


def build(page: Page, claims: Iterable[Claim]) -> dict[str, Any]:
    """The record of `page` with its judged `claims`, validated."""
    now = parameters.current()
    record = {
        "schema": VERSION,
        "slug": page.slug,
        "part": page.part,
        "paper": {"title": page.title, "arxiv": page.arxiv, "key": page.key},
        "scale": parameters.scale(now, page.slug, page.part),
        "parameters": dict(now.values) if now else {},
        "claims": [_claim(claim) for claim in claims],
        "environment": environment(page),
    }
    validate_record(record)
    return record


def validate_record(record: Mapping[str, Any]) -> None:
    """Raise EvidenceError, naming where, if `record` does not follow the schema."""
    import jsonschema

    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(SCHEMA).iter_errors(record))
    if error:
        raise EvidenceError(f"evidence record: {error.json_path}: {error.message}")


def _claim(claim: Claim) -> dict[str, Any]:
    stated = {"id": claim.id, "statement": claim.statement, "reported": claim.reported}
    if claim.finding is None:
        unit = claim.unit if isinstance(claim.unit, str) else ""
        empty = {"criterion": claim.criterion.text, "n": 0, "estimate": None, "low": None, "high": None}
        found = {**empty, "unit": unit}
    else:
        found = _finding(claim.finding, claim.unit)
    sides = {"control": _side(claim.control, claim.unit)}
    if claim.precondition:
        sides["precondition"] = _side(claim.precondition, "")
    return {**stated, **found, "verdict": claim.verdict, **sides, "note": "; ".join(claim.notes)}


def _side(side: Side | None, unit: str | Mapping[str, str]) -> dict[str, Any] | None:
    return None if side is None else {"what": side.what, **_finding(side.finding, unit)}


def _finding(finding: Finding, unit: str | Mapping[str, str]) -> dict[str, Any]:
    """A finding with its parts; `unit` may name one per part."""
    interval, (low, high) = finding.interval, finding.bounds
    fields: dict[str, Any] = {
        "criterion": finding.criterion,
        "n": interval.n,
        "estimate": _number(interval.estimate),
        "low": _number(interval.low),
        "high": _number(interval.high),
        "unit": unit if isinstance(unit, str) else unit.get(finding.deciding, ""),
        "verdict": finding.verdict,
        "interval": interval.method,
        "exact": finding.exact,
        "diverged": interval.diverged,
        "threshold_low": _number(low),
        "threshold_high": _number(high),
    }
    if finding.parts:
        units = {name: unit if isinstance(unit, str) else unit.get(name, "") for name in finding.parts}
        fields["parts"] = [{"name": name, **_finding(part, units[name])} for name, part in finding.parts.items()]
        if finding.deciding:
            fields["deciding"] = finding.deciding
    else:
        fields["values"] = [_number(float(f"{value:.6g}")) for value in interval.values]
    return fields


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def environment(page: Page) -> dict[str, Any]:
    """Where and with what the page ran. Versions, processor and commit are read, never typed."""
    import numpy
    import torch

    found: dict[str, Any] = {
        "device": str(page.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "commit": commit(Path.cwd()),
        "started": page.started.isoformat(timespec="seconds"),
        "seconds": round(page.seconds, 1),
    }
    if found["device"].startswith("cuda"):
        found["accelerator"] = torch.cuda.get_device_name(page.device)
    return found


def processor() -> str:
    """The processor's marketing name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine() or "unknown"


def commit(folder: Path) -> str:
    """The git commit that `folder` is at, with '-dirty' if tracked files differ from it; 'unknown' outside git."""
    head = _git(folder, "rev-parse", "--short=12", "HEAD")
    if not head:
        return "unknown"
    return f"{head}-dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no") else head


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
