"""The header card of a paper's page: citation, verdicts, scales, how to rerun it, where the numbers come from."""

from __future__ import annotations

import posixpath
from collections import Counter
from html import escape

from repro.evidence.render import LOOKS, SUPPORTS
from repro.site.citation import Citation
from repro.site.runs import VERDICTS, Run

_PROVENANCE = ("scale", "device", "accelerator", "processor", "threads", "torch", "numpy", "python",
               "commit", "started", "seconds")  # fmt: skip


def card(run: Run, other: Run | None, citation: Citation) -> str:
    """HTML of the card, without blank lines (Markdown would end the block there). ``other``: the other scale's run."""
    parts = [
        f'<p class="repro-citation">{escape(citation.authors)} ({escape(citation.year)}). '
        f"<cite>{escape(citation.title)}</cite>. {escape(citation.venue)}.{_arxiv(run)}</p>",
        _failure(run),
        badges(run.counts),
        f'<p class="repro-scales">{_scales(run, other)}</p>',
        f'<p class="repro-label">Rerun this page</p><div class="highlight"><pre>{escape(command(run))}\n</pre></div>',
        f'<p class="repro-links">{_links(run)}</p>',
        _provenance(run),
    ]
    return '<div class="repro-card">\n' + "\n".join(part for part in parts if part) + "\n</div>"


def badges(counts: Counter[str]) -> str:
    """One badge per verdict that occurs; the words carry the meaning, the colour repeats it."""
    shown = "".join(f"<li>{badge(verdict, f'{counts[verdict]} {verdict}')}</li>" for verdict in VERDICTS
                    if counts[verdict])
    return f'<ul class="repro-badges" aria-label="Claims by verdict">{shown}</ul>'


def badge(verdict: str, words: str) -> str:
    """``words`` marked and coloured as the evidence tables mark and colour ``verdict``."""
    name, mark, _ = ("failed", "!", "") if verdict == "run failed" else LOOKS.get(verdict, SUPPORTS)
    return f'<span class="verdict verdict-{name}"><span aria-hidden="true">{mark} </span>{escape(words)}</span>'


def command(run: Run) -> str:
    """The one line that makes this page's numbers again."""
    scale = "" if run.scale == "small" else f" SCALE={run.scale}"
    return f"make page NB=notebooks/{run.part}/{run.slug}.ipynb{scale}"


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
    here = f'<strong aria-current="page">{run.scale} scale (this page)</strong>'
    if other is None:
        return f"{here} · no full run yet"
    return f'{here} · <a href="{href(run, other.docname)}.html">{other.scale} scale</a>'


def _links(run: Run) -> str:
    source = href(run, f"downloads/notebooks/{run.part}/{run.slug}.ipynb")
    executed = href(run, f"downloads/{run.docname}.executed.ipynb")
    return (
        f'Download the <a href="{source}" download>source notebook</a> or '
        f'<a href="{executed}" download>this executed page</a> · '
        f'Records of all pages: <a href="{href(run, "evidence.json")}">evidence.json</a>'
    )


def _provenance(run: Run) -> str:
    if not run.record:
        return ""
    facts = {"scale": run.record.get("scale"), **run.record.get("environment", {})}
    rows = "".join(
        f"<div><dt>{name}</dt><dd>{escape(_fact(facts[name]))}</dd></div>" for name in _PROVENANCE if name in facts
    )
    return f"<details><summary>Provenance</summary><dl>{rows}</dl></details>"


def _fact(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
