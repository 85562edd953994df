"""Which library files a notebook depends on."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from repro.site.imports import library_files


@pytest.fixture
def library(tmp_path: Path) -> Path:
    files = {
        "repro/__init__.py": "",
        "repro/rng.py": "",
        "repro/measure/__init__.py": "from repro.measure.near import f",
        "repro/measure/near.py": "def f():\n    from repro import rng",
        "repro/measure/far.py": "",
        "repro/data/__init__.py": "from .base import load",
        "repro/data/base.py": "from . import hub\nfrom ..rng import x",
        "repro/data/hub.py": "import numpy",
        "repro/data/registry.csv": "name,url",
        "repro/lazy/__init__.py": "def __getattr__(name): ...",
        "repro/lazy/a.py": "",
    }
    for name, source in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    return tmp_path


def files(library: Path, *cells: str) -> set[str]:
    path = library / "x.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    return {str(file.relative_to(library / "repro")) for file in library_files(path, library)}


def test_a_notebook_without_our_imports_depends_on_nothing(library: Path) -> None:
    assert files(library, "import numpy\nfrom torch import nn") == set()


def test_imports_are_followed_through_packages_and_into_functions(library: Path) -> None:
    assert files(library, "from repro.measure import f") == {
        "__init__.py", "measure/__init__.py", "measure/near.py", "rng.py"}  # fmt: skip


def test_relative_imports_and_data_files_of_a_package_count(library: Path) -> None:
    assert files(library, "%matplotlib inline\nimport repro.data as d") == {
        "__init__.py", "data/__init__.py", "data/base.py", "data/hub.py", "data/registry.csv", "rng.py"}  # fmt: skip


def test_a_submodule_named_in_a_from_import_counts(library: Path) -> None:
    assert "measure/far.py" in files(library, "from repro.measure import far")


def test_a_package_that_resolves_names_at_run_time_counts_whole(library: Path) -> None:
    assert "lazy/a.py" in files(library, "from repro.lazy import anything")


def test_all_cells_count(library: Path) -> None:
    assert {"rng.py", "measure/far.py"} <= files(library, "import repro.rng", "from repro.measure import far")
