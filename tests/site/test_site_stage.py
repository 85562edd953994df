"""Staging: which run stands for a page, what the staged tree holds, what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest
import specimen
import yaml

from repro.evidence.record import validate_record
from repro.site.__main__ import main
from repro.site.runs import collect
from repro.site.stage import stage


@pytest.fixture(scope="module")
def staged(root: Path) -> Path:
    stage(root, root / "_build/runs", root / "_build/book")
    return root / "_build/book"


def source(page: Path) -> str:
    return "\n".join(cell.source for cell in nbformat.read(page, as_version=4).cells)


def outputs(page: Path) -> str:
    return json.dumps([cell.get("outputs") for cell in nbformat.read(page, as_version=4).cells])


def test_the_specimen_carries_records_that_the_evidence_schema_accepts(root: Path) -> None:
    for run in collect(root, root / "none"):
        assert run.record is not None
        validate_record(run.record)


def test_a_fresh_run_wins_over_the_committed_notebook_and_a_failed_one_over_both(root: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "small/landscape/stiffness.ipynb"
    fresh.parent.mkdir(parents=True)
    shutil.copy(root / "notebooks/landscape/stiffness.ipynb", fresh)
    assert collect(root, tmp_path)[0].path == fresh
    broken = fresh.with_suffix(".failed.ipynb")
    fresh.rename(broken)
    assert collect(root, tmp_path)[0].path == broken
    assert collect(root, tmp_path / "none")[0].path == root / "notebooks/landscape/stiffness.ipynb"


def test_the_card_stands_below_the_title_and_above_the_text(staged: Path) -> None:
    text = source(staged / "notebooks/landscape/stiffness.ipynb")
    assert text.index("# Stiffness") < text.index('class="repro-card"') < text.index("What the paper says")
    assert "make page NB=notebooks/landscape/stiffness.ipynb\n" in text
    assert "1 not reproduced" in text and "1 supports a version" in text and "0123456789ab" in text


def test_each_scale_links_to_the_other_and_a_paper_without_a_full_run_says_so(staged: Path) -> None:
    small = source(staged / "notebooks/landscape/stiffness.ipynb")
    assert 'href="../../results/full/landscape/stiffness.html"' in small
    full = source(staged / "results/full/landscape/stiffness.ipynb")
    assert 'href="../../../notebooks/landscape/stiffness.html"' in full and "SCALE=full" in full
    assert "full scale: no run yet" in source(staged / "notebooks/representation/cka.ipynb")


def test_labels_of_the_full_page_differ_from_those_of_the_small_one(staged: Path) -> None:
    full = source(staged / "results/full/landscape/stiffness.ipynb")
    assert "$$ (eq-stiffness-full)" in full and "{eq}`eq-stiffness-full`" in full
    assert "$$ (eq-stiffness)" in source(staged / "notebooks/landscape/stiffness.ipynb")


def test_figures_become_files_with_alternative_text_and_caption(staged: Path) -> None:
    told = outputs(staged / "notebooks/landscape/stiffness.ipynb")
    assert "Cover of stiffness: a " in told and "The angle $\\\\theta$ over *steps*." in told
    assert len(list((staged / "notebooks/landscape/figures").glob("stiffness-*.png"))) == 3
    assert "image/png" not in told and "vnd.repro" not in told


def test_a_failed_full_run_shows_instead_of_the_published_one(root: Path) -> None:
    shutil.copytree(root / "_build" / "runs", runs := root / "elsewhere")
    broken = runs / "full" / "landscape" / "stiffness.failed.ipynb"
    broken.parent.mkdir(parents=True)
    shutil.copy(runs / "small" / "theory" / "self-normalizing.failed.ipynb", broken)
    shown = {run.name: run for run in collect(root, runs)}
    assert shown["landscape/stiffness (full)"].failed
    assert "division by zero" in shown["landscape/stiffness (full)"].failure
    assert not shown["landscape/stiffness"].failed and "representation/cka (full)" not in shown


def test_a_failed_run_is_a_visible_page_and_counts_as_no_verdict(staged: Path) -> None:
    text = source(staged / "notebooks/theory/self-normalizing.ipynb")
    assert "This run failed:</strong> cell 7 raised ZeroDivisionError: division by zero" in text
    assert "Klambauer" in text and "1 run failed" in text and "1 reproduced" not in text
    assert "ZeroDivisionError" in outputs(staged / "notebooks/theory/self-normalizing.ipynb")


def test_headline_counts_come_from_the_records(staged: Path) -> None:
    front = (staged / "index.md").read_text()
    small, full = front.split("Full scale:</strong>")[0:2]
    assert "3 papers, 6 claims" in small and "2 reproduced" in small and "1 run failed" in small
    assert "1 paper, 2 claims" in full and "1 inconclusive" in full


def test_the_books_own_comparisons_are_counted_and_shown_apart_from_papers(other: Path, tmp_path: Path) -> None:
    bibliography = other / "book/references.bib"
    own = bibliography.read_text().replace(
        "howpublished = {arXiv preprint}", "howpublished = {Deep Learning, Reproduced}", 1
    )
    bibliography.write_text(own)
    (part := other / "book/parts/landscape.md").write_text(part.read_text() + "\n<!-- comparison -->\n")
    stage(other, other / "_build/runs", tmp_path / "book")
    _, papers = (tmp_path / "book/parts/landscape.md").read_text().split("## Papers")
    assert ":link:" not in papers and "```{image} /notebooks/landscape/figures/stiffness-" in papers  # at its own mark
    front = (tmp_path / "book/index.md").read_text()
    assert "0 papers, 1 comparison, 4 claims" in front and "This book: Stiffness" in front


def test_the_contents_list_parts_in_their_order_with_the_full_page_below_the_small_one(staged: Path) -> None:
    papers = yaml.safe_load((staged / "_toc.yml").read_text())["parts"][0]["chapters"]
    assert [chapter["file"] for chapter in papers] == ["parts/landscape", "parts/theory", "parts/representation"]
    assert papers[0]["sections"][0]["sections"][0]["file"] == "results/full/landscape/stiffness"


def test_the_source_notebook_is_offered_byte_for_byte(root: Path, staged: Path) -> None:
    name = "notebooks/landscape/stiffness.ipynb"
    assert (staged / "_extra/downloads" / name).read_bytes() == (root / name).read_bytes()


def test_prose_includes_the_projects_files_from_where_it_is_staged(other: Path, tmp_path: Path) -> None:
    (other / "book/guides/read.md").write_text("# R\n\n```{literalinclude} ../../sweeps/x.yml\n```\n")
    stage(other, other / "_build/runs", tmp_path / "deep/down/book")
    (path,) = re.findall(r"literalinclude} (\S+)", (tmp_path / "deep/down/book/guides/read.md").read_text())
    assert (tmp_path / "deep/down/book/guides" / path).resolve() == other.resolve() / "sweeps/x.yml"


def complaint(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> str:
    assert main(["stage", "--root", str(root), "--out", str(tmp_path)]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1
    return lines[0]


def test_a_stored_exception_fails_the_stage_with_one_line(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    line = complaint(root, tmp_path, capsys)
    assert "theory/self-normalizing failed: cell 7 raised ZeroDivisionError: division by zero" in line


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A project with one sound page, to be spoilt."""
    root = specimen.project(tmp_path / "other")
    shutil.rmtree(root / "_build")
    shutil.rmtree(root / "results")
    for part in ("theory", "representation"):
        shutil.rmtree(root / "notebooks" / part)
    return root


def respell(root: Path, old: str, new: str) -> None:
    path = root / "notebooks/landscape/stiffness.ipynb"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (specimen.MIME, "application/json", "not exactly one evidence record"),
        ('"scale": "small"', '"scale": "custom"', "the record says scale 'custom', but this is the small page"),
        ('"slug": "stiffness"', '"slug": "cka"', "the record belongs to landscape/cka"),
        ('"verdict": "reproduced"', '"verdict": "proved"', "'proved' does not match"),
        ('"cells"', "cells", "stiffness.ipynb is not a readable notebook"),
    ],
)
def test_a_page_without_a_sound_record_is_a_failure(
    other: Path, tmp_path: Path, capsys: pytest.CaptureFixture, old: str, new: str, reason: str
) -> None:
    respell(other, old, new)
    assert reason in complaint(other, tmp_path, capsys)


def test_a_paper_without_a_bibliography_entry_is_named(
    other: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    respell(other, '"key": "fort2019stiffness"', '"key": "nobody2000"')
    assert "landscape/stiffness: no entry 'nobody2000' in book/references.bib" in complaint(other, tmp_path, capsys)


def test_a_part_without_an_introduction_is_named(other: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (other / "book/parts/landscape.md").unlink()
    assert "part 'landscape' has pages but no introduction" in complaint(other, tmp_path, capsys)
