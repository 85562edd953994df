"""Drawing what ``evidence`` and ``train`` return: one house style, bands over seeds, matrices, claims, and figures with
texts.
"""

from repro.figures.claims import claims_plot
from repro.figures.plots import band, heatmap, t_band
from repro.figures.show import png, show
from repro.figures.style import PALETTE, use_style

__all__ = ["PALETTE", "band", "claims_plot", "heatmap", "png", "show", "t_band", "use_style"]
