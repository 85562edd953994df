"""A rerun beside the published page: is the new estimate inside the published interval?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from repro.evidence.render import measured_text
from repro.site.runs import Run


def lines(notebook: Path, published: Path | None = None) -> list[str]:
    """One line a claim of ``notebook``; with ``published``, whether its estimate lies inside the published interval.

    Raises ValueError where a notebook cannot be read or holds no evidence record.
    """
    before = {claim["id"]: claim for claim in _claims(published)} if published else {}
    return [_line(claim, before.get(claim["id"])) for claim in _claims(notebook)]


def _claims(notebook: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(notebook.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {notebook}: {error}") from None
    record = Run("", "", "", notebook, notebook, notebook=content).record
    if record is None:
        raise ValueError(f"{notebook} holds no evidence record: was it executed to its end?")
    return record["claims"]


def _line(claim: dict[str, Any], before: dict[str, Any] | None) -> str:
    line = f"{claim['id']}: {claim['verdict']}, {measured_text(claim)}, n {claim['n']}"
    if not before or before.get("low") is None or claim.get("estimate") is None:
        return line
    where = "inside" if before["low"] <= claim["estimate"] <= before["high"] else "outside"
    return f"{line}; {where} the published {measured_text(before)}"
