"""Put a figure on the page with what a reader who cannot see it needs."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

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
    data = _quantised(_drawn(figure, dpi))
    while len(data) > limit and dpi >= 50:
        dpi *= 0.85
        data = _quantised(_drawn(figure, dpi))
    return data


def _drawn(figure: Figure, dpi: float) -> Image:
    """The figure's pixels. ``savefig`` gives the same ones in half as much time again: it encodes what is decoded here."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    size = canvas.get_width_height()
    return Image.frombuffer("RGBA", size, canvas.buffer_rgba(), "raw", "RGBA", 0, 1).convert("RGB")


def _quantised(image: Image) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return buffer.getvalue()
