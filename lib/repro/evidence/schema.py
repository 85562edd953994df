"""The evidence record's form, as a JSON Schema (draft 2020-12): what dashboard, gallery and tests rely on."""

from __future__ import annotations

from typing import Any

VERSION = 1
VERDICT = {
    "type": "string",
    "pattern": "^(reproduced|not reproduced|inconclusive|precondition failed|not tested here|supports .+)$",
}
NUMBER = {"type": ["number", "null"]}  # null: not finite, not measured, or (thresholds) no bound on that side
TEXT = {"type": "string", "minLength": 1}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


#: What a criterion found: shared by claims, their parts, controls and preconditions.
MEASURED: dict[str, Any] = {
    "n": {"type": "integer", "minimum": 0},
    "estimate": NUMBER,
    "low": NUMBER,
    "high": NUMBER,
    "verdict": VERDICT,
}
DETAIL: dict[str, Any] = {
    "exact": {"type": "boolean"},
    "interval": TEXT,
    "diverged": {"type": "integer", "minimum": 0},
    "values": {"type": "array", "items": NUMBER},
    "threshold_low": NUMBER,
    "threshold_high": NUMBER,
    "criterion": TEXT,
    "unit": {"type": "string"},
    "note": {"type": "string"},
    "deciding": TEXT,
}
PART = _object({**MEASURED, "name": TEXT, "criterion": TEXT}, DETAIL)
PARTS = {"type": "array", "items": PART}
SIDE = {"anyOf": [{"type": "null"}, _object({**MEASURED, "what": TEXT}, {**DETAIL, "parts": PARTS})]}
CLAIM = _object(
    {
        "id": {"type": "string", "pattern": "^[a-z][a-z0-9-]*$"},
        "statement": TEXT,
        "reported": TEXT,
        "criterion": TEXT,
        "unit": {"type": "string"},
        "control": SIDE,
        **MEASURED,
    },
    {**DETAIL, "parts": PARTS, "precondition": SIDE},
)
PAPER = _object({"title": TEXT, "arxiv": {"type": ["string", "null"]}, "key": TEXT})
ENVIRONMENT = _object(
    {
        "device": TEXT,
        "threads": {"type": "integer", "minimum": 1},
        "torch": TEXT,
        "python": TEXT,
        "commit": TEXT,
        "started": TEXT,
        "seconds": {"type": "number", "minimum": 0},
    },
    {"numpy": TEXT, "processor": TEXT, "accelerator": TEXT},
)
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Evidence record of a page",
    **_object(
        {
            "schema": {"const": VERSION},
            "slug": TEXT,
            "part": TEXT,
            "paper": PAPER,
            "scale": {"enum": ["small", "full", "custom"]},
            "claims": {"type": "array", "minItems": 1, "items": CLAIM},
            "environment": ENVIRONMENT,
        },
        {"parameters": {"type": "object"}},
    ),
}
