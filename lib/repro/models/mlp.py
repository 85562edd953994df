"""Multilayer perceptrons."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from repro.models.activations import Init, activation, initialise, matched_init

NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
DROPOUTS = {"standard": nn.Dropout, "alpha": nn.AlphaDropout}


class MLP(nn.Module):
    """Perceptron of ``widths`` (inputs, hidden ..., outputs) on flat inputs [..., inputs], giving [..., outputs]
    without a last activation.

    A hidden block is linear, activation, dropout, with an optional norm: behind the activation with ``norm_after`` (as
    in the self-normalizing networks paper's code), between linear and activation without. ``init`` applies to every
    linear layer; "matched" takes the activation's own.
    """

    stackable = True

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "relu",
        norm: str | None = None,
        norm_after: bool = True,
        init: Init = "matched",
        dropout: float = 0.0,
        dropout_kind: str = "standard",
        bias: bool = True,
    ) -> None:
        super().__init__()
        _check(widths, norm, dropout, dropout_kind)
        self.hidden = nn.ModuleList(
            dense_block(fan_in, width, activation, norm, norm_after, dropout, dropout_kind, bias)
            for fan_in, width in itertools.pairwise(widths[:-1])
        )
        self.head = nn.Linear(widths[-2], widths[-1], bias=bias)
        initialise(self, matched_init(activation) if init == "matched" else init)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [..., widths[-1]] for inputs [..., widths[0]]."""
        for block in self.hidden:
            x = block(x)
        return self.head(x)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """What each hidden block passes on, after activation, norm and dropout: "hidden1" ... -> [..., width]."""
        features = {}
        for i, block in enumerate(self.hidden, start=1):
            x = features[f"hidden{i}"] = block(x)
        return features


def dense_block(
    fan_in: int,
    width: int,
    name: str,
    norm: str | None = None,
    norm_after: bool = True,
    dropout: float = 0.0,
    dropout_kind: str = "standard",
    bias: bool = True,
) -> nn.Sequential:
    """A hidden block of a perceptron, [..., fan_in] -> [..., width]; the arguments are those of :class:`MLP`."""
    steps: OrderedDict[str, nn.Module] = OrderedDict(
        linear=nn.Linear(fan_in, width, bias=bias), activation=activation(name)
    )
    if norm is not None:
        steps["norm"] = NORMS[norm](width)
        if not norm_after:
            steps.move_to_end("activation")
            if norm == "batch":  # the norm would subtract it; dropped once drawn: a seed's weights are what they were
                steps["linear"].bias = None
    if dropout > 0:
        steps["dropout"] = DROPOUTS[dropout_kind](dropout)
    return nn.Sequential(steps)


def _check(widths: Sequence[int], norm: str | None, dropout: float, dropout_kind: str) -> None:
    if len(widths) < 2 or any(not isinstance(w, int) or w < 1 for w in widths):
        raise ValueError(f"widths is {list(widths)}: give at least inputs and outputs, each a positive whole number")
    if norm is not None and norm not in NORMS:
        raise ValueError(f"norm is {norm!r}: give None or one of {', '.join(NORMS)}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}: give a rate in [0, 1)")
    if dropout_kind not in DROPOUTS:
        raise ValueError(f"dropout_kind is {dropout_kind!r}: give one of {', '.join(DROPOUTS)}")
