"""The runner's jobs, on a project of a few one-cell notebooks."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from projects import REPOSITORY, go, project, write

from repro.site.runs import collect


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = project(tmp_path_factory.mktemp("project"))
    write(root / "notebooks/theory/good.ipynb", "import repro.site.imports\nseed")
    write(root / "notebooks/theory/bad.ipynb", "1 / 0")
    (root / "notebooks/theory/good.full.yml").write_text("seed: 7\n")
    return root


@pytest.fixture(scope="module")
def first(book: Path) -> subprocess.CompletedProcess[str]:
    return go(book, "small")


def test_one_failure_does_not_stop_the_others_but_fails_the_run(book: Path, first: subprocess.CompletedProcess) -> None:
    runs = book / "_build/runs/small/theory"
    assert first.returncode != 0
    assert (runs / "good.ipynb").exists() and not (runs / "good.failed.ipynb").exists()
    assert (runs / "bad.failed.ipynb").exists() and not (runs / "bad.ipynb").exists()
    assert "ZeroDivisionError" in first.stdout + first.stderr


def test_what_ran_is_told_with_how_many_there_are(first: subprocess.CompletedProcess) -> None:
    assert first.stdout.splitlines()[0] == "2 to run"
    told = first.stdout + first.stderr
    assert "of 2] theory/good: done" in told and "of 2] theory/bad: FAILED" in told


def test_wall_time_and_memory_of_a_job_are_recorded_whether_it_succeeds_or_fails(
    book: Path, first: subprocess.CompletedProcess
) -> None:
    runs = book / "_build/runs/small/theory"
    for path in (runs / "good.ipynb", runs / "bad.failed.ipynb"):
        cost = nbformat.read(path, as_version=4).metadata["repro_run"]
        assert cost["seconds"] > 0 and cost["peak_memory_mb"] > 50
    assert cost["failed"] == "cell [2] raised ZeroDivisionError: division by zero"


def test_a_second_run_redoes_only_what_failed_or_changed(book: Path, first: subprocess.CompletedProcess) -> None:
    good = book / "_build/runs/small/theory/good.ipynb"
    before = good.stat().st_mtime_ns
    write(book / "notebooks/theory/bad.ipynb", "1 / 1")
    done = go(book, "small")
    assert done.returncode == 0, done.stderr
    assert good.stat().st_mtime_ns == before
    assert (good.parent / "bad.ipynb").exists() and not (good.parent / "bad.failed.ipynb").exists()


def test_a_full_run_uses_its_parameters_and_is_published_when_complete(book: Path) -> None:
    done = go(book, "full")
    assert done.returncode == 0, done.stderr
    published = nbformat.read(book / "results/full/theory/good.ipynb", as_version=4)
    assert published.cells[-1].outputs[0].data["text/plain"] == "7"


def test_two_runs_at_once_are_refused_and_a_lock_left_by_a_killed_one_is_not_in_the_way(book: Path) -> None:
    (book / "_build").mkdir(exist_ok=True)
    with (book / "_build/.running").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert go(book, "small").stderr.strip() == (
            "another run is going on in this folder; wait for it or stop it first"
        )
    assert go(book, "small", "default", "-n").returncode == 0


def test_a_killed_kernel_or_job_and_a_job_out_of_time_are_failures_with_the_reason_on_the_page(tmp_path: Path) -> None:
    root = project(tmp_path)
    write(root / "notebooks/theory/kernel.ipynb", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    its_job = "{'repro.run', 'notebooks/theory/job.ipynb'} <= {*(p.info['cmdline'] or [])}"
    die = f"import psutil, time; [p.kill() for p in psutil.process_iter(['cmdline']) if {its_job}]; time.sleep(9)"
    write(root / "notebooks/theory/job.ipynb", die)
    limit = {"repro": {"small": {"minutes": 0.05}}}
    write(root / "notebooks/theory/late.ipynb", "import time; time.sleep(100)", metadata=limit)
    (root / "notebooks/theory/request.full.yml").write_text("seed: -1\n")
    write(root / "notebooks/theory/request.ipynb", "1")
    assert go(root, "small").returncode != 0 and go(root, "full").returncode != 0
    for page, reason in {"small/theory/kernel": "DeadKernelError: Kernel died",
                         "small/theory/job": "Ended: the run ended with status 137, before its last cell",
                         "small/theory/late": "OutOfTime: the run took longer than its limit of 0.05 minutes",
                         "full/theory/request": "Ended: the run ended with status 2, before its last cell",
                         }.items():  # fmt: skip
        assert not (root / f"_build/runs/{page}.ipynb").exists()
        failed = nbformat.read(root / f"_build/runs/{page}.failed.ipynb", as_version=4)
        errors = [out for cell in failed.cells for out in cell.get("outputs", []) if out.output_type == "error"]
        assert [f"{error.ename}: {error.evalue}" for error in errors] == [reason]
    shown = {run.slug: run.failure for run in collect(root, root / "_build/runs")}
    assert shown["kernel"] == "cell 2 raised DeadKernelError: Kernel died"
    assert "ended with status 137" in shown["job"] and "limit of 0.05 minutes" in shown["late"]


def test_only_pages_whose_parameters_or_library_files_changed_are_run_again(tmp_path: Path) -> None:
    project(tmp_path)
    (tmp_path / "lib").unlink()
    shutil.copytree(REPOSITORY / "lib", tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for page, module in {"a": "repro.rng", "b": "repro.measure.moments"}.items():
        write(tmp_path / f"notebooks/theory/{page}.ipynb", f"import {module}")
        (tmp_path / f"notebooks/theory/{page}.full.yml").write_text("seed: 7\n")

    def due() -> list[str]:
        return [
            line.split()[0] for line in go(tmp_path, "full", "default", "-n").stdout.splitlines() if "would" in line
        ]

    assert sorted(due()) == ["theory/a", "theory/b"]
    assert go(tmp_path, "full").returncode == 0
    assert due() == []
    (tmp_path / "notebooks/theory/a.full.yml").write_text("seed: 8\n")
    assert due() == ["theory/a"]
    with (tmp_path / "lib/repro/measure/moments.py").open("a") as file:
        file.write("# changed\n")
    assert sorted(due()) == ["theory/a", "theory/b"]


def test_an_unknown_profile_is_named_with_those_there_are(book: Path) -> None:
    complaint = go(book, "small", "cluster").stderr
    assert complaint.startswith("no profile 'cluster' in workflow/profiles; there are: default, slurm")
