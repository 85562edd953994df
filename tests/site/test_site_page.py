"""What a paper's page shows besides its cells: parameters, command, evidence, who else measures the same."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from specimen import claim, compound

from repro.site.card import Place
from repro.site.card import card as header
from repro.site.citation import Citation
from repro.site.evidence import table
from repro.site.interval import WIDTH, drawing
from repro.site.runs import Run
from repro.site.stage import stage

SMALL, FULL = "notebooks/landscape/stiffness.ipynb", "results/full/landscape/stiffness.ipynb"


@pytest.fixture(scope="module")
def staged(root: Path) -> Path:
    stage(root, root / "_build/runs", root / "_build/book")
    return root / "_build/book"


def cells(staged: Path, page: str) -> list[nbformat.NotebookNode]:
    return nbformat.read(staged / page, as_version=4).cells


def parameters(staged: Path, page: str) -> str:
    return next(cell.source for cell in cells(staged, page) if "repro-parameters" in cell.source)


def card(staged: Path, page: str) -> str:
    return cells(staged, page)[0].source


def test_the_small_page_shows_the_defaults_and_that_it_used_them(staged: Path) -> None:
    shown = parameters(staged, SMALL)
    assert "This run used the defaults" in shown and "This run</th>" not in shown
    assert "<code>width</code>" in shown and "hidden units in [1, 4096]" in shown


def test_the_full_page_shows_the_defaults_beside_its_own_values_and_marks_what_differs(staged: Path) -> None:
    rows = re.findall(r"<tr[^>]*>.*?</tr>", parameters(staged, FULL))
    (width,) = (row for row in rows if "<code>width</code>" in row)
    assert 'data-label="Default"><code>64</code>' in width and "<strong>512</strong>" in width
    assert [("repro-changed" in row) for row in rows[1:]] == [False, True, True]  # seed, threads, width


def test_parameter_cells_are_folded_below_which_the_table_stands(staged: Path) -> None:
    found = cells(staged, FULL)
    folded = [at for at, cell in enumerate(found) if "hide-input" in cell.metadata.get("tags", [])][:2]
    assert [found[at].metadata.tags[0] for at in folded] == ["parameters", "injected-parameters"]
    assert "repro-parameters" in found[folded[-1] + 1].source


def test_the_command_gives_the_runs_parameters_and_no_more(staged: Path) -> None:
    """The full run used what stiffness.full.yml says and besides four threads."""
    assert "<pre>make page NB=notebooks/landscape/stiffness.ipynb\n</pre>" in card(staged, SMALL)
    assert "<pre>make page NB=notebooks/landscape/stiffness.ipynb SCALE=full P=&quot;threads=4&quot;\n" in card(
        staged, FULL)  # fmt: skip


def test_the_switch_marks_this_page_and_links_the_other_scale(staged: Path) -> None:
    assert '<span aria-current="page">small scale</span>' in card(staged, SMALL)
    assert '<a href="../../../notebooks/landscape/stiffness.html">small scale</a>' in card(staged, FULL)


def test_the_card_says_which_pages_use_the_same_measurement(staged: Path) -> None:
    assert 'href="../../api/repro.measure.stiffness.html">stiffness</a> (as on <a' in card(staged, SMALL)
    assert 'href="../../ideas.html#index-gradient-agreement">' in card(staged, SMALL)


@pytest.mark.parametrize(
    ("others", "shown"),
    [
        ("", "flat</a>"),
        ("b", '(as in <a href="b.html">'),
        ("bc", '(as on <a href="../../measurements.html#index-repro-measure-flat">2 other pages</a>)'),
    ],
)
def test_the_card_names_one_other_page_and_counts_several(others: str, shown: str, staged: Path) -> None:
    run, *rest = (Run("landscape", slug, "small", staged, staged, notebook={"cells": []}) for slug in "a" + others)
    citation = Citation("Ada Lovelace", "Notes", "Memoirs", "1843")
    assert shown in header(run, citation, Place(shared={"repro.measure.flat": rest}))


def test_the_evidence_cell_shows_every_claim_with_its_interval_drawn(staged: Path) -> None:
    outputs = [output for cell in cells(staged, SMALL) for output in cell.get("outputs", []) if "data" in output]
    (shown,) = (html for output in outputs if "repro-evidence" in (html := output.data.get("text/html", "")))
    assert re.findall(r'id="claim-(\w+)"', shown) == ["c1", "c2", "c3", "c4"]
    assert shown.count("<svg") == 4  # c1, c2 and the two parts of c3; c4 was not measured


def test_a_compound_claim_says_which_part_decides_and_lists_them() -> None:
    shown = table({"scale": "small", "claims": [compound("c1", "not reproduced")]})
    assert "2 parts, below; far decides" in shown and shown.count('class="repro-part"') == 2


def test_statements_are_escaped() -> None:
    assert "within &lt; between &amp; so on" in table({"scale": "small", "claims": [claim("c1", "reproduced")]})


def numbers(svg: str, pattern: str) -> list[float]:
    return [float(number) for number in re.findall(pattern, svg)]


def test_the_drawing_keeps_order_and_proportion() -> None:
    """Over [-1, 5] (limits -1.6 to 5.6) the estimate 2 stands in the middle and the threshold 0 left of the interval."""
    found = {"estimate": 2.0, "low": -1.0, "high": 5.0, "threshold_low": 0.0, "threshold_high": None,
             "verdict": "inconclusive"}  # fmt: skip
    svg = drawing(found)
    assert numbers(svg, r'<circle cx="([\d.]+)"') == [WIDTH / 2]
    assert numbers(svg, r'class="repro-region"><rect x="([\d.]+)"') == [pytest.approx(WIDTH * 1.6 / 7.2, abs=0.1)]


def test_the_drawing_of_nothing_measured_is_empty_and_says_its_verdict_otherwise() -> None:
    assert drawing({"estimate": None}) == "" == drawing({"estimate": float("nan")})
    assert 'aria-label="Interval &gt; 0.1: reproduced; control: not reproduced"' in drawing(
        claim("c1", "reproduced"), claim("c1", "reproduced")["control"])  # fmt: skip


def test_an_exact_value_without_an_interval_is_a_point() -> None:
    svg = drawing({"estimate": 1.0, "low": None, "high": None, "verdict": "reproduced"})
    assert numbers(svg, r'<line x1="([\d.]+)"') == numbers(svg, r'x2="([\d.]+)"') == [WIDTH / 2]
