"""The plots that pages share: a curve with its uncertainty over seeds, and a labelled matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D


def band(ax: Axes, x: Any, values: Any, label: str = "", level: float = 0.95, **style: Any) -> Line2D:
    """Mean of ``values`` [seeds, points] over seeds against ``x`` [points], with its pointwise Student t band at
    ``level``.

    A point is drawn from the seeds that are finite there, and its band from two of them on. Keyword arguments go to
    ``ax.plot``. Raises ValueError where shapes disagree or there is no second seed.
    """
    x, values = np.asarray(x, dtype=float), np.asarray(values, dtype=float)
    if values.ndim != 2 or values.shape[1:] != x.shape:
        raise ValueError(f"values are {values.shape} for {x.shape} points: give [seeds, points]")
    if len(values) < 2:
        raise ValueError("values hold 1 seed: a band needs at least 2")
    mean, half = t_band(values, level)
    (line,) = ax.plot(x, mean, label=label, **style)
    ax.fill_between(x, mean - half, mean + half, color=line.get_color(), alpha=0.2, linewidth=0)
    return line


def t_band(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Mean over seeds of ``values`` [seeds, points] and half-width of its Student t interval, NaN with fewer than 2
    finite seeds: [points] each.
    """
    from scipy.stats import t

    finite = np.isfinite(values)
    n = finite.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(finite, values, 0).sum(0) / n
        variance = np.where(finite, (values - mean) ** 2, 0).sum(0) / (n - 1)
        half = t.ppf((1 + level) / 2, n - 1) * np.sqrt(variance / n)
    return mean, np.where(n > 1, half, np.nan)


def heatmap(
    ax: Axes,
    matrix: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    label: str = "",
    limits: tuple[float, float] | None = None,
    centre: float | None = None,
    mark_row_maxima: bool = False,
    colorbar: bool = True,
) -> None:
    """Draw ``matrix`` [rows, columns] with named rows and columns, NaN left white.

    ``centre`` asks for a diverging colour map around that value. ``limits`` fixes the colours, so that panels can be
    compared. ``mark_row_maxima`` puts a dot on every row's largest entry, on all of them where they are tied. Raises
    ValueError where names and matrix disagree.
    """
    import matplotlib as mpl

    matrix = np.asarray(matrix, dtype=float)
    if matrix.shape != (len(rows), len(columns)):
        raise ValueError(f"matrix is {matrix.shape} for {len(rows)} rows and {len(columns)} columns")
    low, high = limits or (np.nanmin(matrix), np.nanmax(matrix))
    if centre is None:
        colours = {"cmap": "viridis", "norm": mpl.colors.Normalize(low, high)}
    else:  # one scale on both sides, so that equal colours are equally far from the centre
        colours = {"cmap": "RdBu_r", "norm": mpl.colors.CenteredNorm(centre, max(high - centre, centre - low))}
    mesh = ax.pcolormesh(np.ma.masked_invalid(matrix), edgecolors="white", linewidth=0.5, **colours)
    if colorbar:
        ax.figure.colorbar(mesh, ax=ax, label=label).outline.set_visible(False)
    ax.set(aspect="equal", xticks=np.arange(len(columns)) + 0.5, yticks=np.arange(len(rows)) + 0.5)
    ax.set_yticklabels(rows)
    crowded = max(map(len, columns)) > 24 // len(columns) + 1  # names that would run into one another
    ax.set_xticklabels(columns, rotation=90 if crowded else 0)
    ax.invert_yaxis()
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if mark_row_maxima:
        best = np.isclose(matrix, np.nanmax(matrix, axis=1, keepdims=True), rtol=1e-9, atol=0)
        row, column = np.nonzero(best)
        ax.scatter(column + 0.5, row + 0.5, s=26, color="white", edgecolors="black", zorder=3)
