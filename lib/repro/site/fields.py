"""What the fields of the published records mean: the tables of the page on the records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from repro.evidence.schema import SCHEMA

#: Columns of evidence.csv: what each holds.
COLUMNS = {
    "part": "part of the book",
    "slug": "name of the page in its part",
    "scale": "small or full",
    "title": "title of the paper",
    "arxiv": "its arXiv number; empty where it has none",
    "claim": "id of the claim on its page",
    "statement": "the claim in a sentence",
    "reported": "what the paper reports",
    "criterion": "what decides, stated before the run",
    "n": "independent units behind the estimate; 0 where nothing was measured",
    "estimate": "mean effect over the units, or the statistic that the page states; of the deciding part in a compound claim",
    "low": "lower end of the 95 % interval",
    "high": "upper end of the 95 % interval",
    "unit": "unit of the effect",
    "verdict": "reproduced, not reproduced, inconclusive, precondition failed, not tested here, or supports a version",
    "exact": "True for an identity or a theorem's number, which has no interval",
    "control": "what the negative control changes; empty where the claim has none",
    "control_estimate": "the control's effect, measured in the same way",
    "control_low": "lower end of its 95 % interval",
    "control_high": "upper end of its 95 % interval",
    "control_verdict": "its verdict by the claim's own criterion",
    "device": "where the page computed",
    "torch": "version of PyTorch",
    "python": "version of Python",
    "commit": "revision of this project that ran; -dirty where files differed from it",
    "started": "when the run began, UTC",
    "seconds": "how long it took",
}  # fmt: skip
#: Fields of a record that are no columns too: what each holds, by the last part of its name.
FIELDS = {
    "schema": "version of the record's form",
    "paper": "the paper that the page reproduces",
    "key": "its key in the book's bibliography",
    "claims": "what was claimed and what became of it",
    "id": COLUMNS["claim"],
    "control": "the negative control, measured and judged like the claim",
    "precondition": "what must have appeared for the claim to mean anything, measured and judged",
    "what": "what was changed, or what must have appeared",
    "interval": "method of the interval",
    "diverged": "units whose run diverged",
    "values": "the single units' effects",
    "threshold_low": "lower end of the region that meets the criterion",
    "threshold_high": "upper end of that region",
    "note": "why the verdict is not what the interval alone would give",
    "parts": "parts of a compound claim",
    "deciding": "name of the part that decided",
    "name": "name of the part",
    "environment": "where and with what the page ran",
    "threads": "CPU threads",
    "numpy": "version of NumPy",
    "processor": "name of the processor",
    "accelerator": "name of the accelerator",
    "parameters": "values of all the page's parameters",
}


def columns_table() -> str:
    """Markdown: the columns of evidence.csv."""
    return _table(("Column", "What it holds"), ((f"`{name}`", told) for name, told in COLUMNS.items()))


def fields_table() -> str:
    """Markdown: the fields of one record in evidence.json, read from the schema."""
    return _table(("Field", "What it holds", "Type"), _fields(SCHEMA, ""))


def _fields(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, ...]]:
    for name, field in schema["properties"].items():
        inner = next((one for one in [field, *field.get("anyOf", [])] if "properties" in one), None)
        items = field.get("items", {})
        here = f"{path}{name}" + ("[]" if "properties" in items else "")
        told = {**COLUMNS, **FIELDS}.get(name, "")
        optional = "" if name in schema["required"] else ", may be absent"
        yield f"`{here}`", told, _type(field) + optional
        if inner:
            yield from _fields(inner, f"{here}.")
        elif "properties" in items and name != "parts":  # a part holds what a claim holds
            yield from _fields(items, f"{here}.")


def _type(field: Mapping[str, Any]) -> str:
    if "const" in field:
        return f"the number {field['const']}"
    if "enum" in field:
        return "one of " + ", ".join(field["enum"])
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"])
    kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
    return " or ".join(kinds) + (" of " + _type(field["items"]) + "s" if "items" in field else "")


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(head), *map(tuple, rows)]
    lines.insert(1, ("---",) * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
