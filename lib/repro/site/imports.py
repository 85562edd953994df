"""Which files of the library a notebook depends on, so that the runner redoes what a change in one of them touches.

Snakemake sees a rule's own code but not the modules that a notebook imports. The answer here errs on the side of
too much: where names are resolved at run time (a package with ``__getattr__``), the whole package counts.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGE = "repro"


def library_files(notebook: Path, library: Path) -> list[Path]:
    """Files under ``library`` (the folder that holds the package) that ``notebook`` imports, transitively; sorted.

    Modules imported inside functions count too. Data files lying beside a used module in its package count as well.
    """
    seen: set[Path] = set()
    waiting = _modules(notebook_tree(json.loads(notebook.read_text(encoding="utf-8"))), "", library)
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        if path.suffix == ".py":
            waiting |= _modules(ast.parse(path.read_text(encoding="utf-8")), _package(path, library), library)
            waiting |= _beside(path)
    return sorted(seen)


def notebook_tree(notebook: Mapping[str, Any]) -> ast.Module:
    """The code of all cells of a notebook (its parsed JSON), less the lines that only IPython understands."""
    cells = notebook["cells"]
    lines = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code").splitlines()
    return ast.parse("\n".join("pass" if line.lstrip().startswith(("%", "!")) else line for line in lines))


def _package(path: Path, library: Path) -> str:
    """The package that relative imports in ``path`` start from."""
    return ".".join(path.relative_to(library).parent.parts)


def _modules(tree: ast.Module, package: str, library: Path) -> set[Path]:
    files: set[Path] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                files |= _chain(alias.name, library)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            files |= _chain(base, library)
            for alias in node.names:
                files |= _chain(f"{base}.{alias.name}", library)
    return files


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _chain(module: str, library: Path) -> set[Path]:
    """The file of a module of ours and the ``__init__`` of every package above it; empty for other modules."""
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return set()
    files = set()
    for depth in range(1, len(parts) + 1):
        stem = library.joinpath(*parts[:depth])
        files |= {path for path in (stem / "__init__.py", stem.with_suffix(".py")) if path.exists()}
    return files


def _beside(path: Path) -> set[Path]:
    """Data files of the module's package, and all its modules where the package looks names up at run time."""
    files = {other for other in path.parent.iterdir() if other.is_file() and other.suffix not in (".py", ".pyc")}
    if path.name == "__init__.py" and "def __getattr__" in path.read_text(encoding="utf-8"):
        files |= set(path.parent.glob("*.py"))
    return files
