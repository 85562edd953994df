"""A page of the book as evidence: claims are declared, then judged, then left behind as one record."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from repro.evidence.compound import Every
from repro.evidence.criteria import INCONCLUSIVE, Criterion, Finding, Method
from repro.evidence.intervals import EvidenceError

PARTS = ("landscape", "theory", "sparsity", "representation", "data", "ensembles", "meta", "structure", "agents")
PRECONDITION_FAILED, UNTESTED = "precondition failed", "not tested here"
MIME = "application/vnd.repro.evidence+json"


@dataclass(frozen=True)
class Side:
    """What stands beside a claim: its negative control or its precondition."""

    what: str
    finding: Finding


@dataclass
class Claim:
    """A claim as stated and, once judged, what became of it."""

    id: str
    statement: str
    reported: str
    criterion: Criterion
    unit: str | Mapping[str, str] = ""
    finding: Finding | None = None
    verdict: str = ""
    control: Side | None = None
    precondition: Side | None = None
    notes: tuple[str, ...] = ()


class Page:
    """One reproduction: `slug` and `part` place it, `key` is its entry in references.bib.

    Set `device` to where the page computes before calling `evidence()`.
    """

    def __init__(
        self, slug: str, part: str, title: str, key: str, arxiv: str | None = None, device: str = "cpu"
    ) -> None:
        if part not in PARTS:
            raise EvidenceError(f"part {part!r} is not one of {', '.join(PARTS)}")
        self.slug, self.part, self.title, self.key, self.arxiv = slug, part, title, key, arxiv
        self.device = device
        self.started = datetime.now(UTC)
        self._clock = time.perf_counter()
        self._claims: dict[str, Claim] = {}

    @property
    def seconds(self) -> float:
        """Seconds since the page began."""
        return time.perf_counter() - self._clock

    def claim(
        self, id: str, statement: str, reported: str, criterion: Criterion, unit: str | Mapping[str, str] = ""
    ) -> None:
        """State a claim before anything runs; `unit` is the effect's, or a mapping part: unit."""
        if not re.fullmatch(r"[a-z][a-z0-9-]*", id):
            raise EvidenceError(f"claim id {id!r} is not a lower-case word such as c1")
        if id in self._claims:
            raise EvidenceError(f"{id}: declared twice")
        if any(claim.verdict for claim in self._claims.values()):
            raise EvidenceError(f"{id}: declared after a claim was judged; state every claim before the run")
        if not hasattr(criterion, "judge"):
            raise EvidenceError(f"{id}: criterion {criterion!r} is none; use above, below, within, ...")
        if not statement or not reported:
            raise EvidenceError(f"{id}: say what the claim is and what the paper reported ('qualitative' if no number)")
        self._claims[id] = Claim(id, statement, reported, criterion, unit)

    def judge(
        self,
        id: str,
        effects: Any,
        control: tuple[str, Any] | None = None,
        precondition: tuple[str, Any, Criterion] | None = None,
        interval: Method = None,
    ) -> None:
        """Judge a declared claim on `effects`, one per independent unit (see the claim's criterion for their form).

        control: (what was permuted or removed, its effects), judged by the same criterion, or by those of its parts
        that it has effects for; if that is met too, the claim cannot come out better than inconclusive.
        precondition: (what must have appeared, its effects, its criterion).
        interval: a method of repro.evidence.intervals, or a mapping part: method; by default the one that keeps false
        *reproduced* under 5 %.
        Raises EvidenceError, naming the claim, for an undeclared id, a second judgement or effects that do not fit.
        """
        claim = self._open(id)
        try:
            finding = claim.criterion.judge(effects, interval)
            control_side = control and _judge_control(claim.criterion, *control, interval)
            precondition_side = precondition and _judge_precondition(*precondition)
        except EvidenceError as error:
            raise EvidenceError(f"{id}: {error}") from None
        claim.finding, claim.control, claim.precondition = finding, control_side, precondition_side
        claim.verdict, claim.notes = _conclude(finding, control_side, precondition_side)

    def untested(self, id: str, reason: str) -> None:
        """Leave a declared claim to another scale, saying why; raises EvidenceError like `judge`."""
        claim = self._open(id)
        if not reason:
            raise EvidenceError(f"{id}: say why it is not tested here")
        claim.verdict, claim.notes = UNTESTED, (reason,)

    def _open(self, id: str) -> Claim:
        if id not in self._claims:
            raise EvidenceError(f"{id}: not a declared claim; declared: {', '.join(self._claims) or 'none'}")
        if self._claims[id].verdict:
            raise EvidenceError(f"{id}: judged twice; a claim has one verdict")
        return self._claims[id]

    def claims(self) -> None:
        """Show the claims as stated."""
        from repro.evidence import render

        stated = self._stated()
        render.show(render.claims_html(stated), render.claims_text(stated))

    def record(self) -> dict[str, Any]:
        """The evidence record (repro.evidence.schema); raises EvidenceError while a claim is left unjudged."""
        from repro.evidence.record import build

        return build(self, self._judged())

    def evidence(self) -> None:
        """Leave the evidence behind: one output holding the record, and a table of it for people."""
        from repro.evidence import render

        record = self.record()
        render.show(render.evidence_html(record), render.evidence_text(record), {MIME: record})

    def verdicts(self) -> None:
        """Print one line a claim, without numbers: what must not change from run to run."""
        for claim in self._judged():
            print(f"{claim.id}: {claim.verdict}")

    def _stated(self) -> list[Claim]:
        if not self._claims:
            raise EvidenceError(f"page {self.slug} states no claim")
        return list(self._claims.values())

    def _judged(self) -> list[Claim]:
        left = [claim.id for claim in self._stated() if not claim.verdict]
        if left:
            raise EvidenceError(f"not judged: {', '.join(left)}; judge each claim or say page.untested(id, reason)")
        return list(self._claims.values())


def _judge_precondition(what: str, effects: Any, criterion: Criterion) -> Side:
    try:
        return Side(what, criterion.judge(effects))
    except EvidenceError as error:
        raise EvidenceError(f"precondition: {error}") from None


def _judge_control(criterion: Criterion, what: str, effects: Any, method: Method) -> Side:
    if isinstance(criterion, Every) and isinstance(effects, Mapping):
        criterion = criterion.only(effects)
    try:
        return Side(what, criterion.judge(effects, method))
    except EvidenceError as error:
        raise EvidenceError(f"negative control: {error}") from None


def _conclude(finding: Finding, control: Side | None, precondition: Side | None) -> tuple[str, tuple[str, ...]]:
    """The verdict after control and precondition had their say, and the notes that explain it."""
    verdict, notes = finding.verdict, finding.notes
    if control and control.finding.met:
        verdict = INCONCLUSIVE if finding.met else verdict
        notes += ("the negative control meets the criterion too",)
    if precondition and not precondition.finding.met:
        verdict = PRECONDITION_FAILED
        notes += (f"precondition not met: {precondition.what} ({precondition.finding.criterion})",)
    return verdict, notes
