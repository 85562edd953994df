"""Claims and evidence as tables for people: readable in plain Jupyter, styled by the book's CSS, and as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repro.evidence.page import Claim

#: Verdict: (CSS class, mark, colour). The mark and the words carry the meaning, the colour only repeats it.
LOOKS = {
    "reproduced": ("reproduced", "✓", "#009E73"),
    "not reproduced": ("not-reproduced", "✗", "#D55E00"),
    "inconclusive": ("inconclusive", "~", "#E69F00"),
    "precondition failed": ("precondition-failed", "∅", "#999999"),
    "not tested here": ("not-tested", "–", "#999999"),
}
SUPPORTS = ("supports", "→", "#0072B2")


def show(html: str, text: str, data: Mapping[str, Any] | None = None) -> None:
    """One notebook output in several forms; outside a notebook the text is printed."""
    from IPython.core.getipython import get_ipython
    from IPython.display import display

    if get_ipython() is None:
        print(text)
    else:
        display({"text/html": html, "text/plain": text, **(data or {})}, raw=True)


def claims_html(claims: Iterable[Claim]) -> str:
    """Table of the claims as stated."""
    rows = [_row(claim.id, [claim.statement, claim.reported, claim.criterion.text]) for claim in claims]
    head = ["claim", "statement", "the paper reports", "criterion"]
    return _table("Claims, as stated before the run", head, rows)


def claims_text(claims: Iterable[Claim]) -> str:
    """The same in plain text, one line a claim."""
    return "\n".join(f"{c.id}: {c.statement} [{c.criterion.text}; paper: {c.reported}]" for c in claims)


def evidence_html(record: Mapping[str, Any]) -> str:
    """Table of the judged claims; a compound claim's parts follow it, one row each."""
    rows = [row for claim in record["claims"] for row in _evidence_rows(claim)]
    head = ["claim", "criterion", "the paper reports", "estimate, 95 % interval", "n", "negative control", "verdict"]
    return _table(f"Evidence at the {record['scale']} scale", head, rows)


def _evidence_rows(claim: Mapping[str, Any]) -> list[str]:
    side = claim["control"]
    control = f"{escape(side['what'])}: {measured(side)} – {escape(side['verdict'])}" if side else "none"
    verdict = badge(claim["verdict"])
    if claim["note"]:
        verdict += f'<br><small class="verdict-note">{escape(claim["note"])}</small>'
    label = f'{escape(claim["id"])}<br><small style="font-weight:400">{escape(claim["statement"])}</small>'
    if "deciding" in claim:  # criteria, estimates and units stand in the rows of the parts
        asked, found, units = f"{len(claim['parts'])} parts, below", f"{escape(claim['deciding'])} decides", ""
    else:
        asked, found, units = escape(claim["criterion"]), measured(claim), _units(claim)
    cells = [asked, escape(claim["reported"]), found, units, control, verdict]
    return [_row(label, cells, raw=True)] + [_part_row(part) for part in claim.get("parts", [])]


def _part_row(part: Mapping[str, Any]) -> str:
    label = f'<span style="font-weight:400;padding-left:1em">{escape(part["name"])}</span>'
    cells = [escape(part["criterion"]), "", measured(part), _units(part), "", badge(part["verdict"])]
    return _row(label, cells, raw=True)


def badge(verdict: str) -> str:
    """The verdict as a marked, coloured label."""
    name, mark, colour = LOOKS.get(verdict, SUPPORTS)
    style = f"border-left:.3em solid {colour};padding-left:.4em;font-weight:600"
    words = f'<span aria-hidden="true">{mark} </span>{escape(verdict)}'
    return f'<span class="verdict verdict-{name}" style="{style}">{words}</span>'


def measured(found: Mapping[str, Any]) -> str:
    """Estimate, interval and unit as HTML."""
    return escape(measured_text(found))


def measured_text(found: Mapping[str, Any]) -> str:
    """Estimate, interval and unit, e.g. '0.312 [0.281, 0.343] cosine'."""
    if found["estimate"] is None:
        return "–"
    unit = f" {found['unit']}" if found.get("unit") else ""
    if found.get("exact"):
        return f"{found['estimate']:.6g}{unit} (exact)"
    ends = ", ".join("–" if end is None else f"{end:.3g}" for end in (found["low"], found["high"]))
    return f"{found['estimate']:.3g} [{ends}]{unit}"


def _units(found: Mapping[str, Any]) -> str:
    diverged = f" ({found['diverged']} diverged)" if found.get("diverged") else ""
    return f"{found['n']}{diverged}" if found["n"] else "–"


def evidence_text(record: Mapping[str, Any]) -> str:
    """The judged claims in plain text, one line each."""
    lines = [
        f"{claim['id']}: {claim['verdict']} | {measured_text(claim)} | n = {_units(claim)} | {claim['criterion']}"
        for claim in record["claims"]
    ]
    return "\n".join([f"Evidence at the {record['scale']} scale", *lines])


def _row(label: str, cells: Iterable[str], raw: bool = False) -> str:
    clean = str if raw else escape
    columns = "".join(f'<td style="text-align:left">{clean(cell)}</td>' for cell in cells)
    return f'<tr><th scope="row" style="text-align:left">{clean(label)}</th>{columns}</tr>'


def _table(caption: str, head: Iterable[str], rows: Iterable[str]) -> str:
    columns = "".join(f'<th scope="col" style="text-align:left">{escape(name)}</th>' for name in head)
    return (
        '<div class="evidence" style="overflow-x:auto"><table class="evidence-table">'
        f'<caption style="text-align:left">{escape(caption)}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
