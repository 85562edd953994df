"""The front page's generated pieces: headline, tables of papers and of claims, gallery of covers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from html import escape

from repro.evidence.render import measured
from repro.site.card import badge, badges
from repro.site.citation import Citation
from repro.site.interval import drawing
from repro.site.page import quoted
from repro.site.runs import VERDICTS, Run, kind


def headline(runs: list[Run], cites: dict[str, Citation]) -> str:
    """Papers, the book's own comparisons, claims and verdicts of each scale, counted from the records."""
    lines = []
    for scale in ("small", "full"):
        mine = [run for run in runs if run.scale == scale]
        total = sum((run.counts for run in mine), Counter())
        claims = sum(len(run.claims) for run in mine)
        own = sum(cites[run.key].own for run in mine)
        what = [_plural(len(mine) - own, "paper"), *([_plural(own, "comparison")] if own else [])]
        if mine:
            lines.append(
                f"<p><strong>{scale.capitalize()} scale:</strong> {', '.join([*what, _plural(claims, 'claim')])}</p>"
                f"{badges(total)}"
            )
        else:
            lines.append(f"<p><strong>{scale.capitalize()} scale:</strong> no run yet</p>")
    return '<div class="repro-headline">\n' + "\n".join(lines) + "\n</div>"


def paper_table(runs: list[Run], cites: dict[str, Citation], parts: dict[str, str]) -> str:
    """One row a paper with the verdicts at both scales; filtered and sorted by ``_static/repro.js``."""
    small = [run for run in runs if run.scale == "small"]
    full = {(run.part, run.slug): run for run in runs if run.scale == "full"}
    rows = [_paper_row(run, full.get((run.part, run.slug)), cites[run.key]) for run in small]
    head = _head([("Paper", "text"), ("Part", "text"), ("Small scale", "number"), ("Full scale", "number")])
    return _table("papers", "Papers and their verdicts", head, rows, parts)


def _paper_row(run: Run, full: Run | None, citation: Citation) -> str:
    cells = [
        f'<th scope="row"><a href="{run.docname}.html">{escape(run.title)}</a>'
        f'<span class="repro-short">{escape(citation.short)}: {escape(citation.title)}</span></th>',
        f'<td data-label="Part">{escape(run.part)}</td>',
        _verdict_cell(run),
        _verdict_cell(full)
        if full
        else '<td data-label="Full scale" data-sort="-1"><span class="repro-none">no full run yet</span></td>',
    ]
    return _row(run.part, "|".join(_marks([run, full] if full else [run])), cells)


def claim_table(runs: list[Run], parts: dict[str, str]) -> str:
    """One row a claim and scale: estimate, interval, n and verdict."""
    rows = []
    for run in runs:
        for claim in run.claims:
            cells = [
                f'<th scope="row">{escape(claim["statement"])}<span class="repro-short">'
                f'<a href="{run.docname}.html#claim-{escape(claim["id"])}">{escape(run.slug)} {escape(claim["id"])}</a>'
                "</span></th>",
                f'<td data-label="Scale">{run.scale}</td>',
                f'<td data-label="Criterion">{escape(claim["criterion"])}</td>',
                f'<td class="repro-number" data-label="Estimate [95 %]" data-sort="{_sortable(claim.get("estimate"))}">'
                f"{drawing(claim, claim['control'])}{measured(claim)}</td>",
                f'<td class="repro-number" data-label="n" data-sort="{claim["n"]}">{claim["n"]}</td>',
                f'<td data-label="Verdict">{badge(claim["verdict"], claim["verdict"])}</td>',
            ]
            rows.append(_row(run.part, f"{run.scale}:{kind(claim['verdict'])}", cells))
    head = _head(
        [
            ("Claim", "text"),
            ("Scale", "text"),
            ("Criterion", "text"),
            ("Estimate [95 %]", "number"),
            ("n", "number"),
            ("Verdict", "text"),
        ]
    )
    return _table("claims", "Every claim, as judged", head, rows, parts)


def gallery(covers: Iterable[tuple[Run, str | None, str]]) -> str:
    """Cards with each page's cover: (run, image path from the site's source root, alternative text)."""
    cards = "".join(_gallery_card(*cover) for cover in covers)
    return f":::::{{grid}} 1 2 2 3\n:gutter: 3\n:class-container: repro-gallery\n\n{cards}:::::\n" if cards else ""


def _gallery_card(run: Run, image: str | None, alt: str) -> str:
    """A run that failed before its cover has none."""
    picture = f":img-top: /{image}\n:img-alt: {quoted(alt)}\n" if image else ""
    return (
        f"::::{{grid-item-card}} {run.title}\n:link: /{run.docname}\n:link-type: doc\n{picture}\n"
        f"{badges(run.counts)}\n::::\n\n"
    )


def comparison(run: Run, image: str | None, alt: str) -> str:
    """A comparison's cover at the size of the text, above its verdicts; a run that failed before its cover has none."""
    picture = f"```{{image}} /{image}\n:alt: {quoted(alt)}\n```\n\n" if image else ""
    return f"{picture}{badges(run.counts)}\n"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _sortable(value: float | None) -> str:
    return "" if value is None else repr(value)


def _marks(runs: list[Run]) -> list[str]:
    """``scale:verdict`` for every verdict that occurs: what the filters look at."""
    return [f"{run.scale}:{verdict}" for run in runs for verdict in VERDICTS if run.counts[verdict]]


def _verdict_cell(run: Run) -> str:
    """Sorted by the share of claims that were reproduced."""
    total = sum(run.counts.values())
    share = run.counts["reproduced"] / total if total else 0
    link = f'<a class="repro-plain" href="{run.docname}.html">{badges(run.counts)}</a>'
    return f'<td data-label="{run.scale.capitalize()} scale" data-sort="{share:.4f}">{link}</td>'


def _row(part: str, marks: str, cells: list[str]) -> str:
    return f'<tr data-part="{escape(part)}" data-marks="{escape(marks)}">{"".join(cells)}</tr>'


def _head(columns: list[tuple[str, str]]) -> str:
    cells = "".join(
        f'<th scope="col"><button type="button" data-as="{how}">{name}</button></th>' for name, how in columns
    )
    return f"<thead><tr>{cells}</tr></thead>"


def _select(label: str, name: str, options: Iterable[tuple[str, str]]) -> str:
    choices = "".join(f'<option value="{escape(value)}">{escape(words)}</option>' for value, words in options)
    return f'<label>{label} <select name="{name}"><option value="">all</option>{choices}</select></label>'


def _table(name: str, caption: str, head: str, rows: list[str], parts: dict[str, str]) -> str:
    filters = (
        '<label>Search <input type="search" name="text" placeholder="words"></label>'
        + _select("Part", "part", parts.items())
        + _select("Verdict", "verdict", ((verdict, verdict) for verdict in VERDICTS))
        + _select("Scale", "scale", (("small", "small"), ("full", "full")))
    )
    return (
        f'<div class="repro-filter full-width" id="{name}">\n<form role="search" aria-label="{caption}">{filters}'
        f'<output aria-live="polite"></output></form>\n<div class="repro-scroll" tabindex="0" role="region" '
        f'aria-label="{caption}"><table class="repro-table"><caption>{caption}</caption>{head}<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>\n</div>"
    )
