"""One finding as a small drawing (inline SVG): interval and estimate over the region that meets the criterion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

WIDTH, HEIGHT, MARGIN = 200, 34, 0.1
Found = Mapping[str, Any]


def drawing(found: Found, control: Found | None = None) -> str:
    """SVG of ``found``, its single units as dots, and its ``control`` hollow below; empty without a finite estimate.

    Colours come from the page's style sheet, so that the drawing follows light and dark. Thresholds, units and control
    may be absent.
    """
    if not _finite(found.get("estimate")):
        return ""
    beside = control if control and _finite(control.get("estimate")) else None
    low, high = _limits(found, beside)

    def x(value: float) -> float:
        return round((min(max(value, low), high) - low) / (high - low) * WIDTH, 1)

    inside = "".join([_region(found, x), _dots(found, x), _bar(found, x, 11, "repro-estimate"),
                      _bar(beside, x, 26, "repro-control") if beside else ""])  # fmt: skip
    return (f'<svg class="repro-interval" viewBox="-4 0 {WIDTH + 8} {HEIGHT}" width="{WIDTH + 8}" height="{HEIGHT}" '
            f'role="img" aria-label="{escape(_told(found, beside))}">{inside}</svg>')  # fmt: skip


def _told(found: Found, control: Found | None) -> str:
    where = f"Interval {found.get('criterion') or ''}: {found['verdict']}".replace(" :", ":")
    return where + (f"; control: {control['verdict']}" if control else "")


def _limits(found: Found, control: Found | None) -> tuple[float, float]:
    """Room for the interval, the bulk of the units, thresholds and control, and a margin on either side."""
    values = [side.get(key) for side in (found, control or {}) for key in ("estimate", "low", "high")]
    values += [found.get("threshold_low"), found.get("threshold_high")]
    finite = [value for value in values if _finite(value)]
    low, high = min(finite), max(finite)
    margin = MARGIN * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _region(found: Found, x: Any) -> str:
    """The region that meets the criterion, with a line at each threshold."""
    ends = [found.get("threshold_low"), found.get("threshold_high")]
    if not any(map(_finite, ends)):
        return ""
    left, right = (x(end) if _finite(end) else edge for end, edge in zip(ends, (-4, WIDTH + 4), strict=True))
    lines = "".join(f'<line x1="{x(end)}" x2="{x(end)}" y1="0" y2="{HEIGHT}"/>' for end in ends if _finite(end))
    region = f'<rect x="{left}" y="0" width="{max(right - left, 0):g}" height="{HEIGHT}"/>'
    return f'<g class="repro-region">{region}{lines}</g>'


def _dots(found: Found, x: Any) -> str:
    dots = "".join(
        f'<circle cx="{x(value)}" cy="11" r="1.6"/>' for value in found.get("values") or [] if _finite(value)
    )
    return f'<g class="repro-units">{dots}</g>' if dots else ""


def _bar(side: Found, x: Any, height: int, name: str) -> str:
    low, high = (side[end] if _finite(side.get(end)) else side["estimate"] for end in ("low", "high"))
    bar = f'<line x1="{x(low)}" x2="{x(high)}" y1="{height}" y2="{height}"/>'
    return f'<g class="{name}">{bar}<circle cx="{x(side["estimate"])}" cy="{height}" r="4"/></g>'


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
