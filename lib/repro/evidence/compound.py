"""Criteria made of criteria: parts that must all hold, an order, versions of a paper that contradict each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from repro.evidence.criteria import (
    INCONCLUSIVE,
    NEITHER,
    NOT_REPRODUCED,
    REPRODUCED,
    Criterion,
    Finding,
    Method,
    above,
)
from repro.evidence.intervals import EvidenceError, as_array


@dataclass(frozen=True)
class Every:
    """All parts hold. Effects are a mapping part: effects, and so may be the method.

    Reproduced only if each part is, so the chance of a false *reproduced* is no larger than the least of the parts'
    (intersection-union test, Berger 1982); no correction for several looks is needed.
    """

    parts: Mapping[str, Criterion]

    @property
    def text(self) -> str:
        return "; ".join(f"{name} {part.text}" for name, part in self.parts.items())

    def judge(self, effects: Any, method: Method = None) -> Finding:
        if not isinstance(effects, Mapping) or set(effects) != set(self.parts):
            got = f"parts {', '.join(effects)}" if isinstance(effects, Mapping) else type(effects).__name__
            raise EvidenceError(f"effects must be a mapping with the parts {', '.join(self.parts)}; got {got}")
        findings = {name: _judge_part(name, part, effects[name], method) for name, part in self.parts.items()}
        return _all_of(self.text, findings)

    def only(self, names: Mapping[str, Any]) -> Every:
        """The same criterion for some of its parts: a negative control need not concern them all."""
        return Every({name: part for name, part in self.parts.items() if name in names} or self.parts)


def every(**parts: Criterion) -> Every:
    """All of the named criteria hold: ``every(fit=above(0.99), test=between(0.4, 0.6))``."""
    if len(parts) < 2:
        raise EvidenceError("every() joins at least two criteria")
    if any(isinstance(part, Versions) for part in parts.values()):
        raise EvidenceError("versions() cannot be a part of every(): put every() inside versions()")
    return Every(parts)


def _judge_part(name: str, part: Criterion, effects: Any, method: Method) -> Finding:
    try:
        return part.judge(effects, method.get(name) if isinstance(method, Mapping) else method)
    except EvidenceError as error:
        raise EvidenceError(f"part {name}: {error}") from None


def _all_of(text: str, findings: Mapping[str, Finding]) -> Finding:
    """The finding of the conjunction: the weakest part decides and lends its interval."""
    deciding = min(findings, key=lambda name: findings[name].weakness)
    weakest = findings[deciding]
    notes = tuple(f"{name}: {note}" for name, finding in findings.items() for note in finding.notes)
    exact = all(finding.exact for finding in findings.values())
    return Finding(text, weakest.verdict, weakest.interval, weakest.bounds, exact, notes, findings, deciding)


@dataclass(frozen=True)
class Ordered:
    """The effects [units, levels] rise from each level to the next, paired within units."""

    text: str = "each level above the one before"

    def judge(self, effects: Any, method: Method = None) -> Finding:
        levels = as_array(effects, ndim=2)
        if levels.shape[1] < 2:
            raise EvidenceError("an order needs effects [units, levels] with at least 2 levels")
        steps = {f"{i + 1} to {i + 2}": levels[:, i + 1] - levels[:, i] for i in range(levels.shape[1] - 1)}
        return _all_of(self.text, {name: _judge_part(name, above(0), step, method) for name, step in steps.items()})


def ordered() -> Ordered:
    """Every consecutive difference of the effects [units, levels] is above 0."""
    return Ordered()


@dataclass(frozen=True)
class Versions:
    """Published versions that contradict each other; the verdict says which one the effects support."""

    versions: Mapping[str, Criterion]

    @property
    def text(self) -> str:
        return " | ".join(f"{name}: {criterion.text}" for name, criterion in self.versions.items())

    def judge(self, effects: Any, method: Method = None) -> Finding:
        findings = {name: criterion.judge(effects, method) for name, criterion in self.versions.items()}
        supported = [name for name, finding in findings.items() if finding.verdict == REPRODUCED]
        missed = all(finding.verdict == NOT_REPRODUCED for finding in findings.values())
        verdict = f"supports {supported[0]}" if len(supported) == 1 else NEITHER if missed else INCONCLUSIVE
        shown = findings[supported[0]] if supported else next(iter(findings.values()))
        return Finding(self.text, verdict, shown.interval, shown.bounds, shown.exact, shown.notes, findings,
                       supported[0] if len(supported) == 1 else "")  # fmt: skip


def versions(criteria: Mapping[str, Criterion]) -> Versions:
    """Name each published version with its own criterion: ``versions({"v1": above(0), "v2": below(0)})``."""
    if len(criteria) < 2 or "neither" in criteria:
        raise EvidenceError("versions() takes at least two versions, none of them called 'neither'")
    return Versions(dict(criteria))
