"""The records as data: what lies at the root of the site, and that its description is true."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import jsonschema
import pytest

from repro.site import export, fields
from repro.site.runs import collect
from repro.site.stage import stage


@pytest.fixture(scope="module")
def extra(root: Path) -> Path:
    stage(root, root / "_build/runs", root / "_build/book")
    return root / "_build/book/_extra"


def test_json_holds_the_records_whole_and_the_failures_by_name(extra: Path) -> None:
    whole = json.loads((extra / "evidence.json").read_text())
    assert [(one["slug"], one["scale"]) for one in whole["records"]] == [
        ("stiffness", "small"), ("stiffness", "full"), ("cka", "small")]  # fmt: skip
    assert whole["failures"][0]["page"] == "theory/self-normalizing"


def test_json_follows_the_schema_that_lies_beside_it_and_a_spoilt_one_does_not(extra: Path) -> None:
    schema, whole = (json.loads((extra / name).read_text()) for name in ("evidence.schema.json", "evidence.json"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(whole, schema)
    whole["records"][0]["claims"][0]["verdict"] = "proved"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(whole, schema)


def test_csv_has_one_row_a_claim_under_the_documented_columns(extra: Path) -> None:
    with (extra / "evidence.csv").open() as file:
        table = csv.DictReader(file)
        rows = list(table)
    assert table.fieldnames == list(fields.COLUMNS)
    assert len(rows) == 8
    assert rows[1]["claim"] == "c2" and float(rows[1]["estimate"]) == 0.01 and rows[1]["verdict"] == "not reproduced"
    assert rows[1]["control_verdict"] == "not reproduced" and rows[1]["commit"] == "0123456789ab"


def test_every_column_is_filled_somewhere_in_the_books_own_records(tmp_path: Path) -> None:
    from specimen import REPOSITORY

    export.write(collect(REPOSITORY, tmp_path), tmp_path)
    with (tmp_path / "evidence.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [name for name in fields.COLUMNS if not any(row[name] for row in rows)] == []


def test_the_page_on_records_documents_every_column_and_every_field_that_a_record_has(extra: Path) -> None:
    page = (extra.parent / "records.md").read_text()
    assert all(f"| `{name}` | " in page for name in fields.COLUMNS)
    for field in ("`slug`", "`paper.arxiv`", "`claims[].estimate`", "`claims[].control.what`", "`claims[].parts[]`",
                  "`environment.commit`"):  # fmt: skip
        assert f"| {field} | " in page, field


def test_every_field_of_the_schema_has_a_meaning() -> None:
    rows = [line.split(" | ") for line in fields.fields_table().splitlines()[2:]]
    assert len(rows) > 40 and [row[0] for row in rows if not row[1].strip()] == []
