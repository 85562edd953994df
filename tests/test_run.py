"""The runner, on real kernels: one notebook that works, and ones that break in every way we know."""

from __future__ import annotations

import contextlib
import importlib
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from repro.evidence import MIME, validate_record
from repro.parameters import THREAD_VARIABLES
from repro.run import How, absent, run, set_environment

SETUP = """\
seed: int = 2026  # base seed in [0, 1000000000]
threads: int = 1  # CPU threads in [1, 64]
lr: float = 0.1  # step size in (0, inf)
"""
PAGE = [
    "from repro.evidence import Page, above\npage = Page('demo', part='theory', title='Demo', key='demo')\n"
    "page.claim('c1', 'Something is positive', reported='qualitative', criterion=above(0))\npage.claims()",
    SETUP,
    "from repro.parameters import check_parameters\ncheck_parameters()",
    "import os, sys, torch\nprint(os.getcwd(), torch.get_num_threads(), sys.flags.hash_randomization, hash('a'), lr)",
    "page.judge('c1', [lr + 0.01 * i for i in range(8)], control=('sign flipped', [-lr] * 4 + [lr] * 4))",
    "page.evidence()",
    "page.verdicts()",
]


def write(path: Path, *cells: str) -> Path:
    """A notebook whose cell SETUP is its parameters cell and whose last cell nbval compares."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for cell in book.cells:
        cell.metadata["tags"] = ["parameters"] if cell.source == SETUP else []
    book.cells[-1].metadata["tags"] = ["nbval-check-output"]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "repro.run", *map(str, arguments)]


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120)


def outputs(path: Path) -> list[nbformat.NotebookNode]:
    return [out for cell in nbformat.read(path, 4).cells if cell.cell_type == "code" for out in cell.outputs]


def record(path: Path) -> dict:
    return next(out.data[MIME] for out in outputs(path) if MIME in out.get("data", {}))


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("book") / "notebooks" / "theory" / "demo.ipynb", *PAGE)


@pytest.fixture(scope="module")
def small(demo: Path) -> Path:
    """The page, run at its defaults."""
    out = demo.parents[2] / "runs" / "demo.ipynb"
    done = call(demo, out, "-p", "threads", "2", "-p", "seed", "7")
    assert (done.returncode, done.stderr) == (0, "")
    return out


def test_a_run_puts_the_executed_notebook_at_out_and_nothing_else(small: Path) -> None:
    assert os.listdir(small.parent) == ["demo.ipynb"]
    assert all(cell.execution_count for cell in nbformat.read(small, 4).cells)


def test_the_kernel_runs_in_the_notebooks_folder_with_the_threads_and_hash_seed_asked_for(
    small: Path, demo: Path
) -> None:
    text = next(out.text for out in outputs(small) if out.output_type == "stream" and "notebooks" in out.text)
    folder, threads, randomised, value, lr = text.split()
    assert (Path(folder), threads, randomised, lr) == (demo.parent.resolve(), "2", "0", "0.1")
    expected = subprocess.run([sys.executable, "-c", "print(hash('a'))"], env=os.environ | {"PYTHONHASHSEED": "0"},
                              capture_output=True, text=True)  # fmt: skip
    assert value == expected.stdout.strip()


def test_the_executed_page_carries_a_valid_record_that_knows_its_scale_and_parameters(small: Path) -> None:
    found = record(small)
    validate_record(found)
    assert found["scale"] == "small" and found["parameters"] == {"seed": 7, "threads": 2, "lr": 0.1}
    assert found["environment"]["threads"] == 2 and found["claims"][0]["verdict"] == "reproduced"


def test_files_then_single_parameters_and_the_full_scale_is_recognised(demo: Path, tmp_path: Path) -> None:
    full = demo.with_suffix(".full.yml")
    full.write_text("lr: 0.5\nseed: 3\n")
    try:
        assert call(demo, tmp_path / "full.ipynb", "-f", full, "-p", "seed", "9").returncode == 0
        found = record(tmp_path / "full.ipynb")
        assert found["scale"] == "full" and found["parameters"]["seed"] == 9
    finally:
        full.unlink()


def test_nbval_accepts_the_executed_page_and_notices_a_changed_verdict(small: Path, tmp_path: Path) -> None:
    def nbval(path: Path) -> subprocess.CompletedProcess[str]:
        options = ["--nbval-lax", "--nbval-current-env", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
        return subprocess.run([sys.executable, "-m", "pytest", *options, str(path)], capture_output=True, text=True,
                              cwd=tmp_path)  # fmt: skip

    book = nbformat.read(small, 4)
    nbformat.write(book, tmp_path / "same.ipynb")
    book.cells[-1].outputs[0].text = "c1: not reproduced\n"
    nbformat.write(book, tmp_path / "changed.ipynb")
    same, changed = nbval(tmp_path / "same.ipynb"), nbval(tmp_path / "changed.ipynb")
    assert same.returncode == 0, same.stdout
    assert changed.returncode == 1 and "1 failed" in changed.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "lrr", "1"], "unknown parameter 'lrr' (did you mean 'lr'?); allowed: seed, threads, lr"),
        (["-p", "lr", "-1"], "lr: -1.0 is not in (0, inf)"),
        (["-p", "threads", "many"], "threads: 'many' is not of type int"),
        (["-f", "wrong.yml"], "wrong.yml: lr: '1e-3' is not of type float but a string: write 0.001"),
        (["-f", "list.yml"], "list.yml: expected lines 'name: value', found list"),
        (["-f", "broken.yml"], "broken.yml is not readable YAML"),
        (["-f", "gone.yml"], "gone.yml: no such parameter file"),
    ],
)
def test_a_wrong_request_stops_in_one_line_before_a_kernel_starts(
    demo: Path, tmp_path: Path, monkeypatch, arguments: list[str], message: str, capsys
) -> None:
    from repro.run import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("repro.run.run", lambda *_: pytest.fail("a kernel would have started"))
    Path("wrong.yml").write_text("lr: 1e-3\n")
    Path("list.yml").write_text("- 1\n")
    Path("broken.yml").write_text("lr: [1\n")
    assert main([str(demo), "out.ipynb", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not Path("out.ipynb").exists()


def test_an_output_that_cannot_be_written_is_one_line(demo: Path, tmp_path: Path, capsys) -> None:
    from repro.run import main

    (tmp_path / "file").write_text("in the way")
    assert main([str(demo), str(tmp_path / "file" / "out.ipynb")]) == 1
    assert "file" in capsys.readouterr().err


def test_check_only_checks(demo: Path, capsys) -> None:
    from repro.run import main

    assert main([str(demo), "--check", "-p", "lr", "1e-3"]) == 0
    assert main([str(demo), "--check", "-p", "lr", "0"]) == 2
    assert main([str(demo)]) == 2 and "say where" in capsys.readouterr().err


def test_a_notebook_that_is_not_there_is_one_line(tmp_path: Path, capsys) -> None:
    from repro.run import main

    assert main([str(tmp_path / "gone.ipynb"), str(tmp_path / "out.ipynb")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("cell", "options", "message"),
    [
        ("raise ValueError('no\\nsecond line')", [], "cell [2] raised ValueError: no"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", [], "DeadKernelError: Kernel died"),
        ("import time; time.sleep(60)", ["--timeout", "1"], "CellTimeoutError: A cell timed out"),
    ],
)
def test_a_failed_run_keeps_its_traceback_aside_says_why_in_one_line_and_leaves_no_output(
    tmp_path: Path, cell: str, options: list[str], message: str
) -> None:
    book = write(tmp_path / "bad.ipynb", SETUP, cell, "print('later')")
    done = call(book, tmp_path / "out" / "x.ipynb", *options)
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert message in line and str(tmp_path / "out" / "x.failed.ipynb") in line
    assert done.stderr.count("\n") == 1, done.stderr
    assert os.listdir(tmp_path / "out") == ["x.failed.ipynb"]
    assert not any("later" in out.get("text", "") for out in outputs(tmp_path / "out" / "x.failed.ipynb"))


def test_a_later_success_removes_the_failed_run_and_a_failure_leaves_the_earlier_success(tmp_path: Path) -> None:
    from repro.run import RunError

    good = write(tmp_path / "good.ipynb", SETUP, "print('fine')")
    bad = write(tmp_path / "bad.ipynb", SETUP, "1 / 0")
    out = tmp_path / "out" / "x.ipynb"
    with pytest.raises(RunError, match="ZeroDivisionError"):
        run(bad, out, {})
    run(good, out, {})
    assert os.listdir(out.parent) == ["x.ipynb"]
    before = out.read_bytes()
    with pytest.raises(RunError):
        run(bad, out, {})
    assert out.read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_terminated_run_leaves_no_output_and_no_kernel(tmp_path: Path, number: int) -> None:
    pid_file = tmp_path / "pid"
    sleep = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(100)"
    book = write(tmp_path / "slow.ipynb", SETUP, sleep)
    process = subprocess.Popen(command(book, tmp_path / "out" / "x.ipynb"), stderr=subprocess.PIPE, text=True)
    _wait_for(lambda: pid_file.exists() and pid_file.read_text())
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode != 0, error
    assert not (tmp_path / "out" / "x.ipynb").exists() and not (tmp_path / "out" / "x.partial.ipynb").exists()
    _wait_for(lambda: not _alive(int(pid_file.read_text())))


def _wait_for(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text() if Path("/proc").exists() else True


def test_a_relative_data_folder_is_the_callers_not_the_notebooks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPRO_DATA", "mirror")
    for name in (*THREAD_VARIABLES, "PYTHONHASHSEED", "PYDEVD_DISABLE_FILE_VALIDATION"):
        monkeypatch.setenv(name, "")
    set_environment(1)
    assert os.environ["REPRO_DATA"] == str(tmp_path / "mirror")


STEPS = (
    "import sys, tqdm\nfor _ in tqdm.tqdm(range(3), mininterval=0): pass\nprint('warned', file=sys.stderr)\nimport os"
)


def test_progress_over_steps_goes_to_the_terminal_and_never_onto_the_page(tmp_path: Path, monkeypatch) -> None:
    import io

    from repro import kernel

    told = io.StringIO()
    monkeypatch.setattr(kernel.Progress.__init__, "__defaults__", (told, 0.0))
    book = write(tmp_path / "notebooks" / "theory" / "x.ipynb", SETUP, STEPS, "os.environ['REPRO_PROGRESS']")
    monkeypatch.setenv("REPRO_PROGRESS", "1")
    run(book, tmp_path / "x.ipynb", {}, How(progress=True))
    lines = told.getvalue().splitlines()
    assert lines[0] == "theory/x: cell 1 of 3" and lines[-1] == "theory/x: cell 3 of 3"
    assert any(line.startswith("theory/x: cell 2 of 3, 100%|") and "3/3" in line for line in lines)
    assert [(out.name, out.text) for out in outputs(tmp_path / "x.ipynb") if "name" in out] == [("stderr", "warned\n")]


@pytest.mark.parametrize(
    ("pieces", "kept"),
    [
        (["one\n", "two\n"], "one\ntwo\n"),
        (["\r 10%|#  | 1/9 [00:01<00:02]", "\r100%|###| 9/9 [00:02<00:00]", "\nwarned\n"], "warned\n"),
        (["\r100%|###| 9/9 [00:02<00:00]\r      \r", "warned\n"], "warned\n"),
        (["before\n\r 10%|#  | 1/9 [00:01<00:02]\nafter\n"], "before\nafter\n"),
        (["\r      \rwarned\n", "\n", "so\n"], "warned\n\nso\n"),
        (["3it [00:01, 2.1it/s]", "\n"], ""),
    ],
)
def test_only_progress_bars_are_taken_out_of_what_a_cell_prints(pieces: list[str], kept: str) -> None:
    from repro.kernel import Bars

    bars = Bars()
    assert "".join(bars.split(piece)[0] for piece in pieces) == kept


def test_training_shows_its_steps_where_progress_is_asked_for(tmp_path: Path) -> None:
    train = (
        "import torch\nfrom repro.train import fit\n"
        "x, y = torch.randn(8, 2), torch.zeros(8, dtype=torch.long)\n"
        "_ = fit(lambda: torch.nn.Linear(2, 2), x, y, steps=3, batch=8, seeds=[0])\n"
        "import time; time.sleep(0.5)"  # the kernel sends what was printed every fifth of a second
    )
    book = write(tmp_path / "x.ipynb", SETUP, train)
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(command(book, tmp_path / "out.ipynb"), stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux tells that the other side has closed
        while piece := os.read(terminal, 65536):
            shown += piece
    assert process.wait() == 0, shown
    assert b"cell 2 of 2, " in shown and b"/3 [" in shown
    assert outputs(tmp_path / "out.ipynb") == []


def test_two_runs_of_one_page_at_once_take_turns(tmp_path: Path) -> None:
    book = write(tmp_path / "slow.ipynb", SETUP, "import time; time.sleep(1)")
    out = tmp_path / "out" / "x.ipynb"
    both = [subprocess.Popen(command(book, out), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(errors) == ["", f"waiting for another run to leave {out.with_name('x.partial.ipynb')}\n"]
    assert os.listdir(out.parent) == ["x.ipynb"]


def test_time_and_memory_with_the_kernels_children_are_recorded(tmp_path: Path) -> None:
    child = (
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time; x = b\"1\" * {}; time.sleep(1)'])"
    )
    peaks = []
    for size in (1, 300_000_000):
        assert call(write(tmp_path / "x.ipynb", SETUP, child.format(size)), tmp_path / "out.ipynb").returncode == 0
        cost = nbformat.read(tmp_path / "out.ipynb", 4).metadata["repro_run"]
        assert cost["seconds"] > 1
        peaks.append(cost["peak_memory_mb"])
    assert peaks[1] - peaks[0] > 250


def test_a_module_made_absent_can_be_imported_again_afterwards(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "seldom_used.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    with absent("seldom_used"), pytest.raises(ImportError):
        importlib.import_module("seldom_used")
    assert importlib.import_module("seldom_used").value == 1
    with absent("seldom_used"):  # known already: whoever holds it may go on
        assert importlib.import_module("seldom_used")
    monkeypatch.delitem(sys.modules, "seldom_used")
