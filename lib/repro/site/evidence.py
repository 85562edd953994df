"""A page's evidence as the site shows it: from the record, every interval drawn against its criterion."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from repro.evidence.render import measured
from repro.site.card import badge
from repro.site.interval import drawing


def table(record: Mapping[str, Any]) -> str:
    """HTML of the judged claims; a compound claim's parts follow it, one row each."""
    bodies = "".join(f"<tbody>{_claim(claim)}</tbody>" for claim in record["claims"])
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Claim", "Measured", "Negative control", "Verdict"))
    return (
        '<div class="repro-scroll repro-evidence"><table class="repro-table">'
        f"<caption>Evidence at the {escape(record['scale'])} scale: estimate and 95 % interval, drawn against the "
        "shaded region that meets the criterion. Small dots are the single units, the hollow mark is the negative "
        f"control.</caption><thead><tr>{head}</tr></thead>{bodies}</table></div>"
    )


def _claim(claim: Mapping[str, Any]) -> str:
    control, parts = claim.get("control"), claim.get("parts") or []
    label = (f'<span class="repro-id">{escape(claim["id"])}</span> {escape(claim["statement"])}'
             f'<span class="repro-short">Criterion: {escape(claim["criterion"])}</span>'
             f'<span class="repro-short">The paper: {escape(claim["reported"])}</span>')  # fmt: skip
    found = (f"{len(parts)} parts, below; {escape(str(claim.get('deciding')))} decides" if "deciding" in claim
             else _measured(claim, control))  # fmt: skip
    verdict = badge(claim["verdict"], claim["verdict"])
    if claim.get("note"):
        verdict += f'<span class="repro-short">{escape(claim["note"])}</span>'
    controls = {part["name"]: part for part in (control or {}).get("parts") or []}
    rows = [_row(label, found, _control(control), verdict, f' id="claim-{escape(claim["id"])}"')]
    return "".join(rows + [_part(part, controls.get(part["name"])) for part in parts])


def _part(part: Mapping[str, Any], control: Mapping[str, Any] | None) -> str:
    label = f'{escape(part["name"])}<span class="repro-short">Criterion: {escape(part["criterion"])}</span>'
    beside = measured(control) if control else ""
    return _row(label, _measured(part, control), beside, badge(part["verdict"], part["verdict"]),
                ' class="repro-part"')  # fmt: skip


def _measured(found: Mapping[str, Any], control: Mapping[str, Any] | None) -> str:
    diverged = f", {found['diverged']} diverged" if found.get("diverged") else ""
    units = f'<span class="repro-short">n = {found["n"]}{diverged}</span>' if found["n"] else ""
    return f'{drawing(found, control)}<span class="repro-number">{measured(found)}</span>{units}'


def _control(control: Mapping[str, Any] | None) -> str:
    if not control:
        return "none"
    number = "" if "deciding" in control else f'<span class="repro-number">{measured(control)}</span>, '
    return f"{escape(control['what'])}: {number}{escape(control['verdict'])}"


def _row(label: str, found: str, control: str, verdict: str, attributes: str) -> str:
    empty = "" if control else ' class="repro-empty"'
    return (f'<tr{attributes}><th scope="row">{label}</th><td data-label="Measured">{found}</td>'
            f'<td data-label="Negative control"{empty}>{control}</td><td data-label="Verdict">{verdict}</td></tr>'
            )  # fmt: skip
