"""Which executed notebook stands for which page, and what its evidence record says."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from repro.evidence.page import MIME

VERDICTS = (
    "reproduced",
    "not reproduced",
    "inconclusive",
    "supports a version",
    "precondition failed",
    "not tested here",
    "run failed",
)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Run:
    """One executed notebook.

    ``source`` is the notebook as committed, ``path`` the executed one that is shown; they are the same file
    where no fresher run exists. ``failed`` marks a run that the runner gave up on.
    """

    part: str
    slug: str
    scale: str
    path: Path
    source: Path
    failed: bool = False
    notebook: dict[str, Any] = field(repr=False, hash=False, compare=False, default_factory=dict)

    @property
    def name(self) -> str:
        """``part/slug``, and the scale where it is not the small one: how messages name a page."""
        return f"{self.part}/{self.slug}" + ("" if self.scale == "small" else f" ({self.scale})")

    @property
    def docname(self) -> str:
        """Where the page lies in the site: the path of the same notebook in the repository, less its suffix."""
        return f"{'notebooks' if self.scale == 'small' else 'results/full'}/{self.part}/{self.slug}"

    @cached_property
    def record(self) -> dict[str, Any] | None:
        """The evidence record, or None where the notebook left none or more than one."""
        found = [
            output["data"][MIME]
            for cell in self.notebook.get("cells", [])
            for output in cell.get("outputs", [])
            if MIME in output.get("data", {})
        ]
        if len(found) != 1:
            return None
        return json.loads(found[0]) if isinstance(found[0], str) else found[0]

    @cached_property
    def failure(self) -> str | None:
        """One line on why this run must not pass for a result, or None."""
        if error := _stored_error(self.notebook):
            return error
        if self.failed:
            return "the run ended without finishing (no traceback was stored)"
        if self.record is None:
            return "not exactly one evidence record in the outputs"
        if self.record.get("scale") != self.scale:
            return f"the record says scale {self.record.get('scale')!r}, but this is the {self.scale} page"
        if (self.record.get("part"), self.record.get("slug")) != (self.part, self.slug):
            return f"the record belongs to {self.record.get('part')}/{self.record.get('slug')}"
        return _schema_error(self.record)

    @property
    def title(self) -> str:
        """The paper's title: the notebook's first heading."""
        for cell in self.notebook.get("cells", []):
            if cell["cell_type"] == "markdown" and (heading := re.search(r"^# (.+)$", text(cell), re.M)):
                return heading[1].strip()
        return self.slug

    @property
    def key(self) -> str | None:
        """The paper's bibliography key: the record's, or the first ``{cite}`` of a run that left no record."""
        if self.record:
            return self.record["paper"]["key"]
        cited = (re.search(r"\{cite[:\w]*\}`([^`,]+)", text(cell)) for cell in self.notebook.get("cells", []))
        return next((role[1] for role in cited if role), None)

    @property
    def claims(self) -> list[dict[str, Any]]:
        """The claims of a sound run; a failed run has none."""
        return [] if self.failure or not self.record else self.record["claims"]

    @property
    def counts(self) -> Counter[str]:
        """How many claims ended with which of :data:`VERDICTS`."""
        if self.failure:
            return Counter({"run failed": 1})
        return Counter(kind(claim["verdict"]) for claim in self.claims)


def kind(verdict: str) -> str:
    """The family of a verdict: "supports v1" and "supports neither" are both "supports a version"."""
    return "supports a version" if verdict.startswith("supports ") else verdict


def text(cell: dict[str, Any]) -> str:
    """A cell's source as one string (nbformat allows a list of lines)."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def collect(root: Path, runs: Path) -> list[Run]:
    """All runs to show, in the order part, slug, scale.

    Small scale: ``runs/small/<part>/<slug>.ipynb`` if the runner made one, its ``.failed.ipynb`` if it failed,
    else the committed notebook. Full scale: likewise, with what is committed under ``results/full``; no page where there
    is nothing. Raises ValueError naming a file that is no notebook.
    """
    found = []
    for source in sorted((root / "notebooks").glob("*/*.ipynb")):
        part, slug = source.parent.name, source.stem
        path, failed = _freshest(runs / "small" / part / source.name, source)
        found.append(Run(part, slug, "small", path, source, failed, _load(path)))
        path, failed = _freshest(runs / "full" / part / source.name, root / "results" / "full" / part / source.name)
        if path.exists():
            found.append(Run(part, slug, "full", path, source, failed, _load(path)))
    return found


def _freshest(fresh: Path, committed: Path) -> tuple[Path, bool]:
    broken = failed_path(fresh)
    if broken.exists() and not fresh.exists():
        return broken, True
    return (fresh, False) if fresh.exists() else (committed, False)


def failed_path(out: Path) -> Path:
    """Where the runner leaves the notebook of a failed run whose output would have been ``out``."""
    return out.with_suffix(".failed.ipynb")


def _load(path: Path) -> dict[str, Any]:
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        notebook["cells"], notebook["metadata"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not a readable notebook") from None
    return notebook


def _stored_error(notebook: dict[str, Any]) -> str | None:
    for number, cell in enumerate(notebook.get("cells", []), 1):
        for output in cell.get("outputs", []):
            if output.get("output_type") == "error":
                message = _ANSI.sub("", str(output.get("evalue", ""))).strip().split("\n")[0]
                return f"cell {number} raised {output.get('ename', 'an error')}: {message}"
    return None


def _schema_error(record: dict[str, Any]) -> str | None:
    from repro.evidence.record import validate_record

    try:
        validate_record(record)
    except ValueError as error:
        return str(error).splitlines()[0]
    return None
