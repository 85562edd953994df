"""All evidence records as one JSON and one CSV file at the root of the site."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from repro.site.runs import Run

_COLUMNS = ("part", "slug", "scale", "title", "arxiv", "claim", "statement", "reported", "criterion", "n", "estimate",
            "low", "high", "unit", "verdict", "exact", "control", "control_estimate", "control_low", "control_high",
            "control_verdict", "device", "torch", "python", "commit", "started", "seconds")


def write(runs: list[Run], folder: Path) -> None:
    """Write ``evidence.json`` (records as they stand, failures by name) and ``evidence.csv`` (one row a claim)."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [run.record for run in runs if not run.failure]
    failures = [{"page": run.name, "why": run.failure} for run in runs if run.failure]
    whole = {"schema": 1, "records": records, "failures": failures}
    (folder / "evidence.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with (folder / "evidence.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, _COLUMNS)
        table.writeheader()
        table.writerows(_row(record, claim) for record in records for claim in record["claims"])


def _row(record: dict[str, Any], claim: dict[str, Any]) -> dict[str, Any]:
    control, environment = claim.get("control") or {}, record["environment"]
    row = {name: claim.get(name) for name in _COLUMNS[6:16]}
    row |= {name: record[name] for name in ("part", "slug", "scale")}
    row |= {"title": record["paper"]["title"], "arxiv": record["paper"].get("arxiv"), "claim": claim["id"]}
    row |= {f"control_{name}": control.get(name) for name in ("estimate", "low", "high", "verdict")}
    row |= {"control": control.get("what")}
    return row | {name: environment.get(name) for name in _COLUMNS[21:]}
