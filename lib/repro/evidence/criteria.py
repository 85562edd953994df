"""What decides a claim. A criterion turns effects, one per unit, into a finding: interval, verdict and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from repro.evidence.intervals import (
    DEFAULT,
    SHARES,
    EvidenceError,
    Interval,
    as_array,
    mean_interval,
    require_units,
    share_interval,
)

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE = "reproduced", "not reproduced", "inconclusive"
NEITHER = "supports neither"
Method = str | Mapping[str, str] | None


@dataclass(frozen=True)
class Finding:
    """What a criterion makes of effects. A compound one's interval is its deciding part's, named by `deciding`."""

    criterion: str
    verdict: str
    interval: Interval
    bounds: tuple[float, float] = (-math.inf, math.inf)
    exact: bool = False
    notes: tuple[str, ...] = ()
    parts: Mapping[str, Finding] = field(default_factory=dict)
    deciding: str = ""

    @property
    def met(self) -> bool:
        """Whether the criterion (or one version's) is met: what a negative control must not be."""
        return self.verdict == REPRODUCED or (self.verdict.startswith("supports ") and self.verdict != NEITHER)

    @property
    def weakness(self) -> tuple[int, bool, float]:
        """Sorts findings, the one that decides first: by verdict, then measured parts before identities (whose n is 1),
        then by distance from the bound in half-widths."""
        rank = [NOT_REPRODUCED, INCONCLUSIVE, REPRODUCED].index(self.verdict)
        low, high = self.interval.low, self.interval.high
        margin = min(low - self.bounds[0], self.bounds[1] - high) / max((high - low) / 2, 1e-12)
        return rank, self.exact, -math.inf if math.isnan(margin) else margin


class Criterion(Protocol):
    """A rule fixed before the run; `text` is how the claims table words it."""

    @property
    def text(self) -> str: ...

    def judge(self, effects: Any, method: Method = None) -> Finding:
        """Judge effects with intervals by `method` (None: the criterion's default); EvidenceError if it cannot."""
        ...


@dataclass(frozen=True)
class Region:
    """The mean effect lies between `low` and `high`; `closed` says whether the ends themselves count."""

    low: float
    high: float
    text: str
    closed: bool = True

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise EvidenceError(f"criterion {self.text!r} can never be met")

    def judge(self, effects: Any, method: Method = None) -> Finding:
        if isinstance(effects, Mapping):
            raise EvidenceError(f"{self.text!r} takes one effect per unit, not parts {', '.join(effects)}")
        interval = effects if isinstance(effects, Interval) else mean_interval(effects, _one(method) or DEFAULT)
        require_units(interval.n)
        return self.decide(interval)

    def decide(self, interval: Interval) -> Finding:
        """Whole interval inside: reproduced; wholly outside: not; else, or if a unit diverged, inconclusive."""
        verdict = self._verdict(interval.low, interval.high)
        notes = [interval.note] if interval.note else []
        if interval.diverged:
            notes.append(f"{interval.diverged} of {interval.n} units diverged")
            verdict = INCONCLUSIVE if verdict == REPRODUCED else verdict
        return Finding(self.text, verdict, interval, (self.low, self.high), notes=tuple(notes))

    def _verdict(self, low: float, high: float) -> str:
        if self.closed:
            inside, outside = self.low <= low and high <= self.high, high < self.low or self.high < low
        else:
            inside, outside = self.low < low and high < self.high, high <= self.low or self.high <= low
        return REPRODUCED if inside else NOT_REPRODUCED if outside else INCONCLUSIVE


def above(threshold: float) -> Region:
    """The effect exceeds `threshold`."""
    return Region(threshold, math.inf, f"above {threshold:g}", closed=False)


def below(threshold: float) -> Region:
    """The effect is smaller than `threshold`."""
    return Region(-math.inf, threshold, f"below {threshold:g}", closed=False)


def between(low: float, high: float) -> Region:
    """The effect lies in [low, high]: the whole interval does, not merely a p > .05 against leaving it."""
    return Region(low, high, f"between {low:g} and {high:g}")


def within(centre: float, tolerance: float) -> Region:
    """The effect lies within `tolerance` of `centre`, e.g. of a theory's or a paper's value."""
    return Region(centre - tolerance, centre + tolerance, f"within {tolerance:g} of {centre:g}")


@dataclass(frozen=True)
class Share:
    """A share of units passes: effects are true or false per unit, and a diverged unit counts against the claim."""

    region: Region

    @property
    def text(self) -> str:
        return self.region.text

    def judge(self, effects: Any, method: Method = None) -> Finding:
        against = self.region.low < 0  # 'at most': the unit that diverged is one more that did
        interval = share_interval(effects, _one(method) or SHARES[0], missing=against)
        finding = self.region.decide(replace(interval, diverged=0))
        notes = (f"{interval.diverged} of {interval.n} units diverged and count against the claim",)
        return replace(finding, interval=interval, notes=notes if interval.diverged else ())


def share(at_least: float | None = None, at_most: float | None = None) -> Share:
    """The share of units for which the effect is true is at least, or at most, the given number in (0, 1)."""
    bound = at_least if at_most is None else at_most
    if bound is None or (at_least is not None and at_most is not None) or not 0 < bound < 1:
        raise EvidenceError("share() takes one of at_least and at_most, between 0 and 1")
    if at_most is None:
        return Share(Region(bound, math.inf, f"share at least {bound:g}"))
    return Share(Region(-math.inf, bound, f"share at most {bound:g}"))


@dataclass(frozen=True)
class Exactly:
    """An identity: every value given equals `value` up to `tolerance`. Nothing is drawn, so n = 1 and no interval."""

    value: float
    tolerance: float

    @property
    def text(self) -> str:
        return f"equals {self.value:g} to within {self.tolerance:g}"

    def judge(self, effects: Any, method: Method = None) -> Finding:
        if isinstance(effects, Interval) or method is not None:
            raise EvidenceError(f"{self.text!r} is an identity: it takes numbers, and has no interval")
        values = as_array(effects, np.ndim(effects)).ravel()
        finite = values[np.isfinite(values)]
        if not len(finite):
            raise EvidenceError(f"{self.text!r} was given no finite value")
        worst = float(finite[np.abs(finite - self.value).argmax()])
        broken = len(values) - len(finite)
        verdict = REPRODUCED if abs(worst - self.value) <= self.tolerance else NOT_REPRODUCED
        if broken and verdict == REPRODUCED:
            verdict = INCONCLUSIVE
        notes = (f"{broken} of {len(values)} values are not finite",) if broken else ()
        bounds = (self.value - self.tolerance, self.value + self.tolerance)
        point = Interval(worst, worst, worst, 1, broken, "exact", tuple(values.tolist()))
        return Finding(self.text, verdict, point, bounds, exact=True, notes=notes)


def exactly(value: float, tolerance: float = 0.0) -> Exactly:
    """An algebraic identity or a theorem's number, checked on one value or on many (the worst decides)."""
    if not tolerance >= 0:
        raise EvidenceError(f"tolerance {tolerance} is negative")
    return Exactly(value, tolerance)


def _one(method: Method) -> str | None:
    if isinstance(method, Mapping):
        raise EvidenceError("interval by part only fits a criterion with parts")
    return method
