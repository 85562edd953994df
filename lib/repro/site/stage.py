"""Write the whole Sphinx source tree: prose from ``book/``, pages from executed notebooks, tables from records."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from repro.site import api, dashboard, export, fields, indexes, page
from repro.site.card import Place, card, search_entry
from repro.site.citation import Citation, citations
from repro.site.launch import repository
from repro.site.runs import Run, collect

_FIXED = {"index.md", "parts", "_toc.yml"}


@dataclass(frozen=True)
class Index:
    """Small pages by idea and by measurement (dotted name in the library)."""

    ideas: dict[str, list[Run]]
    measurements: dict[str, list[Run]]


class StageError(ValueError):
    """Something the book cannot be staged with; one line."""


def stage(root: Path, runs_folder: Path, target: Path) -> list[Run]:
    """Stage the book of the project at ``root`` into ``target`` (replaced whole); returns the runs shown.

    Raises StageError where there is no notebook, a part has no introduction or a paper no bibliography entry.
    Failed runs do not raise: they are staged as visible failures, and the caller decides by :attr:`Run.failure`.
    """
    runs = collect(root, runs_folder)
    if not runs:
        raise StageError(f"no notebooks under {root / 'notebooks'}: a book needs at least one page")
    cites = citations(root / "book" / "references.bib")
    parts = _part_titles(root / "book" / "parts", runs)
    runs.sort(key=lambda run: list(parts).index(run.part))
    for run in runs:
        _citation(run, cites)
    ideas = indexes.read_ideas(root / "book" / "ideas.yml")
    index = Index(indexes.by_idea(runs, cites, ideas), indexes.by_measurement(runs, root / "lib"))
    name = repository(root)
    cards = {run.docname: f"{card(run, cites[run.key], _place(run, runs, index, name))}\n\n{search_entry(cites[run.key])}"
             for run in runs}  # fmt: skip
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root / "book", target, ignore=lambda folder, names: _FIXED & set(names))
    _reach(root, target)
    covers = {run.docname: page.stage(run, cards[run.docname], target) for run in runs}
    _write_extra(runs, target / "_extra")
    _write_index(root, runs, cites, parts, covers, target)
    _write_parts(root, runs, cites, parts, covers, target)
    _write_indexes(root, index, ideas, target)
    reference = api.stage(root / "lib", indexes.by_module(runs, root / "lib"), target)
    (target / "_toc.yml").write_text(_toc(root, runs, parts, reference), encoding="utf-8")
    return runs


def _reach(root: Path, target: Path) -> None:
    """Let the staged prose include the project's files, which lie elsewhere as seen from there."""
    for path in target.rglob("*.md"):
        source = path.read_text(encoding="utf-8")
        here = os.path.relpath(root, path.parent)
        above = "/".join([".."] * len(path.relative_to(target).parts))
        if (mark := f"{{literalinclude}} {above}/") in source:
            path.write_text(source.replace(mark, f"{{literalinclude}} {here}/"), encoding="utf-8")


def _part_titles(folder: Path, runs: list[Run]) -> dict[str, str]:
    """Titles of the parts that have pages, in the order of the files' ``order:`` front matter."""
    found = []
    for part in sorted({run.part for run in runs}):
        path = folder / f"{part}.md"
        if not path.exists():
            raise StageError(f"part {part!r} has pages but no introduction: write {path}")
        source = path.read_text(encoding="utf-8")
        order = re.search(r"^order: (\d+)$", source, re.M)
        title = re.search(r"^# (.+)$", source, re.M)
        if not order or not title:
            raise StageError(f"{path} needs an 'order: N' line in its front matter and a '# Title'")
        found.append((int(order[1]), part, title[1].strip()))
    return {part: title for _, part, title in sorted(found)}


def _other(run: Run, runs: list[Run]) -> Run | None:
    same = [other for other in runs if (other.part, other.slug) == (run.part, run.slug) and other.scale != run.scale]
    return same[0] if same else None


def _citation(run: Run, cites: dict[str, Citation]) -> Citation:
    if run.key not in cites:
        raise StageError(f"{run.name}: no entry {run.key!r} in book/references.bib")
    return cites[run.key]


def _place(run: Run, runs: list[Run], index: Index, name: str | None) -> Place:
    """Where the page stands among the others."""
    mine = {idea: f"ideas.html#{indexes.anchor(idea)}" for idea, pages in index.ideas.items() if _same(run, pages)}
    shared: dict[str, dict[str, Run]] = {}
    for measurement, pages in index.measurements.items():
        if _same(run, pages):
            others = shared.setdefault(measurement.rpartition(".")[0], {})
            others |= {page.docname: page for page in pages if page.name != _small_name(run)}
    return Place(_other(run, runs), mine, {module: list(pages.values()) for module, pages in shared.items()}, name)


def _small_name(run: Run) -> str:
    return f"{run.part}/{run.slug}"


def _same(run: Run, pages: list[Run]) -> bool:
    return any((page.part, page.slug) == (run.part, run.slug) for page in pages)


def _write_extra(runs: list[Run], folder: Path) -> None:
    """Files that Sphinx copies to the root of the site as they are."""
    export.write(runs, folder)
    for run in runs:
        for path, name in (
            (run.source, f"notebooks/{run.part}/{run.slug}.ipynb"),
            (run.path, f"{run.docname}.executed.ipynb"),
        ):
            place = folder / "downloads" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


def _write_index(
    root: Path,
    runs: list[Run],
    cites: dict[str, Citation],
    parts: dict[str, str],
    covers: dict[str, str | None],
    target: Path,
) -> None:
    front = {
        "headline": dashboard.headline(runs, cites),
        "papers": dashboard.paper_table(runs, cites, parts),
        "gallery": _gallery(runs, covers),
    }
    (target / "index.md").write_text(_fill(root / "book" / "index.md", front), encoding="utf-8")
    claims = {"claims": dashboard.claim_table(runs, parts)}
    (target / "claims.md").write_text(_fill(root / "book" / "claims.md", claims), encoding="utf-8")


def _write_parts(
    root: Path,
    runs: list[Run],
    cites: dict[str, Citation],
    parts: dict[str, str],
    covers: dict[str, str | None],
    target: Path,
) -> None:
    (target / "parts").mkdir()
    for part in parts:
        mine = [run for run in runs if run.part == part]
        own = [run for run in mine if cites[run.key].own and run.scale == "small"]
        pieces = {"papers": _gallery([run for run in mine if not cites[run.key].own], covers)}
        if own:
            shown = (dashboard.comparison(run, covers[run.docname], page.cover_alt(run)) for run in own)
            pieces["comparison"] = "\n".join(shown)
        filled = _fill(root / "book" / "parts" / f"{part}.md", pieces)
        (target / "parts" / f"{part}.md").write_text(filled, encoding="utf-8")


def _write_indexes(root: Path, index: Index, ideas: dict[str, str], target: Path) -> None:
    pieces = {"ideas": indexes.ideas_page(index.ideas, ideas),
              "measurements": indexes.measurements_page(index.measurements, root / "lib"),
              "columns": fields.columns_table(), "fields": fields.fields_table()}  # fmt: skip
    for name, marks in (("ideas", ["ideas"]), ("measurements", ["measurements"]), ("records", ["columns", "fields"])):
        filled = _fill(root / "book" / f"{name}.md", {mark: pieces[mark] for mark in marks})
        (target / f"{name}.md").write_text(filled, encoding="utf-8")


def _gallery(runs: list[Run], covers: dict[str, str | None]) -> str:
    small = [run for run in runs if run.scale == "small"]
    return dashboard.gallery((run, covers[run.docname], page.cover_alt(run)) for run in small)


def _fill(path: Path, pieces: dict[str, str]) -> str:
    """The prose with every ``<!-- name -->`` replaced. Raises StageError where a mark is missing."""
    source = path.read_text(encoding="utf-8")
    for name, piece in pieces.items():
        mark = f"<!-- {name} -->"
        if mark not in source:
            raise StageError(f"{path} lacks the mark {mark!r} that says where its {name} go")
        source = source.replace(mark, piece)
    return source


def _toc(root: Path, runs: list[Run], parts: dict[str, str], reference: list[dict[str, Any]]) -> str:
    """The table of contents: the fixed one in ``book/_toc.yml``, papers and the library's reference filled in."""
    contents = yaml.safe_load((root / "book" / "_toc.yml").read_text(encoding="utf-8"))
    chapters = {entry["caption"]: entry["chapters"] for entry in contents["parts"]}
    chapters["Reference"] += reference
    chapters["Papers"] += [{"file": f"parts/{part}", "sections": _sections(part, runs)} for part in parts]
    return yaml.safe_dump(contents, sort_keys=False)


def _sections(part: str, runs: list[Run]) -> list[dict[str, Any]]:
    """The part's small pages, each with its full page below it."""
    sections = []
    for run in (run for run in runs if run.part == part and run.scale == "small"):
        full = _other(run, runs)
        below = {"sections": [{"file": full.docname, "title": "Full scale"}]} if full else {}
        sections.append({"file": run.docname} | below)
    return sections
