"""The parameters of the notebook that is running: checked, remembered, and at which scale they are."""

from __future__ import annotations

import ast
import linecache
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.parameters.declare import (
    Parameter,
    ParameterError,
    declared,
    declared_in,
    read_overrides,
    require_known,
    validate,
)

#: Parameters that change where or with which draw a page runs, never at what scale.
NOT_SCALE = frozenset({"seed", "threads", "device"})
#: What numerical libraries read when a process starts.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Current:
    """What the running notebook declared, and the values it runs with."""

    declared: Mapping[str, Parameter]
    values: Mapping[str, Any]


_current: Current | None = None


def current() -> Current | None:
    """What the last `check_parameters` found, or None if it has not run."""
    return _current


def check_parameters() -> None:
    """Check the running notebook's parameters and limit its threads to `threads`; call it in the cell after them.

    What is declared is read from the cells run so far, the values from the notebook's namespace. Raises ParameterError
    if a value does not fit or papermill injected a name that was never declared.
    """
    from IPython.core.getipython import get_ipython

    global _current
    shell = get_ipython()
    if shell is None:
        raise ParameterError("check_parameters() works inside a notebook; outside use repro.parameters.validate")
    parameters, injected = _from_cells(_cells_run(shell.user_ns.get("In", [])))
    require_known(parameters, injected)
    values = validate(parameters, {name: shell.user_ns[name] for name in parameters if name in shell.user_ns})
    require_device(values.get("device", "cpu"))
    set_threads(values.get("threads", 1))
    _current = Current(parameters, values)


def _cells_run(history: list[str]) -> list[str]:
    """The sources of the cells run so far. nbval runs cells outside the history; linecache, which tracebacks quote, has
    them all the same (entries without a file time are sources that were compiled from memory)."""
    if any(history):
        return history
    entries = [entry for entry in linecache.cache.values() if len(entry) == 4 and entry[1] is None]
    return ["".join(lines) for _, _, lines, _ in entries]


def _from_cells(cells: list[str]) -> tuple[dict[str, Parameter], list[str]]:
    """The latest parameters cell among `cells`, and the names that papermill's injected cells after it assign."""
    at = max((index for index, cell in enumerate(cells) if _is_parameters_cell(cell)), default=None)
    if at is None:
        raise ParameterError("no parameters cell has run: run the cell that declares 'seed: int = ...' first")
    injected = [cell for cell in cells[at + 1 :] if cell.lstrip().startswith("# Parameters")]
    names = [node.id for cell in injected for node in ast.walk(ast.parse(cell))
             if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]  # fmt: skip
    return declared_in(cells[at]), names


def _is_parameters_cell(cell: str) -> bool:
    """Every page declares a seed, so a cell of annotated assignments without one is not its parameters cell."""
    try:
        body = ast.parse(cell).body
    except SyntaxError:  # IPython magics
        return False
    names = [ast.unparse(node.target) for node in body if isinstance(node, ast.AnnAssign)]
    return "seed" in names and len(names) == len(body)


def require_device(device: str) -> None:
    """Raise ParameterError, naming the devices that there are, unless torch can compute on ``device``."""
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.split(":")[0], False):
        available = ", ".join(name for name, yes in there.items() if yes)
        raise ParameterError(f"device = {device!r} is not available on this machine; available: {available}")


def set_threads(threads: int) -> None:
    """Use `threads` CPU threads in torch, in the BLAS already loaded and in processes started from here."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))


def scale(now: Current | None, slug: str, part: str, start: Path | None = None) -> str:
    """'small' where the values are the page's defaults, 'full' where they are its full.yml's, else 'custom'.

    The defaults are those of the notebook on disk, so that editing the parameters cell counts as a change. Where
    nothing was checked (`now` is None) nothing is known, and the scale is 'custom'.
    """
    if now is None:
        return "custom"
    base = _page_file(f"{slug}.ipynb", part, start or Path.cwd())
    defaults = {name: p.default for name, p in (declared(base) if base else now.declared).items()}
    if _same_scale(now.values, defaults):
        return "small"
    full = _page_file(f"{slug}.full.yml", part, start or Path.cwd())
    if full and _same_scale(now.values, {**defaults, **read_overrides(full)}):
        return "full"
    return "custom"


def _same_scale(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    return all(left.get(name) == right.get(name) for name in (left.keys() | right.keys()) - NOT_SCALE)


def _page_file(name: str, part: str, start: Path) -> Path | None:
    """The page's file `name`: in `start` (where a page runs) or under notebooks/ of a folder above it."""
    beside = start / name
    if start.name == part and beside.is_file():
        return beside
    for folder in (start, *start.parents):
        if (path := folder / "notebooks" / part / name).is_file():
            return path
    return None
