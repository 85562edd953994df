"""The full scale cannot rot: every page runs from its full parameters on the CPU, shortened, to the last cell.

``shortened.yml`` beside this file says what is cut, page by page; every other parameter is the full scale's own. Pages
that need downloaded data run where ``REPRO_DATA`` names a mirror and are skipped by name elsewhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from repro.evidence.page import MIME
from repro.parameters import declared, read_overrides, validate

ROOT = Path(__file__).resolve().parents[2]
CUTS = yaml.safe_load((Path(__file__).parent / "shortened.yml").read_text(encoding="utf-8"))
PAGES = sorted(f"{path.parent.name}/{path.stem}" for path in (ROOT / "notebooks").glob("*/*.ipynb"))
DOWNLOADED = {"mnist", "cifar10"}


@pytest.mark.parametrize("page", PAGES)
def test_the_full_parameters_run_shortened_on_the_cpu(page: str, tmp_path: Path) -> None:
    notebook = ROOT / "notebooks" / f"{page}.ipynb"
    full, cut = read_overrides(notebook.with_suffix(".full.yml")), CUTS[page]
    assert validate(declared(notebook), full | cut)
    kept = {name for name in full if name not in cut}
    assert kept, f"{page}: everything of the full scale is cut; nothing of it is tested"
    if any(value in DOWNLOADED for value in (full | cut).values() if isinstance(value, str)) and not os.environ.get(
        "REPRO_DATA"
    ):
        pytest.skip(f"{page} needs downloaded data: set REPRO_DATA to a mirror")
    (tmp_path / "cut.yml").write_text(yaml.safe_dump(cut))
    files = [str(notebook.with_suffix(".full.yml")), str(tmp_path / "cut.yml")]
    command = [
        sys.executable,
        "-m",
        "repro.run",
        str(notebook),
        str(tmp_path / "out.ipynb"),
        "-f",
        files[0],
        "-f",
        files[1],
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = [o for c in json.loads((tmp_path / "out.ipynb").read_text())["cells"] for o in c.get("outputs", [])]
    (record,) = (o["data"][MIME] for o in outputs if MIME in o.get("data", {}))
    assert record["scale"] == "custom"  # shortened runs never pass for full ones
