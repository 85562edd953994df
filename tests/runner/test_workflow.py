"""The runner's jobs, on a project of two one-cell notebooks."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from specimen import REPOSITORY

PARAMETERS = "seed: int = 2026  # base seed in [0, 1000000000]\nthreads: int = 1  # CPU threads in [1, 64]"


def write(path: Path, code: str) -> None:
    parameters = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    nb = nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(code)])
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, path)


def go(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "workflow" / "go.py"), *arguments]
    environment = os.environ | {"PYTHONPATH": str(root / "lib")}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    for name in ("workflow", "lib"):
        os.symlink(REPOSITORY / name, root / name)
    write(root / "notebooks/theory/good.ipynb", "import repro.site.imports\nseed")
    write(root / "notebooks/theory/bad.ipynb", "1 / 0")
    (root / "notebooks/theory/good.full.yml").write_text("seed: 7\n")
    return root


@pytest.fixture(scope="module")
def first(project: Path) -> subprocess.CompletedProcess[str]:
    return go(project, "small")


def test_one_failure_does_not_stop_the_others_but_fails_the_run(
    project: Path, first: subprocess.CompletedProcess
) -> None:
    runs = project / "_build/runs/small/theory"
    assert first.returncode != 0
    assert (runs / "good.ipynb").exists() and not (runs / "good.failed.ipynb").exists()
    assert (runs / "bad.failed.ipynb").exists() and not (runs / "bad.ipynb").exists()
    assert "ZeroDivisionError" in first.stdout + first.stderr


def test_wall_time_and_memory_of_a_job_are_recorded(project: Path, first: subprocess.CompletedProcess) -> None:
    head, row = (project / "_build/times/small/theory/good.tsv").read_text().splitlines()
    found = dict(zip(head.split("\t"), row.split("\t"), strict=True))
    assert float(found["s"]) > 0 and float(found["max_rss"]) > 0


def test_a_second_run_redoes_only_what_failed_or_changed(project: Path, first: subprocess.CompletedProcess) -> None:
    good = project / "_build/runs/small/theory/good.ipynb"
    before = good.stat().st_mtime_ns
    write(project / "notebooks/theory/bad.ipynb", "1 / 1")
    done = go(project, "small")
    assert done.returncode == 0, done.stderr
    assert good.stat().st_mtime_ns == before
    assert (good.parent / "bad.ipynb").exists() and not (good.parent / "bad.failed.ipynb").exists()


def test_a_full_run_uses_its_parameters_and_is_published_when_complete(project: Path) -> None:
    done = go(project, "full")
    assert done.returncode == 0, done.stderr
    published = nbformat.read(project / "results/full/theory/good.ipynb", as_version=4)
    assert published.cells[-1].outputs[0].data["text/plain"] == "7"


def test_two_runs_at_once_are_refused_and_a_lock_left_by_a_killed_one_is_not_in_the_way(project: Path) -> None:
    (project / "_build").mkdir(exist_ok=True)
    with (project / "_build/.running").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert go(project, "small").stderr.strip() == (
            "another run is going on in this folder; wait for it or stop it first")
    assert go(project, "small", "default", "-n").returncode == 0


def test_a_killed_run_leaves_nothing_half_written_and_the_next_one_completes(project: Path) -> None:
    notebook, out = project / "notebooks/theory/slow.ipynb", project / "_build/runs/small/theory/slow.ipynb"
    write(notebook, "import time; time.sleep(120)")
    command = [sys.executable, "workflow/go.py", "small"]
    environment = os.environ | {"PYTHONPATH": str(project / "lib")}
    running = subprocess.Popen(command, cwd=project, env=environment, start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(out.parent.glob("slow.*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not out.exists()
    write(notebook, "seed")
    assert go(project, "small").returncode == 0
    assert out.exists()


def test_an_unknown_profile_is_named_with_those_there_are(project: Path) -> None:
    complaint = go(project, "small", "cluster").stderr
    assert complaint.startswith("no profile 'cluster' in workflow/profiles; there are: default")
