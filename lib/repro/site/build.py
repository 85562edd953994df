"""Render the staged tree with jupyter-book."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def render(staged: Path, target: Path) -> None:
    """Build ``staged`` into ``target/_build/html``; any Sphinx warning is an error, reported after all pages.

    Raises subprocess.CalledProcessError where the build fails.
    """
    shutil.rmtree(target / "_build" / "html", ignore_errors=True)
    shutil.rmtree(target / "_build" / ".doctrees", ignore_errors=True)
    program = Path(sys.executable).with_name("jupyter-book")
    command = [str(program), "build", str(staged), "--path-output", str(target), "-W", "-n", "--keep-going", "-q"]
    subprocess.run(command, check=True)
