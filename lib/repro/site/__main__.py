"""``python -m repro.site stage | build``: the commands behind ``make book``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from repro.site.runs import Run


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 if all went well, 1 with one line a problem on stderr."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except ValueError as error:
        return _complain(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m repro.site", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for name, command, what in (
        ("stage", _stage, "write the Sphinx source tree"),
        ("build", _build, "stage, then render the site"),
    ):
        one = commands.add_parser(name, help=what)
        one.add_argument("--root", type=Path, default=Path(), help="the project (default: here)")
        one.add_argument("--runs", type=Path, help="executed notebooks (default: ROOT/_build/runs)")
        one.add_argument("--out", type=Path, help="where _build/html and _build/book go (default: ROOT)")
        one.set_defaults(command=command)
    return parser


def _stage(options: argparse.Namespace) -> int:
    from repro.site.stage import stage

    root, out = options.root.resolve(), (options.out or options.root).resolve()
    runs = stage(root, options.runs or root / "_build" / "runs", out / "_build" / "book")
    return _report(runs)


def _build(options: argparse.Namespace) -> int:
    """Render even where runs failed, so that the failures can be seen; the exit status still tells of them."""
    from repro.site.build import render

    failed, out = _stage(options), (options.out or options.root).resolve()
    try:
        render(out / "_build" / "book", out)
    except subprocess.CalledProcessError as error:
        return _complain(f"jupyter-book failed with status {error.returncode}; its messages stand above")
    print(f"The book is at {out / '_build' / 'html' / 'index.html'}")
    return failed


def _report(runs: list[Run]) -> int:
    for run in runs:
        if run.failure:
            _complain(f"{run.name} failed: {run.failure} ({run.path})")
    return int(any(run.failure for run in runs))


def _complain(line: str) -> int:
    print(f"repro.site: {line}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
