"""The indexes across papers: by idea (the bibliography's keywords) and by measurement (what the notebooks import)."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from repro.site.api import prose
from repro.site.citation import Citation
from repro.site.runs import VERDICTS, Run
from repro.site.uses import summary, uses

MEASURES = "repro.measure."


def read_ideas(path: Path) -> dict[str, str]:
    """The book's ideas, each with one sentence on it, from ``ideas.yml``. Raises ValueError where it is none such."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not all(isinstance(text, str) and text for text in content.values()):
        raise ValueError(f"{path}: expected lines 'idea: one sentence on it'")
    return content


def by_idea(runs: Iterable[Run], cites: Mapping[str, Citation], ideas: Mapping[str, str]) -> dict[str, list[Run]]:
    """Small pages by the ideas that their bibliography entries name, in the order of ``ideas``.

    Raises ValueError naming a keyword that is not one of ``ideas``.
    """
    found: dict[str, list[Run]] = {idea: [] for idea in ideas}
    for run in runs:
        for idea in cites[run.key].ideas:
            if idea not in ideas:
                near = difflib.get_close_matches(idea, ideas, n=1)
                guess = f" (did you mean {near[0]!r}?)" if near else ""
                raise ValueError(f"{run.key}: keyword {idea!r} is not in book/ideas.yml{guess}; add it there in a line")
            if run.scale == "small":
                found[idea].append(run)
    return {idea: mine for idea, mine in found.items() if mine}


def by_measurement(runs: Iterable[Run], library: Path) -> dict[str, list[Run]]:
    """Small pages by the definitions of ``repro.measure`` that they use, sorted by name."""
    found: dict[str, list[Run]] = defaultdict(list)
    for run in (run for run in runs if run.scale == "small"):
        for name in uses(run.notebook, library):
            if name.startswith(MEASURES):
                found[name].append(run)
    return dict(sorted(found.items()))


def by_module(runs: Iterable[Run], library: Path) -> dict[str, list[Run]]:
    """Small pages by the modules whose definitions they use."""
    found: dict[str, list[Run]] = defaultdict(list)
    for run in (run for run in runs if run.scale == "small"):
        for module in sorted({name.rpartition(".")[0] for name in uses(run.notebook, library)}):
            found[module].append(run)
    return found


def ideas_page(found: Mapping[str, list[Run]], ideas: Mapping[str, str]) -> str:
    """Markdown: a section an idea with its sentence and its papers."""
    return "\n".join(
        f"({anchor(idea)})=\n## {idea.capitalize()}\n\n{ideas[idea]}\n\n{_pages(runs)}" for idea, runs in found.items()
    )


def measurements_page(found: Mapping[str, list[Run]], library: Path) -> str:
    """Markdown: a section a module of ``repro.measure``, and in it each definition with the papers that use it."""
    sections: dict[str, list[str]] = defaultdict(list)
    for name, runs in found.items():
        leaf = name.rpartition(".")[2]
        term = f"{{py:obj}}`{leaf} <{name}>`"
        pages = "; ".join(_page(run) for run in runs)
        sections[name.rpartition(".")[0]].append(f"{term}\n: {prose(summary(name, library))}\n\n  {pages}\n")
    return "\n".join(f"({anchor(module)})=\n## {_title(module)}\n\n" + "\n".join(entries)
                     for module, entries in sections.items())  # fmt: skip


def _title(module: str) -> str:
    return module.removeprefix(MEASURES).replace("_", " ").capitalize()


def anchor(name: str) -> str:
    """The id of a section of an index."""
    return "index-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _pages(runs: Iterable[Run]) -> str:
    return "".join(f"- {_page(run)}\n" for run in runs)


def _page(run: Run) -> str:
    counts = ", ".join(f"{run.counts[verdict]} {verdict}" for verdict in VERDICTS if run.counts[verdict])
    return f"[{run.title}](/{run.docname}.ipynb): {counts}"
