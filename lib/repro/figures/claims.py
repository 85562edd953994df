"""A page's claims at a glance, drawn from its evidence record."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from repro.figures.style import GREY, WIDTH, verdict_mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Side = Mapping[str, Any]


class Row(NamedTuple):
    """One line of the plot: a claim, or a part of a compound one."""

    name: str
    unit: str
    verdict: str
    measured: Side
    control: Side | None


def claims_plot(record: Mapping[str, Any]) -> Figure:
    """Interval plot of an evidence record's claims: estimate and interval in the verdict's colour and marker, the
    region that meets the criterion shaded, and the negative control below in grey. Each claim has its own scale, since
    units differ.

    ``threshold_low`` and ``threshold_high``, ``parts`` and ``control`` may be absent. Claims without an estimate keep
    their row, and say so. Raises ValueError for a record without claims.
    """
    rows = list(_rows(record.get("claims", [])))
    if not rows:
        raise ValueError(f"the record of {record.get('slug', 'this page')!r} has no claims to draw")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(rows), 1, figsize=(WIDTH, 0.35 + 0.72 * len(rows)), squeeze=False)
    for ax, row in zip(axes[:, 0], rows, strict=True):
        _draw(ax, row)
    return figure


def _rows(claims: list[Side]) -> Iterator[Row]:
    for claim in claims:
        control = claim.get("control")
        parts = claim.get("parts") or []
        if not parts:
            yield Row(claim["id"], claim.get("unit", ""), claim["verdict"], claim, control)
        controls = {part["name"]: part for part in (control or {}).get("parts", [])}
        for part in parts:
            unit = part.get("unit") or claim.get("unit", "")
            yield Row(f"{claim['id']} {part['name']}", unit, part["verdict"], part, controls.get(part["name"]))


def _draw(ax: Axes, row: Row) -> None:
    colour, marker = verdict_mark(row.verdict)
    ax.set_title(f"{row.name}: {row.verdict}", color=colour, fontsize=10, pad=2)
    ax.set_yticks([])
    ax.set_ylim(-1, 1)
    ax.grid(False)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="x", labelsize=9, pad=1)
    if not _finite(row.measured, "estimate"):
        ax.set_xticks([])
        ax.text(0, 0, "no estimate", color=GREY, va="center", fontsize=9, transform=ax.get_yaxis_transform())
        return
    low, high = _limits(row)
    ax.set_xlim(low, high)
    _shade(ax, row.measured, low, high)
    _interval(ax, row.measured, 0.25 if row.control else 0.0, colour, marker, filled=True)
    if row.control and _finite(row.control, "estimate"):
        _interval(ax, row.control, -0.5, GREY, marker, filled=False)
    if row.unit:
        ax.annotate(row.unit, (1, 0), xycoords="axes fraction", ha="right", va="bottom", fontsize=9, color=GREY)


def _interval(ax: Axes, side: Side, height: float, colour: str, marker: str, filled: bool) -> None:
    ends = [side[end] if _finite(side, end) else side["estimate"] for end in ("low", "high")]
    ax.plot(ends, [height, height], color=colour, linewidth=2.5 if filled else 1.5, solid_capstyle="butt")
    face, size = (colour, 7) if filled else ("white", 5)
    ax.plot(side["estimate"], height, marker, color=colour, markerfacecolor=face, markersize=size)


def _shade(ax: Axes, side: Side, low: float, high: float) -> None:
    """Shade where the criterion is met; a region thinner than a pixel (an exact value's) still shows as a line."""
    ends = [side[key] if _finite(side, key) else None for key in ("threshold_low", "threshold_high")]
    if ends == [None, None]:
        return
    left, right = low if ends[0] is None else ends[0], high if ends[1] is None else ends[1]
    ax.axvspan(left, right, color="#009E73", alpha=0.13, linewidth=0)
    for end in ends:
        if end is not None:
            ax.axvline(end, color="#009E73", linewidth=1)


def _limits(row: Row) -> tuple[float, float]:
    """Room for everything drawn, plus a margin that shows on which side an open region lies."""
    sides = [row.measured, row.control or {}]
    keys = ("estimate", "low", "high", "threshold_low", "threshold_high")
    values = [side[key] for side in sides for key in keys if _finite(side, key)]
    low, high = min(values), max(values)
    margin = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _finite(side: Side, key: str) -> bool:
    return isinstance(side.get(key), int | float) and math.isfinite(side[key])
