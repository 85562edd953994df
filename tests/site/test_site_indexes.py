"""Indexes across papers: what a notebook uses of the library, and what its paper is filed under."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from specimen import REPOSITORY

from repro.site import indexes
from repro.site.citation import Citation, citations
from repro.site.runs import Run
from repro.site.uses import summary, uses

CODE = {
    "repro/__init__.py": "",
    "repro/measure/__init__.py": "from repro.measure.probe import accuracy",
    "repro/measure/probe.py": 'def accuracy(x):\n    """Share of hits\n    on a probe.\n\n    More."""\ndef _hidden(): ...',
    "repro/measure/far.py": "class Distance: ...",
}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    for name, source in CODE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    return tmp_path


def used(library: Path, *cells: str) -> list[str]:
    return uses(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), library)


@pytest.mark.parametrize(
    "code",
    [
        "from repro.measure.probe import accuracy",
        "from repro.measure.probe import accuracy as a",
        "from repro.measure import accuracy",
        "from repro.measure import probe\nprobe.accuracy(1)",
        "import repro.measure.probe as p\np.accuracy(1)",
    ],
)
def test_a_function_is_found_however_it_is_imported(library: Path, code: str) -> None:
    assert used(library, code) == ["repro.measure.probe.accuracy"]


def test_modules_private_names_and_other_packages_are_no_measurements(library: Path) -> None:
    assert used(library, "import numpy as np\nfrom repro.measure import far\nfrom repro.measure.probe import _hidden",
                "np.mean(1)") == []  # fmt: skip


def test_a_summary_is_the_docstrings_first_paragraph_on_one_line(library: Path) -> None:
    assert summary("repro.measure.probe.accuracy", library) == "Share of hits on a probe."
    assert summary("repro.measure.far.Distance", library) == ""


def run(slug: str, code: str = "", scale: str = "small") -> Run:
    title = nbformat.v4.new_markdown_cell(f"# Page {slug}\n\n{{cite}}`{slug}`")
    notebook = nbformat.v4.new_notebook(cells=[title, nbformat.v4.new_code_cell(code)])
    return Run("theory", slug, scale, Path(), Path(), notebook=notebook)


def test_a_measurement_lists_all_small_pages_that_use_it(library: Path) -> None:
    code = "from repro.measure import accuracy"
    runs = [run("a", code), run("a", code, "full"), run("b"), run("c", code)]
    found = indexes.by_measurement(runs, library)
    assert {name: [one.slug for one in pages] for name, pages in found.items()} == {
        "repro.measure.probe.accuracy": ["a", "c"]}  # fmt: skip
    page = indexes.measurements_page(found, library)
    assert "## Probe" in page and "Share of hits on a probe." in page and "[Page c](/notebooks/theory/c.ipynb)" in page


def cited(*ideas: str) -> Citation:
    return Citation("A", "T", "V", "2020", ideas)


def test_ideas_keep_the_vocabularys_order_and_empty_ones_are_left_out() -> None:
    found = indexes.by_idea([run("a"), run("b")], {"a": cited("pruning"), "b": cited("pruning", "noise")},
                            {"noise": "N.", "depth": "D.", "pruning": "P."})  # fmt: skip
    assert {idea: [one.slug for one in pages] for idea, pages in found.items()} == {
        "noise": ["b"],
        "pruning": ["a", "b"],
    }
    assert list(found) == ["noise", "pruning"]


def test_an_unknown_idea_is_one_error_that_suggests_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"a: keyword 'prunning' is not in book/ideas.yml \(did you mean 'pruning'\?\)"
    ):
        indexes.by_idea([run("a")], {"a": cited("prunning")}, {"pruning": "P."})


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: b: c\n", "a:\n"])
def test_a_broken_list_of_ideas_is_one_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "ideas.yml").write_text(text)
    with pytest.raises(ValueError, match=r"ideas\.yml"):
        indexes.read_ideas(tmp_path / "ideas.yml")


def test_the_books_ideas_are_in_alphabetical_order_each_with_a_sentence() -> None:
    ideas = indexes.read_ideas(REPOSITORY / "book/ideas.yml")
    assert list(ideas) == sorted(ideas)
    assert [idea for idea, sentence in ideas.items() if not sentence.endswith(".")] == []


def test_every_paper_in_the_bibliography_is_filed_under_known_ideas() -> None:
    ideas = indexes.read_ideas(REPOSITORY / "book/ideas.yml")
    filed = citations(REPOSITORY / "book/references.bib")
    assert {key: set(one.ideas) - set(ideas) for key, one in filed.items() if set(one.ideas) - set(ideas)} == {}
