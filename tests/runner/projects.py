"""Small projects on disk that the runner's tests run for real."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat

REPOSITORY = Path(__file__).resolve().parents[2]
GO = (sys.executable, "workflow/go.py")
PARAMETERS = """\
seed: int = 2026  # base seed in [0, 1000000000]
threads: int = 1  # CPU threads in [1, 64]
lr: float = 0.1  # step size in (0, inf)
act: str = "relu"  # activation, one of relu, tanh
widths: list[int] = [4, 8]  # units in [1, 64]"""
# A page with one claim, without torch, so that it runs in a second. What it measures is lr.
MEASURES = (
    "from repro.evidence import Page, above\n"
    "page = Page('demo', part='theory', title='Demo', key='demo')\n"
    "page.claim('c1', 'The step size is large', reported='qualitative', criterion=above(0.05))",
    "page.judge('c1', [lr + 0.001 * i for i in range(8)])",
    "page.evidence()",
)


def write(path: Path, *cells: str, metadata: dict[str, Any] | None = None) -> Path:
    """A notebook: the parameters cell, then `cells`."""
    parameters = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    nb = nbformat.v4.new_notebook(cells=[parameters, *(nbformat.v4.new_code_cell(cell) for cell in cells)])
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nb.metadata |= metadata or {}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, path)
    return path


def project(root: Path) -> Path:
    """An empty project at `root` that runs the repository's workflow and library."""
    for name in ("workflow", "lib"):
        os.symlink(REPOSITORY / name, root / name)
    return root


def environment(root: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(root / "lib")}


def go(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the workflow to its end."""
    return subprocess.run([*GO, *arguments], cwd=root, env=environment(root), capture_output=True, text=True,
                          timeout=300)  # fmt: skip


def python(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m ...`` in the project."""
    return subprocess.run([sys.executable, "-m", *arguments], cwd=root, env=environment(root), capture_output=True,
                          text=True, timeout=300)  # fmt: skip
