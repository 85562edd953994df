"""``make new``: a page that runs and has the anatomy at once, and whose gaps the tests name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from repro.new import main
from repro.run import main as run
from repro.site.citation import citations

REPOSITORY = Path(__file__).resolve().parents[1]
GIVEN = ["made-up", "--part", "data", "--arxiv", "2002.99999"]


def project(root: Path) -> Path:
    """The book and the page tests of this project, without its pages."""
    shutil.copytree(REPOSITORY / "book", root / "book")
    (root / "tests/book").mkdir(parents=True)
    for name in ("test_anatomy.py", "test_unfinished.py", "test_full_scale.py", "shortened.yml"):
        shutil.copy(REPOSITORY / "tests/book" / name, root / "tests/book" / name)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return project(tmp_path)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one page begun, and run as its author would run it first."""
    root = project(tmp_path_factory.mktemp("begun"))
    assert main([*GIVEN, "--root", str(root)]) == 0
    notebook = root / "notebooks/data/made-up.ipynb"
    assert run([str(notebook), str(root / "out.ipynb")]) == 0
    (root / "out.ipynb").replace(notebook)
    return root


def outcome(root: Path, name: str) -> str:
    """What pytest says of the begun page, running one of the files that test pages."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"tests/book/{name}",
        "-k",
        "made-up",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True).stdout


def test_a_begun_page_runs_and_follows_the_anatomy_at_both_scales(begun: Path) -> None:
    assert re.search(r"^\d+ passed", outcome(begun, "test_anatomy.py"), re.M)
    assert re.search(r"^1 passed", outcome(begun, "test_full_scale.py"), re.M)


def test_the_tests_name_every_place_that_is_left_to_write(begun: Path) -> None:
    told = outcome(begun, "test_unfinished.py")
    for place in ("title", "claims-text", "claims", "idea", "experiment-text", "figure", "reading"):
        assert f"\ncell {place}: " in told, place
    for place in ("made-up.full.yml: # TODO", "data.md: # TODO", "bib, author: TODO", "bib, keywords: TODO"):
        assert place in told, place
    assert "3 failed, 1 passed" in told


def test_what_was_given_is_written_and_not_marked(root: Path) -> None:
    more = ["--title", "The Late Phase", "--authors", "Ada Nobody, Ben S. Noone"]
    assert main([*GIVEN, *more, "--root", str(root)]) == 0
    entry = citations(root / "book/references.bib")["nobody2020made"]
    assert (entry.title, entry.authors, entry.year) == ("The Late Phase", "Ada Nobody and Ben S. Noone", "2020")
    notebook = (root / "notebooks/data/made-up.ipynb").read_text()
    assert "# The Late Phase" in notebook and "https://arxiv.org/abs/2002.99999" in notebook


def test_a_paper_without_an_arxiv_number_is_begun_too(root: Path) -> None:
    assert main(["dropout", "--part", "ensembles", "--arxiv", "none", "--root", str(root)]) == 0
    assert "arxiv=None" in (root / "notebooks/ensembles/dropout.ipynb").read_text()
    assert "  eprint" not in (root / "book/references.bib").read_text().split("@misc{")[-1]


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["Early_Phase", "--part", "data", "--arxiv", "none"], "SLUG 'Early_Phase' is not lower-case words"),
        (["early", "--part", "dat", "--arxiv", "none"], "PART 'dat' is not one of landscape, theory"),
        (["early", "--part", "data", "--arxiv", "20.1"], "ARXIV '20.1' is not a number such as 2107.07075"),
        (["early", "--part", "data", "--arxiv", "none", "--title", 'A "b"'], "TITLE 'A \"b\"' holds a quotation mark"),
    ],
)
def test_wrong_requests_are_one_line_and_leave_nothing(
    root: Path, capsys: pytest.CaptureFixture, arguments: list[str], told: str
) -> None:
    before = snapshot(root)
    assert main([*arguments, "--root", str(root)]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert snapshot(root) == before


def test_a_page_that_exists_is_not_overwritten(root: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([*GIVEN, "--root", str(root)]) == 0
    before = snapshot(root)
    assert main(["made-up", "--part", "landscape", "--arxiv", "none", "--root", str(root)]) == 2
    assert "exists already" in capsys.readouterr().err and snapshot(root) == before


def test_a_folder_that_is_no_project_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([*GIVEN, "--root", str(tmp_path)]) == 2
    assert "references.bib is not there" in capsys.readouterr().err
