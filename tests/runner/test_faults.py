"""Killing the run, at random moments: nothing finished is lost, nothing half-written left, nothing to unlock."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import psutil
import pytest
from projects import GO, environment, go, project, write

KILLS = 20
VICTIMS = ("job", "kernel", "runner", "runner and kernel", "everything")
PAGES = ("one", "two", "three", "four", "five", "six")


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Pages with a full scale; one of them is large, so that it takes a while to write and to copy."""
    project(tmp_path)
    for page in PAGES:
        work = "print('x' * 3_000_000)" if page == "four" else "import time; time.sleep(0.3)"
        no_gpu = {"repro": {"full": {"gpu": 0}}}  # else one job at a time
        write(tmp_path / f"notebooks/theory/{page}.ipynb", work, "seed", metadata=no_gpu)
        (tmp_path / f"notebooks/theory/{page}.full.yml").write_text("seed: 7\n")
    return tmp_path


def start(root: Path) -> subprocess.Popen:
    return subprocess.Popen([*GO, "full"], cwd=root, env=environment(root), start_new_session=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


def family(runner: subprocess.Popen) -> dict[str, list[psutil.Process]]:
    """The processes of a run that goes on, by role."""
    found: dict[str, list[psutil.Process]] = {"runner": [psutil.Process(runner.pid)], "job": [], "kernel": []}
    for process in found["runner"][0].children(recursive=True):
        try:
            words, above = process.cmdline(), process.parent()
            born = "repro.nursery" in words and above is not None and "repro.nursery" in above.cmdline()
        except psutil.Error:
            continue
        if "repro.run" in words and "-m" in words:
            found["job"].append(process)
        elif born or any("ipykernel" in word for word in words):
            found["kernel"].append(process)
    everyone = [*found["runner"], *found["runner"][0].children(recursive=True)]
    return found | {"runner and kernel": found["runner"] + found["kernel"], "everything": everyone}


def strike(runner: subprocess.Popen, victim: str) -> int:
    """SIGKILL all processes in that role; returns how many there were."""
    hit = 0
    with contextlib.suppress(psutil.NoSuchProcess):  # the runner has ended by itself
        for process in family(runner)[victim]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                hit += 1
    return hit


def moment(runner: subprocess.Popen, victim: str, seconds: float) -> None:
    """Wait until there is something to kill in that role (the runner itself: until it has begun), then `seconds`."""
    role = victim if victim in ("job", "kernel") else "job"
    with contextlib.suppress(psutil.NoSuchProcess):
        wait_for(lambda: runner.poll() is not None or family(runner)[role])
    time.sleep(seconds)


def pages(root: Path) -> dict[Path, bytes]:
    """Every page under its final name, checked to be whole and run at the full scale."""
    found = {path: path.read_bytes() for folder in ("_build/runs/full", "results/full")
             for path in (root / folder).glob("theory/*.ipynb") if path.stem in PAGES}  # fmt: skip
    for path, content in found.items():
        nb = nbformat.reads(content.decode(), as_version=4)
        nbformat.validate(nb)
        code = [cell for cell in nb.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code), f"{path} is half-written"
        assert code[-1].outputs[0].data["text/plain"] == "7", f"{path} was run with other parameters"
    return found


def finished(root: Path) -> dict[str, bytes]:
    """The executed page of those that have been published."""
    found = pages(root)
    return {page: found[root / f"_build/runs/full/theory/{page}.ipynb"] for page in PAGES
            if root / f"results/full/theory/{page}.ipynb" in found}  # fmt: skip


def test_a_run_killed_at_random_moments_resumes_without_losing_or_breaking_a_page(book: Path) -> None:
    """In each round a job or its kernel is killed, which the runner survives, then both again, and then the runner."""
    chance, struck = random.Random(2026), dict.fromkeys(VICTIMS, 0)
    before: dict[str, bytes] = {}
    while sum(struck.values()) < KILLS:
        runner = start(book)
        for victim in ("job", "kernel", chance.choice(VICTIMS[2:])):
            moment(runner, victim, chance.uniform(0, 0.8))
            struck[victim] += bool(strike(runner, victim))
        runner.kill()
        runner.wait()
        now = finished(book)
        assert before.items() <= now.items(), "a finished page was lost, or made again"
        before = now if len(now) < len(PAGES) - 1 else begin_anew(book)
    assert all(struck.values()), struck
    done = go(book, "full")
    assert done.returncode == 0, done.stderr
    now = finished(book)
    assert len(now) == len(PAGES) and before.items() <= now.items()
    leftovers = [path.name for path in book.rglob("*") if "partial" in path.name or "failed" in path.name]
    assert leftovers == []
    again = go(book, "full")
    assert again.returncode == 0 and "to run" not in again.stdout


def begin_anew(root: Path) -> dict[str, bytes]:
    """Remove most pages, so that there is something to kill; returns what is left."""
    for page in PAGES[1:]:
        for folder in ("_build/runs/full", "results/full"):
            (root / folder / f"theory/{page}.ipynb").unlink(missing_ok=True)
    return finished(root)


def test_a_kill_while_a_page_is_being_published_leaves_the_published_one_whole(book: Path, tmp_path: Path) -> None:
    for page in PAGES[1:]:
        (book / f"notebooks/theory/{page}.full.yml").unlink()
    assert go(book, "full").returncode == 0
    published = book / "results/full/theory/one.ipynb"
    before = published.read_bytes()
    (book / "notebooks/theory/one.full.yml").write_text("seed: 8\n")
    slow = tmp_path / "bin/cp"  # half a copy, then nothing for a long time
    slow.parent.mkdir()
    slow.write_text('#!/bin/sh\nhead -c 500 "$1" > "$2"; exec sleep 100\n')
    slow.chmod(0o755)
    way = environment(book) | {"PATH": f"{slow.parent}:{os.environ['PATH']}"}
    runner = subprocess.Popen([*GO, "full"], cwd=book, env=way, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    half = published.with_name("one.ipynb.partial")
    wait_for(lambda: half.exists() and half.stat().st_size)
    strike(runner, "everything")
    runner.wait()
    assert published.read_bytes() == before
    assert go(book, "full").returncode == 0
    assert nbformat.read(published, as_version=4).cells[-1].outputs[0].data["text/plain"] == "8"
    assert not half.exists()


def test_a_job_and_its_kernel_end_when_their_runner_is_gone(book: Path) -> None:
    write(book / "notebooks/theory/one.ipynb", "import time; time.sleep(100)", "seed")
    runner = start(book)
    wait_for(lambda: family(runner)["kernel"])
    left = family(runner)["job"] + family(runner)["kernel"]
    runner.kill()
    runner.wait()
    wait_for(lambda: not any(process.is_running() for process in left))


def wait_for(condition: Callable[[], object], seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
