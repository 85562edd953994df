"""The header card of a paper's page: citation, verdicts, scales, how to rerun it, where the numbers come from."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

from repro.evidence.render import LOOKS, SUPPORTS
from repro.site import launch
from repro.site.citation import Citation
from repro.site.indexes import anchor
from repro.site.parameters import command
from repro.site.runs import VERDICTS, Run

_PROVENANCE = ("scale", "device", "accelerator", "processor", "threads", "torch", "numpy", "python",
               "commit", "started", "seconds")  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a page stands among the others: its other scale, its index entries, the repository it can be opened from.

    ``ideas``: idea to its address from the site's root. ``shared``: a measured module to the other pages that use it.
    """

    other: Run | None = None
    ideas: Mapping[str, str] = field(default_factory=dict)
    shared: Mapping[str, list[Run]] = field(default_factory=dict)
    repository: str | None = None


def card(run: Run, citation: Citation, place: Place) -> str:
    """HTML of the card, without blank lines (Markdown would end the block there)."""
    parts = [
        f'<p class="repro-citation">{escape(citation.authors)} ({escape(citation.year)}). '
        f"<cite>{escape(citation.title)}</cite>. {escape(citation.venue)}.{_arxiv(run)}</p>",
        _failure(run),
        f'<div class="repro-row">{_scales(run, place.other)}{badges(run.counts)}</div>',
        f'<p class="repro-label">Rerun this page</p><div class="highlight"><pre>{escape(command(run))}\n</pre></div>',
        f'<p class="repro-links">{_links(run)}</p>',
        f'<p class="repro-launch">{opened}</p>' if (opened := launch.links(place.repository, _source(run))) else "",
        _related(run, place),
        _provenance(run, place.repository),
    ]
    return '<div class="repro-card">\n' + "\n".join(part for part in parts if part) + "\n</div>"


def search_entry(citation: Citation) -> str:
    """Markdown that lists the page under the paper's title, so that a search for it finds this page before those that
    only share its words. Invisible.
    """
    return f"```{{index}} ! single: {citation.title.replace(';', ',')}\n```"


def badges(counts: Counter[str]) -> str:
    """One badge per verdict that occurs; the words carry the meaning, the colour repeats it."""
    shown = "".join(
        f"<li>{badge(verdict, f'{counts[verdict]} {verdict}')}</li>" for verdict in VERDICTS if counts[verdict]
    )
    return f'<ul class="repro-badges" aria-label="Claims by verdict">{shown}</ul>'


def badge(verdict: str, words: str) -> str:
    """``words`` marked and coloured as the evidence tables mark and colour ``verdict``."""
    name, mark, _ = ("failed", "!", "") if verdict == "run failed" else LOOKS.get(verdict, SUPPORTS)
    return f'<span class="verdict verdict-{name}"><span aria-hidden="true">{mark} </span>{escape(words)}</span>'


def href(here: Run, target: str) -> str:
    """``target`` (a path from the site's root) relative to the page of ``here``."""
    return posixpath.relpath(target, posixpath.dirname(here.docname))


def _arxiv(run: Run) -> str:
    number = (run.record or {}).get("paper", {}).get("arxiv")
    if not number:
        return ""
    return f' <a href="https://arxiv.org/abs/{escape(number)}">arXiv:{escape(number)}</a>'


def _failure(run: Run) -> str:
    if not run.failure:
        return ""
    return f'<p class="repro-failure" role="alert"><strong>This run failed:</strong> {escape(run.failure)}</p>'


def _scales(run: Run, other: Run | None) -> str:
    """The switch between the scales; a scale without a run is named, not linked."""
    places = {run.scale: run} | ({other.scale: other} if other else {})
    items = []
    for scale in ("small", "full"):
        there = places.get(scale)
        if there is run:
            items.append(f'<li><span aria-current="page">{scale} scale</span></li>')
        elif there:
            items.append(f'<li><a href="{href(run, there.docname)}.html">{scale} scale</a></li>')
        else:
            items.append(f'<li><span class="repro-none">{scale} scale: no run yet</span></li>')
    return f'<nav class="repro-scales" aria-label="Scale of this page"><ul>{"".join(items)}</ul></nav>'


def _source(run: Run) -> str:
    return f"notebooks/{run.part}/{run.slug}.ipynb"


def _links(run: Run) -> str:
    source = href(run, f"downloads/{_source(run)}")
    executed = href(run, f"downloads/{run.docname}.executed.ipynb")
    return (
        f'Download the <a href="{source}" download>source notebook</a> or '
        f'<a href="{executed}" download>this executed page</a> · '
        f'Records of all pages: <a href="{href(run, "evidence.json")}">evidence.json</a>'
    )


def _related(run: Run, place: Place) -> str:
    """Ideas, and who else measures what this page measures."""
    ideas = ", ".join(f'<a href="{href(run, address)}">{escape(idea)}</a>' for idea, address in place.ideas.items())
    modules = ", ".join(_measured_with(run, *shared) for shared in place.shared.items())
    lines = [f"{name}: {found}" for name, found in (("Ideas", ideas), ("Measured with", modules)) if found]
    return f'<p class="repro-related">{"<br>".join(lines)}</p>' if lines else ""


def _measured_with(run: Run, module: str, others: list[Run]) -> str:
    name = f'<a href="{href(run, f"api/{module}")}.html">{escape(module.rpartition(".")[2])}</a>'
    if not others:
        return name
    if len(others) == 1:
        return f'{name} (as in <a href="{href(run, others[0].docname)}.html">{escape(others[0].title)}</a>)'
    return f'{name} (as on <a href="{href(run, f"measurements.html#{anchor(module)}")}">{len(others)} other pages</a>)'


def _provenance(run: Run, repository: str | None) -> str:
    if not run.record:
        return ""
    facts = {"scale": run.record.get("scale"), **run.record.get("environment", {})}
    shown = {name: escape(_fact(facts[name])) for name in _PROVENANCE if name in facts}
    if "commit" in shown:
        shown["commit"] = launch.commit(repository, str(facts["commit"]))
    rows = "".join(f"<div><dt>{name}</dt><dd>{fact}</dd></div>" for name, fact in shown.items())
    return f"<details><summary>Provenance</summary><dl>{rows}</dl></details>"


def _fact(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
