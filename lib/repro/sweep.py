"""A sweep: one notebook over a grid of its parameters, described by a small YAML file.

::

    notebook: notebooks/theory/benign-overfitting-xor.ipynb
    scale: small            # the settings start from this scale's parameters (the default)
    parameters: {n_seeds: 8}          # the same in every setting
    grid: {n: [40, 80], p: [2000, 4000]}    # every combination is one setting, hence one job

``python -m repro.sweep check FILE`` says what would run, ``table FILE`` makes table and plot of what has run.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.parameters import OneLineError, Parameter, ParameterError, declared, read_overrides, validate

KEYS = ("notebook", "scale", "parameters", "grid")
SCALES = ("small", "full")


class SweepError(OneLineError):
    """A sweep file that cannot be run."""


@dataclass(frozen=True)
class Sweep:
    """A checked sweep; ``settings``: a name that can stand in a path -> its values of the grid's parameters."""

    name: str
    notebook: Path
    scale: str
    parameters: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]

    @property
    def axes(self) -> list[str]:
        """The grid's parameters, in the file's order."""
        return list(next(iter(self.settings.values())))

    @property
    def folder(self) -> Path:
        """Where runs, table and plot go."""
        return Path("_build/sweeps") / self.name

    @property
    def files(self) -> list[Path]:
        """Parameter files that the runs start from."""
        return [self.notebook.with_suffix(".full.yml")] if self.scale == "full" else []

    def run(self, setting: str) -> Path:
        """The executed notebook of a setting."""
        return self.folder / "runs" / f"{setting}.ipynb"

    def arguments(self, setting: str) -> str:
        """What ``repro.run`` is to be told for a setting, quoted for a shell."""
        files = [word for path in self.files for word in ("-f", str(path))]
        values = {**self.parameters, **self.settings[setting]}
        return shlex.join([*files, *(word for name in values for word in ("-p", name, _text(values[name])))])


def read_sweep(path: Path) -> Sweep:
    """Read and check a sweep file; raises SweepError, one line, on the first thing that is wrong with it."""
    try:
        return _read(path)
    except OneLineError as error:
        raise SweepError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def _read(path: Path) -> Sweep:
    content = read_overrides(path)
    for key in content:
        if key not in KEYS:
            raise SweepError(f"unknown entry {key!r}; allowed: {', '.join(KEYS)}")
    if not re.fullmatch(r"[\w-][\w.-]*", path.stem):
        raise SweepError("the file's name becomes a folder: use letters, digits, '-', '_' and '.' only")
    notebook, scale = _notebook(content), content.get("scale", "small")
    if scale not in SCALES:
        raise SweepError(f"scale: {scale!r} is not one of {', '.join(SCALES)}")
    if scale == "full" and not notebook.with_suffix(".full.yml").exists():
        raise SweepError(f"scale: {notebook} has no {notebook.with_suffix('.full.yml').name}")
    parameters = declared(notebook)
    fixed = validate(parameters, _mapping(content, "parameters"))
    return Sweep(path.stem, notebook, scale, fixed, _settings(_grid(content, parameters, fixed)))


def _notebook(content: Mapping[str, Any]) -> Path:
    given = content.get("notebook")
    if not isinstance(given, str) or not re.fullmatch(r"notebooks/[^/]+/[^/]+\.ipynb", given):
        raise SweepError(f"notebook: {given!r} is not of the form notebooks/<part>/<slug>.ipynb")
    if not Path(given).is_file():
        raise SweepError(f"notebook: there is no {given}")
    return Path(given)


def _mapping(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key) or {}
    if not isinstance(value, dict):
        raise SweepError(f"{key}: {value!r} is not a mapping of parameter names")
    return value


def _grid(
    content: Mapping[str, Any], parameters: Mapping[str, Parameter], fixed: Mapping[str, Any]
) -> dict[str, list[Any]]:
    grid = _mapping(content, "grid")
    if not grid:
        raise SweepError("grid: it is empty; give at least one parameter a list of values")
    checked = {}
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise SweepError(f"grid: {name}: {values!r} is not a list of at least one value")
        if name in fixed:
            raise SweepError(f"grid: {name} stands under 'parameters' too")
        checked[name] = [validate(parameters, {name: value})[name] for value in values]
        if any(value in checked[name][:place] for place, value in enumerate(checked[name])):
            raise SweepError(f"grid: {name}: a value stands twice")
    return checked


def _settings(grid: Mapping[str, list[Any]]) -> dict[str, dict[str, Any]]:
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    return {_name(values): values for values in combinations}


def _name(values: Mapping[str, Any]) -> str:
    """Readable, and unique: where characters had to go, a digest of the values stands in for them."""
    told = ",".join(f"{name}={_text(value)}" for name, value in values.items())
    short = re.sub(r"[^\w.,=+-]+", "-", told)[:80]
    if short == told:
        return told
    return f"{short}-{hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]}"


def _text(value: Any) -> str:
    """A value as it stands on a command line."""
    return value if isinstance(value, str) else json.dumps(value)


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 if all is well, 1 if settings lack a result, 2 with one line for a bad file."""
    parser = argparse.ArgumentParser("python -m repro.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("check", "table"))
    parser.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    try:
        sweep = read_sweep(options.file)
    except (SweepError, ParameterError) as error:
        print(error, file=sys.stderr)
        return 2
    if options.what == "check":
        print(f"{sweep.name}: {len(sweep.settings)} settings of {sweep.notebook} over {', '.join(sweep.axes)}")
        return 0
    from repro.sweep_table import report

    return report(sweep)


if __name__ == "__main__":
    sys.exit(main())
