"""What a parameters cell declares, and whether given values fit.

A parameters cell (tagged ``parameters``) holds one parameter a line::

    width: int = 64  # units in a hidden layer, in [1, 4096]

The type is the annotation, the allowed values are read from the end of the comment: ``in [1, 64]``, ``in (0, inf)``
for numbers (for lists: for each element), ``one of relu, tanh`` for strings.
"""

from __future__ import annotations

import ast
import difflib
import io
import json
import math
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCALARS: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str}
TYPES = (*SCALARS, "list[int]", "list[float]", "list[str]")
NUMBER = r"[+-]?(?:inf|\d[\d_]*\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"
RANGE = re.compile(rf"\bin\s*(?P<left>[\[(])\s*(?P<low>{NUMBER})\s*,\s*(?P<high>{NUMBER})\s*(?P<right>[\])])\s*$")
CHOICES = re.compile(r"\bone of\s+(?P<names>.+?)\s*$")


class OneLineError(ValueError):
    """A mistake of the reader's or author's that one line explains: IPython shows the line, not the traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class ParameterError(OneLineError):
    """A parameter is unknown, has the wrong type or lies outside its range."""


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, each closed (``[``) or open (``(``)."""

    low: float
    high: float
    text: str

    def holds(self, value: float) -> bool:
        above = value >= self.low if self.text[0] == "[" else value > self.low
        below = value <= self.high if self.text[-1] == "]" else value < self.high
        return above and below


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: ``allowed`` is a Range, a tuple of names, or None where the comment names no limits."""

    name: str
    type: str
    default: Any
    help: str
    allowed: Range | tuple[str, ...] | None

    @property
    def element(self) -> str:
        return self.type.removeprefix("list[").removesuffix("]")

    def check(self, value: Any) -> Any:
        """Return `value` (an int given for a float becomes one); raise ParameterError if it does not fit."""
        if self.type == self.element:
            return self._check_scalar(value)
        if not isinstance(value, (list, tuple)):
            raise ParameterError(f"{self.name}: {value!r} is not a {self.type}")
        if not value:
            raise ParameterError(f"{self.name}: the list is empty; give at least one {self.element}")
        return [self._check_scalar(item) for item in value]

    def _check_scalar(self, value: Any) -> Any:
        wanted = SCALARS[self.element]
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise ParameterError(f"{self.name}: {value!r} is not of type {self.element}{_hint(value, wanted)}")
        if isinstance(self.allowed, tuple) and value not in self.allowed:
            raise ParameterError(f"{self.name}: {value!r} is not one of {', '.join(self.allowed)}")
        if isinstance(self.allowed, Range) and not self.allowed.holds(value):
            raise ParameterError(f"{self.name}: {value!r} is not in {self.allowed.text}")
        if wanted is float and math.isnan(value):
            raise ParameterError(f"{self.name}: nan is not a number to run with")
        return value

    def parse(self, text: str) -> Any:
        """The value a command line means by `text`, e.g. ``1e-3`` for a float, ``1,2`` or ``[1, 2]`` for a list."""
        if self.type == self.element:
            return self.check(self._parse_scalar(text))
        items = text.strip().removeprefix("[").removesuffix("]").split(",")
        return self.check([self._parse_scalar(item.strip().strip("'\"")) for item in items if item.strip()])

    def _parse_scalar(self, text: str) -> Any:
        if self.element == "bool":
            words = {"true": True, "false": False}
            return words.get(text.lower(), text)
        try:
            return SCALARS[self.element](text)
        except ValueError:
            return text  # the check that follows names what is wrong with it


def _hint(value: Any, wanted: type) -> str:
    if wanted in (int, float) and isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return ""
        plain = int(number) if wanted is int and number.is_integer() else number
        return f" but a string: write {plain!r} (YAML reads 1e-3 as text, 1.0e-3 as a number)"
    return ""


def declared(notebook: str | Path | Mapping[str, Any]) -> dict[str, Parameter]:
    """The parameters that a notebook (its path, or its parsed JSON) declares, by name, in order.

    Raises ParameterError where the notebook cannot be read, has no cell tagged ``parameters`` or declares badly.
    """
    where = "the notebook" if isinstance(notebook, Mapping) else str(notebook)
    if not isinstance(notebook, Mapping):
        notebook = _read_notebook(Path(notebook))
    for cell in notebook.get("cells", []):
        if "parameters" in cell.get("metadata", {}).get("tags", []):
            source = cell["source"]
            return declared_in(source if isinstance(source, str) else "".join(source))
    raise ParameterError(f"{where} has no cell tagged 'parameters'")


def _read_notebook(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(f"{path}: no such notebook") from None
    except (OSError, ValueError) as error:
        raise ParameterError(f"{path} is not a readable notebook: {error}") from None


def declared_in(source: str) -> dict[str, Parameter]:
    """The parameters that a parameters cell's source declares; raises ParameterError, naming the first bad one."""
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise ParameterError(f"the parameters cell does not parse: {error}") from None
    comments = _comments(source)
    found: dict[str, Parameter] = {}
    for node in body:
        parameter = _parameter(node, comments.get(node.end_lineno or 0, ""))
        if parameter.name in found:
            raise ParameterError(f"{parameter.name}: declared twice")
        parameter.check(parameter.default)
        found[parameter.name] = parameter
    if not found:
        raise ParameterError("the parameters cell declares nothing")
    return found


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def _parameter(node: ast.stmt, comment: str) -> Parameter:
    line = ast.unparse(node)
    if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
        raise ParameterError(f"parameters cell: {line!r} is not of the form 'name: type = default'")
    name, kind = node.target.id, ast.unparse(node.annotation)
    if kind not in TYPES:
        raise ParameterError(f"{name}: type {kind} is not one of {', '.join(TYPES)}")
    if "=" in comment:
        raise ParameterError(f"{name}: its comment holds '=', which makes papermill overlook the parameter")
    try:
        default = ast.literal_eval(node.value)
    except ValueError:
        raise ParameterError(f"{name}: default {ast.unparse(node.value)} is not a plain value") from None
    return Parameter(name, kind, default, comment, _allowed(name, kind, comment))


def _allowed(name: str, kind: str, comment: str) -> Range | tuple[str, ...] | None:
    if match := RANGE.search(comment):
        if "str" in kind or kind == "bool":
            raise ParameterError(f"{name}: a {kind} has no range; write 'one of a, b'")
        text = comment[match.start("left") :].strip()
        low, high = float(match["low"]), float(match["high"])
        if low > high:
            raise ParameterError(f"{name}: the range {text} is empty")
        return Range(low, high, text)
    if "str" in kind and (match := CHOICES.search(comment)):
        return tuple(choice.strip() for choice in match["names"].split(","))
    if re.search(r"\bin\s*[\[(][^\])]*[\])]?\s*$", comment):
        raise ParameterError(f"{name}: cannot read the range at the end of {comment!r}; write it like 'in [1, 64]'")
    return None


def validate(parameters: Mapping[str, Parameter], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Check `overrides` (name: value) against what is declared and return them; ParameterError on the first misfit."""
    require_known(parameters, overrides)
    return {name: parameters[name].check(value) for name, value in overrides.items()}


def require_known(parameters: Mapping[str, Parameter], names: Iterable[str]) -> None:
    """Raise ParameterError, suggesting the nearest name, if any of `names` is not declared."""
    for name in names:
        if name not in parameters:
            near = difflib.get_close_matches(str(name), parameters, n=1)
            guess = f" (did you mean {near[0]!r}?)" if near else ""
            raise ParameterError(f"unknown parameter {name!r}{guess}; allowed: {', '.join(parameters)}")


def read_overrides(path: str | Path) -> dict[str, Any]:
    """The mapping a YAML parameter file holds (an empty file holds none); raises ParameterError if it is not one."""
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(f"{path}: no such parameter file") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ParameterError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ParameterError(f"{path}: expected lines 'name: value', found {type(content).__name__}")
    return content
