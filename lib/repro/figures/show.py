"""Put a figure on the page with what a reader who cannot see it needs."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LIMIT = 60 * 1024  # bytes: a page of five figures stays below 300 KiB


def show(figure: Figure, caption: str, alt: str) -> None:
    """Display ``figure`` as a PNG of at most 60 KiB and close it.

    ``caption`` says what is drawn, ``alt`` what is to be seen in it. Both travel in the output's metadata, as
    ``{"repro": {"alt", "caption"}, "image/png": {"alt"}}``: the first for the book, the second where Jupyter and
    nbconvert look for it. Raises ValueError for an empty caption or alt text.
    """
    for name, text in (("caption", caption), ("alt", alt)):
        if not text.strip():
            raise ValueError(f"{name} is empty: say in a sentence what the figure shows")
    import matplotlib.pyplot as plt
    from IPython.display import display

    encoded = base64.b64encode(png(figure)).decode()
    plt.close(figure)  # else the inline backend would show it a second time, without its texts
    metadata = {"repro": {"alt": alt, "caption": caption}, "image/png": {"alt": alt}}
    display({"image/png": encoded, "text/plain": f"Figure: {alt}"}, raw=True, metadata=metadata)


def png(figure: Figure, limit: int = LIMIT) -> bytes:
    """The figure as a PNG of 256 colours, which halves it; reduced in resolution where it would exceed ``limit`` bytes.

    The same figure gives the same bytes: no date and no version is written into it.
    """
    dpi = figure.get_dpi()
    data = _quantised(_saved(figure, dpi))
    while len(data) > limit and dpi >= 50:
        dpi *= 0.85
        data = _quantised(_saved(figure, dpi))
    return data


def _saved(figure: Figure, dpi: float) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _quantised(data: bytes) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(data)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    image.save(buffer, "png", optimize=True)
    return buffer.getvalue()
