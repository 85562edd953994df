"""What a page takes from the library: which functions and classes its notebook names, and what each is for."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from repro.site.imports import PACKAGE, notebook_tree


def uses(notebook: Mapping[str, Any], library: Path) -> list[str]:
    """Dotted names of the library's definitions that a notebook (its parsed JSON) names; sorted.

    ``from repro.measure.probe import probe_accuracy`` is one, and so is ``probe.probe_accuracy`` after
    ``from repro.measure import probe``. A name that a package re-exports counts where it is defined.
    """
    tree = notebook_tree(notebook)
    names = {alias: name for node in ast.walk(tree) for alias, name in _aliases(node)}
    attributes = {
        f"{names[node.value.id]}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names
    }
    found = {defined(name, library) for name in {*names.values(), *attributes}}
    return sorted(name for name in found if name)


def defined(name: str, library: Path) -> str | None:
    """Where a dotted name is defined, after re-exports; None for what is no function or class of the library's."""
    module, _, leaf = name.rpartition(".")
    path = _file(module, library)
    if path is None:
        return None
    definitions, exported = _contents(path)
    if leaf in definitions:
        return name
    return defined(exported[leaf], library) if leaf in exported else None


def summary(name: str, library: Path) -> str:
    """First sentence of a definition's docstring; empty where it has none."""
    module, _, leaf = name.rpartition(".")
    path = _file(module, library)
    text = _contents(path)[0].get(leaf, "") if path else ""
    return " ".join(text.split("\n\n")[0].split())


def _aliases(node: ast.AST) -> list[tuple[str, str]]:
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
        return [(alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names]
    if isinstance(node, ast.Import):
        return [(alias.asname, alias.name) for alias in node.names if alias.asname and alias.name.startswith(PACKAGE)]
    return []


def _file(module: str, library: Path) -> Path | None:
    stem = library.joinpath(*module.split(".")) if module else library
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.exists()), None)


@cache
def _contents(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """A module's public functions and classes with their docstrings, and the names it imports with where from."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    kinds = (ast.FunctionDef, ast.ClassDef)
    public = [node for node in body if isinstance(node, kinds) and not node.name.startswith("_")]
    return ({node.name: ast.get_docstring(node) or "" for node in public},
            {alias: name for node in body for alias, name in _aliases(node)})  # fmt: skip
