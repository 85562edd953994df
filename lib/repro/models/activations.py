"""Activations by name, each with the initialisation scale that belongs to it, and the layer initialisers."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

# name: (leaf module, the initialisation matched to it)
ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "relu": (nn.ReLU, "he"),  # He et al. 2015: variance 2/fan_in keeps the second moment through a ReLU
    "gelu": (nn.GELU, "he"),
    "selu": (nn.SELU, "lecun"),  # Klambauer et al. 2017: the fixed point (0, 1) assumes variance 1/fan_in
    "elu": (nn.ELU, "lecun"),
    "tanh": (nn.Tanh, "lecun"),
    "linear": (nn.Identity, "lecun"),
}
VARIANCES = {"lecun": 1.0, "he": 2.0}  # c in variance c/fan_in

Init = str | tuple[str, float]


def activation(name: str) -> nn.Module:
    """A fresh leaf module for an activation of the registry. Raises ValueError for other names."""
    return _entry(name)[0]()


def matched_init(name: str) -> str:
    """The initialisation that belongs to an activation."""
    return _entry(name)[1]


def initialise(module: nn.Module, init: Init) -> None:
    """Draw every linear and convolution weight of ``module`` from N(0, c/fan_in), biases zero, with torch's current
    generator.

    ``init`` is one of: "lecun" (c = 1), "he" (c = 2), "normal" (standard deviation 1 whatever the fan-in), ("gain", g)
    (c = g^2), "torch" (leave torch's own uniform draw, c = 1/3, and its random biases).
    """
    check_init(init)
    if init == "torch":
        return
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=_deviation(init, fan_in))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def check_init(init: Init) -> None:
    """Raise ValueError, naming what is allowed, for anything but an initialisation."""
    known = isinstance(init, str) and init in {*VARIANCES, "normal", "torch"}
    gain = isinstance(init, tuple | list) and len(init) == 2 and init[0] == "gain" and init[1] > 0
    if not known and not gain:
        raise ValueError(f'init is {init!r}: give one of "lecun", "he", "normal", "torch", or ("gain", g) with g > 0')


def _deviation(init: Init, fan_in: int) -> float:
    if init == "normal":
        return 1.0
    if isinstance(init, str):
        return math.sqrt(VARIANCES[init] / fan_in)
    return init[1] / math.sqrt(fan_in)


def _entry(name: str) -> tuple[Callable[[], nn.Module], str]:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation is {name!r}: give one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
