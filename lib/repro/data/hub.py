"""Image sets from the Hugging Face hub, or from a mirror of it that ``REPRO_DATA`` points at."""

from __future__ import annotations

import functools
import io
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from repro.data.base import DataMissing, Raw
from repro.data.embedded import PIXEL_FLOOR

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

# name: (hub id, image column, image shape)
HUB = {"mnist": ("ylecun/mnist", "image", (1, 28, 28)), "cifar10": ("uoft-cs/cifar10", "img", (3, 32, 32))}
REENCODED = "images are a JPEG re-encoding of the originals (lossy)"


def hub_images(name: str) -> Raw:
    """All images of a hub set in its order, uint8 with channels first; the canonical training part first.

    Read-only: the set read last is kept, since a page loads it once a seed.
    """
    return _images(name, os.environ.get("REPRO_DATA"))


@functools.lru_cache(maxsize=1)
def _images(name: str, mirror: str | None) -> Raw:
    repository, column, shape = HUB[name]
    splits = _splits(name, repository)
    pixels, labels, formats = [], [], set()
    for part in ("train", "test"):
        encoded, truth = _columns(splits[part], column)
        formats |= {"JPEG" if image[:2] == b"\xff\xd8" else "PNG" for image in encoded}
        pixels.append(_decode(encoded, shape))
        labels.append(truth)
    note = f"{repository}, pixels / 255" + (f"; {REENCODED}" if "JPEG" in formats else "")
    return Raw(
        np.concatenate(pixels), np.concatenate(labels), shape, note, PIXEL_FLOOR, scale=255.0, split=len(labels[0])
    )


def _splits(name: str, repository: str) -> DatasetDict:
    import datasets

    _fail_fast_offline()
    mirror = os.environ.get("REPRO_DATA")
    local = Path(mirror).expanduser() / "hub" / repository if mirror else None
    source = str(local) if local and local.is_dir() else repository
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(source)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        tried = f"REPRO_DATA={mirror} does not hold it" if mirror else "REPRO_DATA is not set"
        raise DataMissing(
            f"{name} is missing: {tried} and huggingface.co/datasets/{repository} could not be read "
            f"({type(error).__name__}); load it once online (it goes to {datasets.config.HF_DATASETS_CACHE}) "
            f"or set REPRO_DATA to a folder with hub/{repository}"
        ) from None
    finally:
        if shown:
            datasets.enable_progress_bars()


def _fail_fast_offline() -> None:
    """Without a route to the hub, look into its cache at once: its client would ask six times, half a minute, first."""
    import datasets
    from huggingface_hub import constants

    try:
        socket.getaddrinfo("huggingface.co", 443)
    except OSError:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True


def _columns(split: Dataset, column: str) -> tuple[list[bytes], np.ndarray]:
    """Encoded images and labels, as one Arrow table: row by row, ``datasets`` would take ten times as long as the
    decoding.
    """
    from datasets import Image

    table = split.cast_column(column, Image(decode=False)).with_format("arrow")[:]
    return table[column].combine_chunks().field("bytes").to_pylist(), table["label"].to_numpy()


def _decode(encoded: list[bytes], shape: tuple[int, int, int]) -> np.ndarray:
    """Image files to uint8 [n, C, H, W]. A plain loop: at 40 us an image threads only wait for each other."""
    from PIL import Image

    channels, *plane = shape
    images = np.empty((len(encoded), *shape), dtype=np.uint8)
    for i, data in enumerate(encoded):
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        images[i] = pixels.reshape(*plane, channels).transpose(2, 0, 1)
    return images
