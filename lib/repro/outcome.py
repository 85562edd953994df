"""What a run leaves: the whole page, or what it came to before it failed, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode

#: Where the executed notebook's metadata tells what its job took, and why it failed if it did.
KEY = "repro_run"


def beside(out: Path, state: str) -> Path:
    """Where the notebook of a run that is not yet ("partial") or never ("failed") done lies."""
    return out.with_name(f"{out.stem}.{state}.ipynb")


def finish(out: Path, cost: Mapping[str, float]) -> None:
    """Put the executed notebook, now complete, in its place, in one step; `cost` goes into its metadata."""
    import nbformat

    partial = beside(out, "partial")
    executed = nbformat.read(partial, as_version=4)
    executed.metadata[KEY] = dict(cost)
    nbformat.write(executed, partial)
    partial.replace(out)


def bury(notebook: Path, out: Path, reason: str, cost: Mapping[str, float] | None = None) -> None:
    """Turn what a failed run left into ``.failed.ipynb``: what was executed, and `reason` where no cell's error tells it."""
    import nbformat

    partial, failed = beside(out, "partial"), beside(out, "failed")
    try:
        executed = nbformat.read(partial, as_version=4)
    except (OSError, ValueError):  # killed before, or while, it was written
        executed = _unexecuted(notebook)
    cells = [cell for cell in executed.cells if cell.cell_type == "code"]
    if cells and not any(output.output_type == "error" for cell in cells for output in cell.outputs):
        kind, _, rest = reason.partition(": ")
        error = nbformat.v4.new_output("error", ename=kind, evalue=rest or reason, traceback=[reason])
        # Papermill's own note: a kernel that is killed at once never sends the count of the cell it was executing.
        ran = [cell for cell in cells if cell.metadata.get("papermill", {}).get("start_time")]
        (ran or cells)[-1 if ran else 0].outputs.append(error)
    executed.metadata[KEY] = {**(cost or {}), "failed": reason}
    nbformat.write(executed, partial)
    partial.replace(failed)


def _unexecuted(notebook: Path) -> NotebookNode:
    import nbformat

    found = nbformat.read(notebook, as_version=4)
    for cell in found.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return found
