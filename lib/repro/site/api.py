"""The library's reference: a page a module, filled from docstrings by Sphinx's autodoc, and who uses the module."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.site.docstrings import KEPT, ROLE
from repro.site.runs import Run

FOLDER = "api"
_MARKUP = re.compile(r"([\\*|$<\[\]_{}`])")
_MODULE = """# `{name}`

```{{eval-rst}}
.. automodule:: {name}
   :members:
   :ignore-module-all:
```
"""
_PACKAGE = """# `{name}`

```{{eval-rst}}
.. automodule:: {name}
   :ignore-module-all:
```
"""


@dataclass(frozen=True)
class Module:
    """A module of the library: its dotted name, the first line of its docstring, whether it is a package."""

    name: str
    summary: str
    package: bool

    @property
    def docname(self) -> str:
        """Its page, from the site's root."""
        return f"{FOLDER}/{self.name}"


def modules(library: Path) -> list[Module]:
    """All modules under ``library`` (the folder that holds the package), packages before what they hold.

    Modules that only start a program (``__main__``) are left out. Raises ValueError naming one without a docstring.
    """
    found = [_module(path, library) for path in library.rglob("*.py") if path.name != "__main__.py"]
    return sorted(found, key=lambda module: module.name)


def _module(path: Path, library: Path) -> Module:
    parts = path.relative_to(library).with_suffix("").parts
    package = parts[-1] == "__init__"
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not told:
        raise ValueError(f"{path} has no docstring: say in one what the module is for")
    return Module(".".join(parts[:-1] if package else parts), " ".join(told.split("\n\n")[0].split()), package)


def stage(library: Path, users: Mapping[str, Iterable[Run]], target: Path) -> list[dict[str, Any]]:
    """Write the reference's pages under ``target``; returns their entries in the contents: the package's.

    ``users``: module name to the runs whose notebooks use it.
    """
    found = modules(library)
    (target / FOLDER).mkdir(parents=True, exist_ok=True)
    for module in found:
        source = (_PACKAGE if module.package else _MODULE).format(name=module.name)
        source += _below(module, found) + _used_by(users.get(module.name, ()))
        (target / f"{module.docname}.md").write_text(source, encoding="utf-8")
    return [_entry(module, found) for module in found if "." not in module.name]


def _children(module: Module, found: list[Module]) -> list[Module]:
    return [other for other in found if module.package and other.name.rpartition(".")[0] == module.name]


def _below(module: Module, found: list[Module]) -> str:
    """A package's modules with what each is for."""
    return "".join(
        f"\n[`{child.name}`](/{child.docname}.md)\n: {prose(child.summary)}\n" for child in _children(module, found)
    )


def _used_by(runs: Iterable[Run]) -> str:
    pages = [f"- [{run.title}](/{run.docname}.ipynb)\n" for run in runs]
    return "\n## Used by\n\n" + "".join(pages) if pages else ""


def _entry(module: Module, found: list[Module]) -> dict[str, Any]:
    below = [_entry(child, found) for child in _children(module, found)]
    entry: dict[str, Any] = {"file": module.docname, "title": module.name if "." in module.name else "The library"}
    return entry | ({"sections": below} if below else {})


def prose(text: str) -> str:
    """Docstring text as Markdown: code in backticks and ``*emphasis*`` mean the same there, other marks themselves."""
    pieces = KEPT.split(ROLE.sub("", text))
    return "".join(piece if at % 2 else _MARKUP.sub(r"\\\1", piece) for at, piece in enumerate(pieces))
