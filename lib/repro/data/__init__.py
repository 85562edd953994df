"""What is learnt from. ``load(name)`` gives tensors with a stated layout; ``file(name)`` a verified path; the rest is
drawn.
"""

from __future__ import annotations

from repro.data.base import LAYOUTS, Data, DataMissing, prepare
from repro.data.embedded import TABLES, digits, mnist1d, table
from repro.data.files import file, human_labels
from repro.data.hub import HUB, hub_images
from repro.data.noise import Noisy, flip_labels
from repro.data.procedural import Clusters, Hierarchy, gaussian_classes, hierarchy, xor_clusters
from repro.data.tasks import SYNTHETIC, synthetic

NAMES = ("digits", "mnist1d", *TABLES, *HUB)

__all__ = [
    "NAMES",
    "SYNTHETIC",
    "Clusters",
    "Data",
    "DataMissing",
    "Hierarchy",
    "Noisy",
    "file",
    "flip_labels",
    "gaussian_classes",
    "hierarchy",
    "human_labels",
    "load",
    "synthetic",
    "xor_clusters",
]


def load(
    name: str,
    layout: str = "flat",
    train: int | None = None,
    test: int | None = None,
    seed: int = 0,
    standardise: bool | None = None,
    unit_norm: bool = False,
) -> Data:
    """A data set as float32 inputs and int64 labels.

    Embedded: "digits", "mnist1d", "iris", "wine", "breast_cancer", "diabetes". From the Hugging Face hub, or the mirror
    that ``REPRO_DATA`` names: "mnist", "cifar10". ``train`` and ``test`` are numbers of examples, drawn by ``seed``
    with classes in proportion; without them, all: canonical parts where there are such, else two thirds and one third.
    Pixels are divided by their maximum and centred by the training mean, never whitened. ``standardise`` divides
    features by their training deviation, for pixels at least 0.2 (default: tables only). ``unit_norm`` scales every
    input to norm 1, last. Layout "image" keeps channels, rows and columns.

    Raises ValueError for a name, layout or size that there is not, and DataMissing for a set that cannot be had.
    """
    if name not in NAMES:
        raise ValueError(f"data set is {name!r}: give one of {', '.join(NAMES)}")
    if layout not in LAYOUTS or (layout == "image" and name in TABLES):
        raise ValueError(f"layout is {layout!r} for {name}: give {'flat' if name in TABLES else 'one of flat, image'}")
    if name in HUB:
        raw = hub_images(name)
    elif name in TABLES:
        raw = table(name)
    else:
        raw = digits() if name == "digits" else mnist1d(train, test, seed)
    if name == "mnist1d":  # the draw has the asked sizes, and is centred and scaled by its own definition
        train = test = None
    by_deviation = name in TABLES if standardise is None else standardise
    return prepare(raw, name, layout, train, test, seed, name != "mnist1d", by_deviation, unit_norm)
