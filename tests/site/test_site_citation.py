"""How papers are cited in the header card and the front table."""

from __future__ import annotations

from pathlib import Path

import pytest
from specimen import REPOSITORY

from repro.site.citation import Citation, citations


@pytest.mark.parametrize(
    ("authors", "short"),
    [
        ("Ada Lovelace", "Lovelace 1843"),
        ("Ada Lovelace and Charles Babbage", "Lovelace & Babbage 1843"),
        ("Ada Lovelace, Charles Babbage and Luigi Menabrea", "Lovelace et al. 1843"),
    ],
)
def test_the_short_form_names_one_two_or_the_first_of_many(authors: str, short: str) -> None:
    assert Citation(authors, "Notes", "Scientific Memoirs", "1843").short == short


def test_a_comparison_of_papers_is_the_books_own() -> None:
    assert Citation("The contributors of this book", "All at Once", "Deep Learning, Reproduced", "2026").own
    assert (
        Citation("The contributors of this book", "All at Once", "Deep Learning, Reproduced", "2026").short
        == "This book"
    )
    assert not Citation("Ada Lovelace", "Notes", "Scientific Memoirs", "1843").own


def test_the_books_entries_come_out_as_plain_text() -> None:
    found = citations(REPOSITORY / "book" / "references.bib")
    assert found["fort2019stiffness"].authors == (
        "Stanislav Fort, Paweł Krzysztof Nowak, Stanisław Jastrzębski and Srini Narayanan"
    )
    assert found["xu2024benign"].title == "Benign Overfitting and Grokking in ReLU Networks for XOR Cluster Data"


def test_a_broken_bibliography_is_one_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.bib").write_text("@misc{a, title = {b}")
    with pytest.raises(ValueError, match=r"x\.bib"):
        citations(tmp_path / "x.bib")
