"""What a failed run leaves of its notebook."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from repro.outcome import beside, bury


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "page.ipynb"


def partial(out: Path, *started: bool) -> None:
    """What papermill leaves of a run whose kernel died before it could say which cells it was executing."""
    cells = [nbformat.v4.new_code_cell("1", metadata={"papermill": {"start_time": "12:00" if began else None}})
             for began in started]  # fmt: skip
    nbformat.write(nbformat.v4.new_notebook(cells=cells), beside(out, "partial"))


def errors(out: Path) -> list[list[str]]:
    failed = nbformat.read(beside(out, "failed"), as_version=4)
    return [[output.evalue for output in cell.outputs] for cell in failed.cells]


def test_the_reason_is_told_at_the_cell_that_was_started_last_even_if_its_kernel_died_silently(out: Path) -> None:
    partial(out, True, True, False)
    bury(out, out, "DeadKernelError: Kernel died")
    assert errors(out) == [[], ["Kernel died"], []]


def test_the_reason_is_told_at_the_first_cell_where_none_was_started(out: Path) -> None:
    partial(out, False, False)
    bury(out, out, "Ended: no kernel")
    assert errors(out) == [["no kernel"], []]
