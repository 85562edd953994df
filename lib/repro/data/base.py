"""What every data set comes back as, and the steps they share: splitting, centring, scaling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LAYOUTS = ("flat", "image")


class DataMissing(RuntimeError):
    """A data set that is not here and could not be fetched; the message is one line saying what, how to get it and
    where it would go.
    """


@dataclass(frozen=True)
class Data:
    """A data set split into training and test parts.

    ``x_train`` and ``x_test`` are float32, [n, d] in layout "flat" and [n, C, H, W] in "image"; ``y_train`` and
    ``y_test`` are int64 class numbers [n] in 0 ... ``classes`` - 1. ``note`` says how the inputs were prepared and what
    a reader must know.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: int
    layout: str
    note: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input: (d,) or (C, H, W)."""
        return tuple(self.x_train.shape[1:])


@dataclass(frozen=True)
class Raw:
    """Inputs [n, ...] as they are stored and labels [n]: one pool, or canonical parts.

    ``shape`` is one input's in layout "image", ``scale`` what inputs are divided by first, and ``floor`` the least
    standard deviation that standardising divides by.
    """

    x: np.ndarray
    y: np.ndarray
    shape: tuple[int, ...]
    note: str
    floor: float
    scale: float = 1.0
    split: int | None = None  # the first `split` rows are the canonical training part


def choose(y: np.ndarray, size: int, seed: int, exclude: np.ndarray | None = None) -> np.ndarray:
    """``size`` row numbers drawn by ``seed`` with the classes in proportion, none of them in ``exclude``."""
    pool = np.arange(len(y)) if exclude is None else np.setdiff1d(np.arange(len(y)), exclude)
    if size >= len(pool):
        return np.random.default_rng(seed).permutation(pool)
    from sklearn.model_selection import train_test_split

    return train_test_split(pool, train_size=size, stratify=y[pool], random_state=seed)[0]


def rows_of(raw: Raw, name: str, train: int | None, test: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the training and the test part; canonical parts in canonical order where no size is given."""
    classes, n = len(np.unique(raw.y)), len(raw.y)
    for part, size in (("train", train), ("test", test)):
        if size is not None and size < classes:
            raise ValueError(f"{part} is {size}: {name} has {classes} classes, so give at least {classes} examples")
    if raw.split is None:
        test = test if test is not None else (n - train if train is not None else n // 3)
        train = train if train is not None else n - test
        if train + test > n or min(train, test) < classes:
            raise ValueError(
                f"train is {train} and test {test}: {name} has {n} examples and each part needs {classes} or more"
            )
        chosen = choose(raw.y, train, seed)
        return chosen, choose(raw.y, test, seed, exclude=chosen)
    parts = []
    for part, size, rows in (("train", train, np.arange(raw.split)), ("test", test, np.arange(raw.split, n))):
        if size is not None and size > len(rows):
            raise ValueError(f"{part} is {size}: {name} has {len(rows)} {part} examples")
        parts.append(rows if size is None else rows[choose(raw.y[rows], size, seed)])
    return parts[0], parts[1]


def prepare(
    raw: Raw,
    name: str,
    layout: str,
    train: int | None,
    test: int | None,
    seed: int,
    centre: bool,
    standardise: bool,
    unit_norm: bool,
) -> Data:
    """Split, centre by the training mean, then on demand divide by the training deviation and scale rows to norm 1."""
    rows = rows_of(raw, name, train, test, seed)
    parts = [torch.as_tensor(raw.x[r].reshape(len(r), -1)).to(torch.float32).div_(raw.scale) for r in rows]
    note = [raw.note]
    if centre or standardise:
        mean = parts[0].mean(0)
        parts = [x.sub_(mean) for x in parts]
        note.append("centred by the training mean of each feature")
    if standardise:
        deviation = parts[0].std(0).clamp(min=raw.floor)
        parts = [x.div_(deviation) for x in parts]
        note.append(f"divided by the training standard deviation (at least {raw.floor:g})")
    if unit_norm:
        parts = [torch.nn.functional.normalize(x, dim=1) for x in parts]
        note.append("each input scaled to norm 1")
    if layout == "image":
        parts = [x.reshape(-1, *raw.shape) for x in parts]
    labels = [torch.as_tensor(raw.y[r], dtype=torch.int64) for r in rows]
    return Data(name, parts[0], labels[0], parts[1], labels[1], len(np.unique(raw.y)), layout, "; ".join(note))
