"""One house style: colour-blind safe, and legible where a figure is shrunk to a phone's 390 pixels."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's palette, black last: it is for annotations first.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
GREY = "#767676"
# The palette's green, vermilion, orange and purple, darkened until they can be read as text on white (contrast 4.5).
VERDICTS = {
    "reproduced": ("#00805E", "o"),
    "not reproduced": ("#B84E00", "X"),
    "inconclusive": ("#8F5E00", "D"),
    "precondition failed": ("#A04F82", "s"),
    "not tested here": (GREY, "_"),
}
SUPPORTS = ("#0072B2", "^")  # "supports <version>"

WIDTH = 5.2  # inches: at 390 pixels, 11 points are then 11 pixels tall


def verdict_mark(verdict: str) -> tuple[str, str]:
    """Colour and marker of a verdict; markers differ too, so that colour is never the only sign."""
    return VERDICTS.get(verdict, SUPPORTS)


def style() -> dict[str, Any]:
    """The house style as matplotlib settings."""
    from cycler import cycler

    return {
        "figure.figsize": (WIDTH, 3.4),
        "figure.dpi": 110,
        "savefig.dpi": 110,
        "figure.constrained_layout.use": True,
        "figure.facecolor": "white",
        "axes.prop_cycle": cycler(color=PALETTE),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.labelsize": 11,
        "grid.color": "#E4E4E4",
        "grid.linewidth": 0.7,
        "font.size": 11,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "legend.fontsize": 10,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "image.cmap": "viridis",
    }


def use_style() -> None:
    """Draw every figure from here on in the house style."""
    import matplotlib as mpl

    mpl.rcParams.update(style())
