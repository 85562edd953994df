"""What a sweep found: one tidy table, and a plot of every claim by setting."""

from __future__ import annotations

import csv
import json
import math
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro.compare import CompareError, read_record
from repro.outcome import beside
from repro.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]
COLUMNS = ("claim", "part", "estimate", "low", "high", "unit", "n", "verdict", "seconds")


def report(sweep: Sweep) -> int:
    """Write ``table.csv`` and ``plot.png`` into the sweep's folder and print them; 1 if a setting has no result."""
    found = rows(sweep)
    sweep.folder.mkdir(parents=True, exist_ok=True)
    table, picture = sweep.folder / "table.csv", sweep.folder / "plot.png"
    _write(table, [*sweep.axes, *COLUMNS], found)
    _print([*sweep.axes, *COLUMNS], [row for row in found if not row["part"]])
    print(f"The table is {table}")
    picture.unlink(missing_ok=True)
    if measured := [row for row in found if row["estimate"] is not None]:
        plot(measured, sweep.axes).savefig(picture)
        print(f"The plot is {picture}")
    missing = [row for row in found if not row["claim"]]
    if missing:
        print(f"{len(missing)} of {len(sweep.settings)} settings have no result", file=sys.stderr)
    return int(bool(missing))


def rows(sweep: Sweep) -> list[Row]:
    """One row a setting and claim, in the grid's order; a setting without a result has one row that says why.

    A compound claim's own row (an empty ``part``) shows the part that decides, which another setting may decide by
    another one; the rows of its parts follow it.
    """
    return [row for setting in sweep.settings for row in _of_setting(sweep, setting)]


def _of_setting(sweep: Sweep, setting: str) -> list[Row]:
    values = {name: _plain(value) for name, value in sweep.settings[setting].items()}
    path = sweep.run(setting)
    try:
        record = read_record(path)
    except CompareError:
        verdict = "run failed" if beside(path, "failed").exists() else "not run"
        return [values | dict.fromkeys(COLUMNS) | {"verdict": verdict}]
    seconds = record["environment"]["seconds"]
    sides = [(claim["id"], part.get("name", ""), part) for claim in record["claims"]
             for part in (claim, *claim.get("parts", []))]  # fmt: skip
    return [values | {name: side.get(name) for name in COLUMNS} | {"claim": claim, "part": part, "seconds": seconds}
            for claim, part, side in sides]  # fmt: skip


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def _write(path: Path, columns: list[str], found: list[Row]) -> None:
    """Whole or not at all."""
    fresh = path.with_suffix(".partial")
    with fresh.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    fresh.replace(path)


def _print(columns: list[str], found: list[Row]) -> None:
    cells = [columns, *([_cell(row[name]) for name in columns] for row in found)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def plot(found: list[Row], axes: list[str]) -> Figure:
    """One panel a claim, or a part of a compound one: estimate and interval against the grid's parameter with most
    values, colours for the others, the verdict as the marker. ``found``: rows with an estimate.
    """
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    from repro.figures import use_style
    from repro.figures.style import WIDTH

    use_style()
    along = max(axes, key=lambda axis: len({row[axis] for row in found}))
    compound = {row["claim"] for row in found if row["part"]}
    drawn = [row for row in found if row["part"] or row["claim"] not in compound]
    shown = list(dict.fromkeys((row["claim"], row["part"]) for row in drawn))
    columns = 1 if len(shown) < 4 else 2
    lines = math.ceil(len(shown) / columns)
    figure, panels = plt.subplots(lines, columns, figsize=(WIDTH * columns * 0.8, 1 + 1.9 * lines), squeeze=False)
    for which, panel in zip(shown, panels.flat, strict=False):
        _panel(panel, [row for row in drawn if (row["claim"], row["part"]) == which], along, axes)
    for panel in panels.flat[len(shown) :]:
        panel.axis("off")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    verdicts = list(dict.fromkeys(row["verdict"] for row in drawn))
    handles += [_verdict_handle(verdict) for verdict in verdicts]
    figure.legend(handles, [*labels, *verdicts], loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _verdict_handle(verdict: str) -> Any:
    from matplotlib.lines import Line2D

    from repro.figures.style import GREY, verdict_mark

    return Line2D([], [], color=GREY, marker=verdict_mark(verdict)[1], linestyle="none")


def _panel(panel: Axes, found: list[Row], along: str, axes: list[str]) -> None:
    ticks = list(dict.fromkeys(row[along] for row in found))
    numeric = all(isinstance(tick, int | float) and not isinstance(tick, bool) for tick in ticks)
    others = [axis for axis in axes if axis != along]
    series = list(dict.fromkeys(tuple(row[axis] for axis in others) for row in found))
    for number, values in enumerate(series):
        mine = [row for row in found if tuple(row[axis] for axis in others) == values]
        at = {id(row): row[along] if numeric else ticks.index(row[along]) for row in mine}
        label = ", ".join(f"{axis} {value}" for axis, value in zip(others, values, strict=True))
        _series(
            panel, sorted(((at[id(row)], row) for row in mine), key=lambda pair: pair[0]), number, len(series), label
        )
    if not numeric:
        panel.set_xticks(range(len(ticks)), [str(tick) for tick in ticks])
    elif min(ticks) > 0 and max(ticks) >= 10 * min(ticks):
        panel.set_xscale("log")
    panel.autoscale_view()
    name = f"{found[0]['claim']} {found[0]['part']}".strip()
    panel.set_title(textwrap.fill(f"{name}: {found[0]['unit'] or 'estimate'}", 38), fontsize=9)
    panel.set_xlabel(along, fontsize=9)


def _series(panel: Axes, points: list[tuple[float, Row]], number: int, total: int, label: str) -> None:
    """One colour's estimates and intervals, a little beside the other colours'."""
    from matplotlib.transforms import ScaledTranslation

    from repro.figures.style import PALETTE, verdict_mark

    colour = PALETTE[number % len(PALETTE)]
    aside = (number - (total - 1) / 2) * 5 / 72  # inches
    place = panel.transData + ScaledTranslation(aside, 0, panel.figure.dpi_scale_trans)
    x, y = [x for x, _ in points], [row["estimate"] for _, row in points]
    bounds = [row[end] for _, row in points for end in ("low", "estimate", "high") if row[end] is not None]
    # what is drawn in shifted coordinates does not count towards an axis's limits by itself
    panel.update_datalim([(min(x), min(bounds)), (max(x), max(bounds))])
    panel.plot(x, y, color=colour, alpha=0.5, label=label or None, transform=place)
    for x, row in points:
        ends = [row[end] if row[end] is not None else row["estimate"] for end in ("low", "high")]
        panel.plot([x, x], ends, color=colour, linewidth=2, transform=place)
        panel.plot(x, row["estimate"], verdict_mark(row["verdict"])[1], color=colour, transform=place)
