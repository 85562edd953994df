"""What is still to be written, named page by page: marks that ``make new`` left, and what a page needs besides."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from repro.new import MARK
from repro.site.citation import citations

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*/*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=[f"{path.parent.name}/{path.stem}" for path in NOTEBOOKS])


def marked(place: str, text: str) -> list[str]:
    """A line for each mark in ``text``, beginning with ``place``."""
    return [f"{place}: {line.strip()}" for line in text.splitlines() if re.search(rf"\b{MARK}\b", line)]


def name(left: list[str]) -> None:
    """Fail with one line for each thing that is left."""
    if left:
        pytest.fail("left to write:\n" + "\n".join(left), pytrace=False)


def key(path: Path) -> str:
    """The paper's key in the bibliography, as the notebook's title cell cites it."""
    first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    return re.search(r"\{cite[:\w]*\}`([^`,]+)`", first)[1]


@each
def test_nothing_is_left_to_write_in_its_cells(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    name([one for cell in cells for one in marked(f"cell {cell.get('id')}", "".join(cell["source"]))])


@each
def test_nothing_is_left_to_write_beside_it(path: Path) -> None:
    beside = (path.with_suffix(".full.yml"), ROOT / "book" / "parts" / f"{path.parent.name}.md")
    name([one for file in beside for one in marked(str(file.relative_to(ROOT)), file.read_text(encoding="utf-8"))])


@each
def test_its_bibliography_entry_is_complete_and_files_it_under_two_ideas(path: Path) -> None:
    entry = citations(ROOT / "book" / "references.bib")[key(path)]
    fields = {
        "author": entry.authors,
        "title": entry.title,
        "venue": entry.venue,
        "year": entry.year,
        "keywords": ", ".join(entry.ideas),
    }
    name([one for field, text in fields.items() for one in marked(f"references.bib, {field}", text)])
    assert len(entry.ideas) >= 2, "keywords of the entry name fewer than two ideas of book/ideas.yml"


@each
def test_its_full_scale_is_cut_for_the_tests(path: Path) -> None:
    cuts = yaml.safe_load((ROOT / "tests/book/shortened.yml").read_text(encoding="utf-8"))
    assert f"{path.parent.name}/{path.stem}" in cuts, "tests/book/shortened.yml does not say how to shorten it"
