"""Synthetic classification tables whose structure is known, each asking for something else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from repro.data.base import Data, Raw, prepare


def synthetic(name: str, train: int = 400, test: int = 400, seed: int = 0) -> Data:
    """A synthetic table, standardised by its training part; ``seed`` draws the task and its examples.

    "linear_mixture": scikit-learn's make_classification, 20 features of which 5 inform and 5 repeat, 3 classes, 5 %
    label noise; "moons": two half-moons in the plane beside 8 features of noise; "parity": the parity of the signs of 4
    features among 12; "shells": three concentric spheres in 8 dimensions. Raises ValueError for another name, or fewer
    than 10 examples in a part.
    """
    if name not in SYNTHETIC:
        raise ValueError(f"task is {name!r}: give one of {', '.join(SYNTHETIC)}")
    if min(train, test) < 10:
        raise ValueError(f"train is {train} and test {test}: give at least 10 examples each")
    x, y = SYNTHETIC[name](train + test, np.random.default_rng(seed))
    raw = Raw(x, y, x.shape[1:], f"synthetic {name}, seed {seed}", floor=1e-8)
    return prepare(raw, name, "flat", train, test, seed, centre=True, standardise=True, unit_norm=False)


def _linear_mixture(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import make_classification

    state = int(rng.integers(2**31))
    return make_classification(
        n, n_features=20, n_informative=5, n_redundant=5, n_classes=3, flip_y=0.05, random_state=state
    )


def _moons(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import make_moons

    x, y = make_moons(n, noise=0.2, random_state=int(rng.integers(2**31)))
    return np.hstack([x, rng.standard_normal((n, 8))]), y


def _parity(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rng.standard_normal((n, 12))
    return x, (x[:, :4] > 0).sum(1) % 2


def _shells(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(n) % 3
    direction = rng.standard_normal((n, 8))
    radius = y + 1 + 0.15 * rng.standard_normal(n)
    return direction / np.linalg.norm(direction, axis=1, keepdims=True) * radius[:, None], y


SYNTHETIC: dict[str, Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]] = {
    "linear_mixture": _linear_mixture,
    "moons": _moons,
    "parity": _parity,
    "shells": _shells,
}
