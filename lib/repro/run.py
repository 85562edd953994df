"""Run one notebook with checked parameters: ``python -m repro.run NOTEBOOK OUT [-f FILE.yml] [-p NAME VALUE]``.

OUT appears whole or not at all. A run that fails leaves what was executed, with the traceback or the reason in the cell
where it ended, as OUT's ``.failed.ipynb``. Exit status: 0 done, 1 the run failed, 2 the request was wrong, 143 it was
terminated, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from repro.nursery import ADDRESS, IMPORTS, imported
from repro.outcome import beside, bury, finish
from repro.parameters import (
    THREAD_VARIABLES,
    OneLineError,
    Parameter,
    ParameterError,
    declared,
    read_overrides,
    require_known,
    validate,
)
from repro.resources import DEFAULTS, ResourceError, resources


class RunError(OneLineError):
    """The notebook did not run to its end."""


@dataclass(frozen=True)
class How:
    """How to run: the longest that one cell (`timeout`, seconds) and the whole run (`minutes`) may take, the process
    whose end also ends the run (`runner`), and whether to tell how far it is (`progress`).
    """

    timeout: int | None = None
    minutes: float | None = None
    runner: int | None = None
    progress: bool = False


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.ended:
            bury(
                options.notebook, options.out, f"Ended: the run ended with status {options.ended}, before its last cell"
            )
            return 0
        parameters = declared(options.notebook)
        overrides = collect(parameters, options.file, options.parameter)
        if options.check:
            return 0
        if options.out is None:
            raise ParameterError("say where the executed notebook goes: python -m repro.run NOTEBOOK OUT")
        set_environment(overrides.get("threads", parameters["threads"].default if "threads" in parameters else 1))
        minutes = resources(options.notebook, options.scale).minutes if options.scale else None
        how = How(options.timeout, minutes, options.runner, options.progress)
        if how.progress:
            os.environ |= {"REPRO_PROGRESS": "1", "TQDM_MININTERVAL": "1"}
        run(options.notebook, options.out, overrides, how)
    except (ParameterError, ResourceError, RunError, OSError) as error:
        print(str(error) if isinstance(error, ResourceError) else f"{options.notebook}: {error}", file=sys.stderr)
        return 2 if isinstance(error, (ParameterError, ResourceError)) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m repro.run", description="Run one notebook with checked parameters.")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("out", type=Path, nargs="?", help="where the executed notebook goes")
    parser.add_argument("-f", "--file", action="append", default=[], help="YAML file of parameters; later ones win")
    parser.add_argument("-p", "--parameter", action="append", default=[], nargs=2, metavar=("NAME", "VALUE"),
                        help="one parameter; wins over every file")  # fmt: skip
    parser.add_argument("--timeout", type=int, metavar="SECONDS", help="the longest that one cell may take")
    parser.add_argument(
        "--scale", choices=DEFAULTS, help="hold the run to the minutes that the notebook asks for there"
    )
    parser.add_argument("--runner", type=int, metavar="PID", help="end when this process ends")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=sys.stderr.isatty(),
                        help="tell on stderr how far the run is (default: on a terminal)")  # fmt: skip
    parser.add_argument(
        "--ended", metavar="STATUS", help="run nothing: OUT's run was killed, keep what it left as failed"
    )
    parser.add_argument("--check", action="store_true", help="only check the parameters")
    return parser


def collect(
    parameters: Mapping[str, Parameter], files: Iterable[str | Path], pairs: Iterable[tuple[str, str]]
) -> dict[str, Any]:
    """The overrides that `files`, then `pairs` (name, text), give; raises ParameterError on the first that is wrong."""
    overrides: dict[str, Any] = {}
    for file in files:
        try:
            overrides |= validate(parameters, read_overrides(file))
        except ParameterError as error:
            raise ParameterError(str(error) if str(file) in str(error) else f"{file}: {error}") from None
    for name, text in pairs:
        require_known(parameters, [name])
        overrides[name] = parameters[name].parse(text)
    return overrides


def set_environment(threads: int) -> None:
    """Make kernels started from this process use `threads` CPU threads, a fixed string hash and the same data folder."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    if threads != 1:  # the nursery's libraries have been told already
        os.environ.pop(ADDRESS, None)
    os.environ["PYTHONHASHSEED"] = "0"
    # glibc hands freed megabytes back to the system and asks for them anew at every training step: page faults cost a
    # tenth of the time. Keep what was freed; the peak is the same. Stacked networks fill tens of megabytes: found
    # through pages of 2 MiB instead of 4 KiB, where the system has them, they are read a tenth faster again.
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(4 << 30))
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 << 20))
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # else every kernel warns about frozen modules
    if os.environ.get("REPRO_DATA"):  # a relative path means the caller's folder, not the notebook's, where kernels run
        os.environ["REPRO_DATA"] = str(Path(os.environ["REPRO_DATA"]).resolve())


def run(notebook: Path, out: Path, overrides: Mapping[str, Any], how: How | None = None) -> None:
    """Execute `notebook` in its own folder, the result going to `out`; raises RunError if it does not reach its end.

    Time and peak memory go into the executed notebook's metadata, ``repro_run``, also where the run failed.
    """
    from repro.watch import OutOfTime, Watch, sole_writer

    how = how or How()
    watch = Watch(how.minutes, how.runner)
    partial, failed = beside(out, "partial"), beside(out, "failed")
    out.parent.mkdir(parents=True, exist_ok=True)
    # also SIGINT: where a shell started us in the background it is ignored, and Python then raises nothing by itself
    previous = {number: signal.signal(number, _terminate) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with sole_writer(partial):
            failed.unlink(missing_ok=True)
            try:
                with watch:
                    _execute(notebook, partial, overrides, how)
                finish(out, watch.cost)
            except BaseException as error:
                reason = _reason(error, how)
                if partial.exists():  # else we were told to stop just after the page had been put in place
                    bury(notebook, out, reason, watch.cost)
                if not isinstance(error, (Exception, OutOfTime)):
                    raise
                raise RunError(f"{reason} (see {failed})") from error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _execute(notebook: Path, partial: Path, overrides: Mapping[str, Any], how: How) -> None:
    """Papermill, quiet. It writes `partial` before each cell, hence never the final name."""
    with absent("pyarrow"):  # a third of papermill's imports, for files on Hadoop
        import papermill

    from repro.kernel import ENGINE, Progress
    from repro.site.imports import notebook_tree

    with contextlib.suppress(SyntaxError):  # the run will tell in which cell
        os.environ[IMPORTS] = " ".join(imported(notebook_tree(json.loads(notebook.read_text(encoding="utf-8")))))
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what went wrong is said once, by our own line
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        executed = papermill.execute_notebook(
            str(notebook), str(partial), parameters=dict(overrides), cwd=str(notebook.parent.resolve()),
            engine_name=ENGINE, progress_bar=False, execution_timeout=how.timeout,
            progress=Progress(_called(notebook, partial)) if how.progress else None,
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        )  # fmt: skip
    # Papermill marks the cells after a dead kernel as completed, so what was executed is read off the cells.
    cells = [cell for cell in executed.cells if cell.cell_type == "code" and cell.source.strip()]
    skipped = [cell for cell in cells if cell.execution_count is None]
    if skipped:
        raise RunError(f"{len(skipped)} of {len(cells)} code cells were not executed")


@contextlib.contextmanager
def absent(module: str) -> Iterator[None]:
    """Inside, importing ``module`` fails as where it is not installed, unless it has been imported before."""
    known = module in sys.modules
    sys.modules.setdefault(module, None)  # type: ignore[arg-type]
    try:
        yield
    finally:
        if not known:
            del sys.modules[module]


def _called(notebook: Path, partial: Path) -> str:
    """What progress lines call the run: the page, and the setting where it is one of a sweep's."""
    page, setting = f"{notebook.parent.name}/{notebook.stem}", partial.name.removesuffix(".partial.ipynb")
    return page if setting == notebook.stem else f"{page} {setting}"


def _reason(error: BaseException, how: How) -> str:
    """Why the run failed, in one line."""
    from repro.watch import OutOfTime

    if isinstance(error, OutOfTime):
        return f"OutOfTime: the run took longer than its limit of {how.minutes:g} minutes"
    if isinstance(error, SystemExit):
        return f"Terminated: the run was told to stop (status {error.code})"
    if hasattr(error, "exec_count"):  # papermill's wrapper around an exception raised by a cell
        return f"cell [{error.exec_count}] raised {error.ename}: {_first_line(error.evalue)}"
    return f"{type(error).__name__}: {_first_line(str(error))}" if not isinstance(error, RunError) else str(error)


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "no message")


if __name__ == "__main__":
    sys.exit(main())
