"""All evidence records as one JSON and one CSV file at the root of the site, with the schema of the former."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from repro.evidence.schema import SCHEMA, VERSION
from repro.site.fields import COLUMNS
from repro.site.runs import Run

#: evidence.json as a whole; its records follow the schema that every notebook's record is checked against.
WHOLE: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "All evidence records of Deep Learning, Reproduced",
    "type": "object",
    "required": ["schema", "records", "failures"],
    "properties": {
        "schema": {"const": VERSION},
        "records": {"type": "array", "items": {"$ref": "#/$defs/record"}},
        "failures": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["page", "why"],
                "properties": {"page": {"type": "string"}, "why": {"type": "string"}},
            },
        },
    },
    "$defs": {"record": SCHEMA},
}


def write(runs: list[Run], folder: Path) -> None:
    """Write ``evidence.json`` (records as they stand, failures by name), its schema ``evidence.schema.json`` and
    ``evidence.csv`` (one row a claim).
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = [run.record for run in runs if not run.failure]
    failures = [{"page": run.name, "why": run.failure} for run in runs if run.failure]
    whole = {"schema": VERSION, "records": records, "failures": failures}
    (folder / "evidence.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "evidence.schema.json").write_text(json.dumps(WHOLE, indent=1) + "\n", encoding="utf-8")
    with (folder / "evidence.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(COLUMNS))
        table.writeheader()
        table.writerows(_row(record, claim) for record in records for claim in record["claims"])


def _row(record: dict[str, Any], claim: dict[str, Any]) -> dict[str, Any]:
    control, environment = claim.get("control") or {}, record["environment"]
    row = {name: claim.get(name) for name in COLUMNS if name in claim}
    row |= {name: environment.get(name) for name in COLUMNS if name in environment}
    row |= {name: record[name] for name in ("part", "slug", "scale")}
    row |= {"title": record["paper"]["title"], "arxiv": record["paper"].get("arxiv"), "claim": claim["id"]}
    row |= {f"control_{name}": control.get(name) for name in ("estimate", "low", "high", "verdict")}
    return row | {"control": control.get("what")}
