"""Sweeps: one notebook over a grid of its parameters, one table of claims by setting."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from projects import MEASURES, REPOSITORY, go, project, python, write

from repro.sweep import SweepError, main, read_sweep

GOOD = "notebook: notebooks/theory/demo.ipynb\nparameters: {seed: 7}\ngrid: {lr: [0.01, 1], act: [relu, tanh]}\n"


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(project(tmp_path) / "notebooks/theory/demo.ipynb", *MEASURES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep_file(content: str, name: str = "x.yml") -> Path:
    Path(name).write_text(content)
    return Path(name)


def test_every_combination_is_a_setting_with_a_readable_name(book: Path) -> None:
    sweep = read_sweep(sweep_file(GOOD))
    assert list(sweep.settings) == ["lr=0.01,act=relu", "lr=0.01,act=tanh", "lr=1.0,act=relu", "lr=1.0,act=tanh"]
    assert sweep.arguments("lr=1.0,act=tanh") == "-p seed 7 -p lr 1.0 -p act tanh"
    assert sweep.run("lr=1.0,act=tanh") == Path("_build/sweeps/x/runs/lr=1.0,act=tanh.ipynb")


def test_values_that_cannot_stand_in_a_path_are_told_apart_by_a_digest(book: Path) -> None:
    sweep = read_sweep(sweep_file(GOOD.replace("lr: [0.01, 1]", "widths: [[4, 8], [4]]")))
    names = list(sweep.settings)
    assert len(set(names)) == 4 and all("/" not in name and " " not in name for name in names)
    assert sweep.arguments(names[0]) == "-p seed 7 -p widths '[4, 8]' -p act relu"


def test_the_full_scale_is_the_ground_that_a_sweep_may_start_from(book: Path) -> None:
    content = GOOD + "scale: full\n"
    with pytest.raises(SweepError, match=r"scale: notebooks/theory/demo.ipynb has no demo.full.yml"):
        read_sweep(sweep_file(content))
    Path("notebooks/theory/demo.full.yml").write_text("lr: 0.5\n")
    sweep = read_sweep(sweep_file(content))
    assert sweep.arguments("lr=1.0,act=tanh").startswith("-f notebooks/theory/demo.full.yml -p seed 7")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("demo.ipynb", "gone.ipynb", "notebook: there is no notebooks/theory/gone.ipynb"),
        ("notebook: notebooks/theory/", "notebook: ", "notebook: 'demo.ipynb' is not of the form notebooks/"),
        ("lr:", "lrr:", "unknown parameter 'lrr' (did you mean 'lr'?); allowed: seed, threads, lr, act, widths"),
        ("seed: 7", "sed: 7", "unknown parameter 'sed' (did you mean 'seed'?)"),
        ("[0.01, 1]", "[0.01, -1]", "lr: -1.0 is not in (0, inf)"),
        ("[0.01, 1]", "[1e-3]", "lr: '1e-3' is not of type float but a string: write 0.001"),
        ("[0.01, 1]", "[1, 1.0]", "grid: lr: a value stands twice"),
        ("[0.01, 1]", "[]", "grid: lr: [] is not a list of at least one value"),
        ("[0.01, 1]", "0.01", "grid: lr: 0.01 is not a list of at least one value"),
        ("[relu, tanh]", "[gelu]", "act: 'gelu' is not one of relu, tanh"),
        ("seed: 7", "lr: 7", "grid: lr stands under 'parameters' too"),
        ("grid: {lr: [0.01, 1], act: [relu, tanh]}", "grid: {}", "grid: it is empty"),
        ("parameters", "parameter", "unknown entry 'parameter'; allowed: notebook, scale, parameters, grid"),
        ("{seed: 7}", "[7]", "parameters: [7] is not a mapping of parameter names"),
        ("grid", "scale: huge\ngrid", "scale: 'huge' is not one of small, full"),
        ("{lr", "{{lr", "is not readable YAML"),
    ],
)
def test_a_bad_sweep_is_one_line_before_anything_runs(
    book: Path, capsys: pytest.CaptureFixture, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    assert main(["check", str(sweep_file(GOOD.replace(old, new, 1)))]) == 2
    error = capsys.readouterr().err
    assert error.startswith("x.yml") and message in error and error.count("\n") == 1
    assert not Path("_build").exists()


def test_a_sweep_that_is_not_there_and_one_whose_name_is_no_folder_are_one_line(
    book: Path, capsys: pytest.CaptureFixture
) -> None:
    for path in ("gone.yml", sweep_file(GOOD, "a b.yml")):
        assert main(["check", str(path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_sweep_runs_its_settings_resumes_and_comes_back_as_a_table_and_a_plot(book: Path) -> None:
    write(book / "notebooks/theory/demo.ipynb", *MEASURES, "assert not (lr > 0.5 and act == 'tanh')")
    file = str(sweep_file(GOOD))
    ran = go(book, "sweep", "default", "--config", f"sweep={file}")
    assert ran.returncode == 1 and "[4 of 4]" in ran.stdout + ran.stderr
    told = python(book, "repro.sweep", "table", file)
    assert told.returncode == 1 and told.stderr == "1 of 4 settings have no result\n"
    with (book / "_build/sweeps/x/table.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [(row["lr"], row["act"], row["claim"], row["n"], row["verdict"]) for row in rows] == [
        ("0.01", "relu", "c1", "8", "not reproduced"),
        ("0.01", "tanh", "c1", "8", "not reproduced"),
        ("1.0", "relu", "c1", "8", "reproduced"),
        ("1.0", "tanh", "", "", "run failed"),
    ]
    assert float(rows[2]["low"]) < float(rows[2]["estimate"]) < float(rows[2]["high"])
    assert (book / "_build/sweeps/x/plot.png").read_bytes().startswith(b"\x89PNG")

    kept = {path: path.stat().st_mtime_ns for path in (book / "_build/sweeps/x/runs").glob("*[!d].ipynb")}
    assert len(kept) == 3
    due = go(book, "sweep", "default", "--config", f"sweep={file}", "-n").stdout
    assert due.count("would run") == 1 and "lr=1.0,act=tanh would run" in due
    sweep_file(GOOD.replace("seed: 7", "seed: 8"))
    assert go(book, "sweep", "default", "--config", f"sweep={file}", "-n").stdout.count("would run") == 4


def test_the_sweeps_of_the_book_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    files = list(Path("sweeps").glob("*.yml"))
    assert files
    for file in files:
        read_sweep(file)
    assert Path("sweeps/xor-dimension.yml").read_text() in Path("book/guides/sweeps.md").read_text()
