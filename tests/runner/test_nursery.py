"""Kernels that come from a nursery: the same to the page, there sooner, and gone with whom they were for."""

from __future__ import annotations

import ast
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from projects import REPOSITORY, go, project, write

from repro.nursery import ADDRESS, imported

# What a page can see of its surroundings. The variables differ by what tells a kernel who its parent is.
SURROUNDINGS = """\
import os, signal, sys, threading
hidden = ("JPY_", "JUPYTER", "_", "PYDEVD", "REPRO_NURSERY")
[__name__, os.getcwd(), sys.path, sys.flags.hash_randomization, sys.argv[0], os.getpgid(0) == os.getpid(),
 sorted(name for name in os.environ if not name.startswith(hidden)), signal.getsignal(signal.SIGCHLD),
 "repro" in sys.modules]"""


@pytest.fixture
def address() -> Iterator[Path]:
    """Where a nursery of this process listens (pytest's folders have longer names than a socket may have)."""
    with tempfile.TemporaryDirectory() as folder:
        address = Path(folder) / "own" / "kernels"
        address.parent.mkdir()
        command = [sys.executable, "-m", "repro.nursery", str(address), str(os.getpid())]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=surroundings())
        wait_for(address.exists)
        yield address
        process.kill()
        process.wait()


def surroundings(**more: str) -> dict[str, str]:
    hash_seed = {"PYTHONHASHSEED": "0", "PYTHONPATH": str(REPOSITORY / "lib")}
    return {name: value for name, value in os.environ.items() if name != ADDRESS} | hash_seed | more


def begin(notebook: Path, address: Path | None, *options: str) -> subprocess.Popen[str]:
    way = surroundings(**({} if address is None else {ADDRESS: str(address)}))
    command = [sys.executable, "-m", "repro.run", str(notebook), str(notebook.with_name("out.ipynb")), *options]
    return subprocess.Popen(command, env=way, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(notebook: Path, address: Path | None, *options: str) -> nbformat.NotebookNode:
    job = begin(notebook, address, *options)
    _, said = job.communicate(timeout=120)
    assert job.returncode == 0, said
    return nbformat.read(notebook.with_name("out.ipynb"), as_version=4)


def last(executed: nbformat.NotebookNode) -> str:
    return executed.cells[-1].outputs[0].data["text/plain"]


def wait_for(true: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_what_a_page_imports_is_there_before_it_asks(tmp_path: Path, address: Path) -> None:
    page = write(tmp_path / "page.ipynb", "import sys\nearly = 'colorsys' in sys.modules", "import colorsys\nearly")
    assert last(run(page, address)) == "True" and last(run(page, None)) == "False"


def test_a_page_sees_the_surroundings_that_every_kernel_has(tmp_path: Path, address: Path) -> None:
    page = write(tmp_path / "page.ipynb", SURROUNDINGS)
    assert last(run(page, address)) == last(run(page, None))


def test_a_page_draws_as_in_every_kernel(tmp_path: Path, address: Path) -> None:
    page = write(tmp_path / "page.ipynb", "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])")
    drawn = [run(page, where).cells[-1].outputs[0].data["image/png"] for where in (address, None)]
    assert drawn[0] == drawn[1]


def test_what_is_printed_below_python_goes_to_the_job_and_not_to_the_nursery(tmp_path: Path, address: Path) -> None:
    page = write(tmp_path / "page.ipynb", "import os\n_ = os.write(1, b'deep')", "os.write(2, b'low')")
    job = begin(page, address)
    out, error = job.communicate(timeout=60)
    assert job.returncode == 0 and "deep" in out and "low" in error


def test_memory_of_the_kernel_counts_as_the_jobs(tmp_path: Path, address: Path) -> None:
    page = write(tmp_path / "page.ipynb", "held = b'x' * 400_000_000\ndel held")
    assert run(page, address).metadata["repro_run"]["peak_memory_mb"] > 400


def test_other_numbers_of_threads_get_a_kernel_of_their_own(tmp_path: Path, address: Path) -> None:
    page = write(
        tmp_path / "page.ipynb", "import os, sys\n'colorsys' in sys.modules", "import colorsys", "os.getppid()"
    )
    nursery = next(p.pid for p in psutil.Process().children() if str(address) in p.cmdline())
    assert last(run(page, address)) == str(nursery)
    assert last(run(page, address, "-p", "threads", "2")) != str(nursery)


def test_without_its_nursery_a_job_starts_its_kernel_itself(tmp_path: Path) -> None:
    page = write(tmp_path / "page.ipynb", "seed")
    assert last(run(page, tmp_path / "nobody")) == "2026"


def test_a_dead_kernel_fails_the_job(tmp_path: Path, address: Path) -> None:
    job = begin(write(tmp_path / "page.ipynb", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"), address)
    _, said = job.communicate(timeout=60)
    assert job.returncode == 1 and "DeadKernelError" in said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_kernel_ends_with_its_job(tmp_path: Path, address: Path, number: signal.Signals) -> None:
    told = tmp_path / "pid"
    page = write(
        tmp_path / "page.ipynb",
        f"import os, time\nopen({str(told)!r}, 'w').write(f'{{os.getpid()}}.')\ntime.sleep(100)",
    )
    job = begin(page, address)
    wait_for(lambda: told.exists() and told.read_text().endswith("."))
    job.send_signal(number)
    job.communicate(timeout=60)
    wait_for(lambda: not psutil.pid_exists(int(told.read_text()[:-1])), seconds=20)


def test_a_kernel_ends_with_a_job_that_was_gone_before_it_heard_of_its_kernel(tmp_path: Path, address: Path) -> None:
    nursery = next(p for p in psutil.Process().children() if str(address) in p.cmdline())
    with socket.socket(socket.AF_UNIX) as life:
        life.connect(str(address))
        argv = ["-f", str(tmp_path / "connection.json")]
        request = json.dumps({"argv": argv, "modules": [], "cwd": str(tmp_path), "env": surroundings()}).encode()
        socket.send_fds(life, [request + b"\n"], [1, 2])
        wait_for((tmp_path / "connection.json").exists)  # it runs, and nobody has read its answer
    wait_for(lambda: not nursery.children(), seconds=20)


def test_a_nursery_ends_with_whom_it_is_for_and_leaves_nothing(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        starts = (
            "import os, time; from repro import nursery\n"
            "nursery.start(); print(os.environ[nursery.ADDRESS], flush=True); time.sleep(100)"
        )
        owner = subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE, text=True,
                                 env=surroundings(TMPDIR=folder))  # fmt: skip
        assert owner.stdout is not None
        address = Path(owner.stdout.readline().strip())
        wait_for(address.exists)
        owner.kill()
        owner.communicate()
        wait_for(lambda: not address.parent.exists())


def test_a_run_of_the_book_has_a_nursery_and_ends_it(tmp_path: Path) -> None:
    page = write(project(tmp_path) / "notebooks/theory/page.ipynb", "import psutil\nmother = psutil.Process().parent()",
                 "' '.join(mother.cmdline()), mother.pid")  # fmt: skip
    assert go(tmp_path, "small").returncode == 0
    command, pid = ast.literal_eval(
        last(nbformat.read(tmp_path / f"_build/runs/small/theory/{page.name}", as_version=4))
    )
    assert "repro.nursery" in command
    wait_for(lambda: not psutil.pid_exists(pid), seconds=20)


def test_the_modules_of_a_page_are_those_of_its_import_lines_less_the_librarys() -> None:
    page = "import torch\nfrom scipy import stats\nfrom repro import data\nimport repro.rng, json\ndef f():\n    import csv"
    assert imported(ast.parse(page)) == ["torch", "scipy", "scipy.stats", "json"]
