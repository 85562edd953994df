"""Every committed notebook has the sections, the claims, the evidence and the tidiness that the book promises."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from repro.evidence.page import MIME
from repro.evidence.record import validate_record
from repro.parameters import declared, read_overrides, validate

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*/*.ipynb"))
#: A word of each second-level heading, in the order in which they must come. The experiment and its figures stand
#: between the idea and the evidence, under headings of the page's own.
SECTIONS = ("claims", "parameters", "idea", "evidence", "differs")
MAXIMUM_BYTES, MAXIMUM_LINES, MINIMUM_SEEDS = 300 * 1024, 40, 5

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=[f"{path.parent.name}/{path.stem}" for path in NOTEBOOKS])


def cells(path: Path) -> list[dict[str, Any]]:
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"]), "tags": cell["metadata"].get("tags", [])} for cell in found]


def code(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in cells(path) if cell["cell_type"] == "code" and cell["source"].strip()]


def outputs(path: Path, mime: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(cell, output) of every output that has data of a MIME type."""
    return [(cell, output) for cell in code(path) for output in cell["outputs"] if mime in output.get("data", {})]


def record(path: Path) -> dict[str, Any]:
    found = [output["data"][MIME] for _, output in outputs(path, MIME)]
    assert len(found) == 1
    return found[0]


def place(path: Path, what: str) -> list[int]:
    """Numbers of the cells in which ``what`` occurs as code, or as a second-level heading with that word."""
    heading = re.compile(rf"^## .*\b{re.escape(what)}", re.M | re.I)
    return [
        number
        for number, cell in enumerate(cells(path))
        if (what in cell["source"] if cell["cell_type"] == "code" else heading.search(cell["source"]))
    ]


def headings(path: Path, word: str) -> list[int]:
    return [number for number in place(path, word) if cells(path)[number]["cell_type"] == "markdown"]


def test_there_are_pages() -> None:
    assert NOTEBOOKS


@each
def test_it_opens_with_the_title_the_citation_and_the_paper(path: Path) -> None:
    first, paper = cells(path)[0]["source"], record(path)["paper"]
    assert re.match(r"# \S", first)
    assert re.search(rf"\{{cite[:\w]*\}}`{re.escape(paper['key'])}`", first)
    assert paper["arxiv"] is None or f"https://arxiv.org/abs/{paper['arxiv']}" in first


@each
def test_its_sections_come_in_the_books_order(path: Path) -> None:
    places = {word: headings(path, word) for word in SECTIONS}
    assert [word for word, found in places.items() if not found] == []
    firsts = [found[0] for found in places.values()]
    assert firsts == sorted(firsts), places
    between = [place for place in headings(path, "") if places["idea"][0] < place < places["evidence"][0]]
    assert between, "no section of its own between the idea and the evidence"


@each
def test_its_one_parameters_cell_declares_seed_and_threads(path: Path) -> None:
    assert [cell for cell in cells(path) if "injected-parameters" in cell["tags"]] == []
    tagged = [cell for cell in code(path) if "parameters" in cell["tags"]]
    assert len(tagged) == 1
    found = declared(path)
    assert found["seed"].default == 2026 and "threads" in found
    following = code(path)[code(path).index(tagged[0]) + 1]
    assert "check_parameters()" in following["source"]
    assert all(isinstance(line, ast.AnnAssign) for line in ast.parse(tagged[0]["source"]).body)


@each
def test_claims_are_stated_before_the_experiment_and_judged_after_it(path: Path) -> None:
    parameters, idea = headings(path, "parameters")[0], headings(path, "idea")[0]
    assert place(path, ".claim(") and max(place(path, ".claim(")) < parameters
    assert place(path, ".claims()") and max(place(path, ".claims()")) < parameters
    assert place(path, ".judge(") and min(place(path, ".judge(")) > idea


@each
def test_its_record_is_valid_and_its_own(path: Path) -> None:
    found = record(path)
    validate_record(found)
    assert (found["part"], found["slug"], found["scale"]) == (path.parent.name, path.stem, "small")


@each
def test_the_compared_cell_prints_the_records_verdicts(path: Path) -> None:
    compared = [cell for cell in code(path) if "nbval-check-output" in cell["tags"]]
    assert [cell["source"].strip().splitlines()[-1] for cell in compared] == ["page.verdicts()"]
    printed = "".join(text for output in compared[0]["outputs"] for text in output.get("text", []))
    assert printed.splitlines() == [f"{claim['id']}: {claim['verdict']}" for claim in record(path)["claims"]]


@each
def test_nothing_is_reproduced_on_few_seeds_or_beside_a_control_that_meets_it_too(path: Path) -> None:
    positive = [one for one in record(path)["claims"] if re.match("reproduced|supports (?!neither)", one["verdict"])]
    assert [one["id"] for one in positive if one["n"] < MINIMUM_SEEDS and not one.get("exact")] == []
    assert [one["id"] for one in positive if (one["control"] or {}).get("verdict") == one["verdict"]] == []
    assert any(claim["control"] for claim in record(path)["claims"]), "no claim has a negative control"


@each
def test_every_code_cell_was_executed_in_order_without_an_error(path: Path) -> None:
    assert [cell["execution_count"] for cell in code(path)] == list(range(1, len(code(path)) + 1))
    assert [output for cell in code(path) for output in cell["outputs"] if output["output_type"] == "error"] == []
    assert [output for cell in code(path) for output in cell["outputs"] if output.get("name") == "stderr"] == []


@each
def test_it_is_short_enough_to_read_and_to_keep(path: Path) -> None:
    assert path.stat().st_size < MAXIMUM_BYTES
    assert [cell["source"] for cell in code(path) if len(cell["source"].splitlines()) > MAXIMUM_LINES] == []


@each
def test_every_figure_has_alternative_text_and_one_is_the_cover(path: Path) -> None:
    figures = outputs(path, "image/png")
    told = [output["metadata"].get("repro", {}) for _, output in figures]
    assert figures and all(one.get("alt", "").strip() and one.get("caption", "").strip() for one in told)
    covers = [cell for cell in code(path) if "cover" in cell["tags"]]
    assert len(covers) == 1 and covers[0] == figures[0][0]


@each
def test_its_full_scale_is_described_beside_it(path: Path) -> None:
    beside = path.with_suffix(".full.yml")
    assert beside.exists()
    assert validate(declared(path), read_overrides(beside))
