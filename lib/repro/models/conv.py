"""Plain convolutional networks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from repro.models.activations import Init, activation, initialise, matched_init
from repro.models.mlp import dense_block

POOLS = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}
# a maximum passes through an increasing function, max f(x) = f(max x): pooled first, f acts on a quarter of the numbers
INCREASING = ("relu", "selu", "elu", "tanh", "linear")


class ConvNet(nn.Module):
    """Blocks of 3x3 convolution, optional norm, activation and 2x2 pooling on images [..., C, H, W]; then, on the
    flattened map, hidden linear layers of ``dense`` units, each with norm, activation and dropout, and a linear head.

    ``channels`` gives each block's width, ``image`` the input's (C, H, W); ``norm`` is None or "batch"; ``pool`` is
    "max", "average" or None; ``dropout`` acts behind dense layers alone. Raises ValueError where pooling would leave
    nothing of the image.
    """

    stackable = True

    def __init__(
        self,
        channels: Sequence[int] = (16, 32),
        image: tuple[int, int, int] = (1, 8, 8),
        classes: int = 10,
        norm: str | None = None,
        pool: str | None = "max",
        activation: str = "relu",
        init: Init = "matched",
        dense: Sequence[int] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        depth, height, width = image
        shrink = 2 ** len(channels) if pool else 1
        _check(channels, image, norm, pool, shrink)
        if dropout and not dense:
            raise ValueError(f"dropout is {dropout}, but there are no dense layers that it could act on")
        self.hidden = nn.ModuleList(
            _block(c_in, c_out, 1, 1, norm, activation, pool)
            for c_in, c_out in zip((depth, *channels), channels, strict=False)
        )
        fans = [channels[-1] * (height // shrink) * (width // shrink), *dense]
        self.dense = nn.ModuleList(
            dense_block(fan_in, units, activation, norm, norm_after=False, dropout=dropout)
            for fan_in, units in zip(fans, dense, strict=False)
        )
        self.head = nn.Linear(fans[-1], classes)
        initialise(self, matched_init(activation) if init == "matched" else init)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [..., classes] for images [..., C, H, W]."""
        for block in self.hidden:
            x = block(x)
        x = x.flatten(-3)
        for block in self.dense:
            x = block(x)
        return self.head(x)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """What each block passes on: "conv1" ... -> [..., C, H, W] after pooling, then "dense1" ... -> [..., units]."""
        features = _features(self.hidden, x)
        x = features[f"conv{len(self.hidden)}"].flatten(-3)
        for i, block in enumerate(self.dense, start=1):
            x = features[f"dense{i}"] = block(x)
        return features


class PlainCNN(nn.Module):
    """The 10-layer network of Kornblith et al. (2019), scalable in width and depth: eight convolutions, global average
    pooling, logits.

    3x3 convolutions of 16, 16, 32 (stride 2), 32, 32, 64 (stride 2), 64 (no padding) and a 1x1 convolution of 64
    channels, each with norm and activation. ``width`` multiplies the channels. ``depth`` repeats every layer; only a
    layer's first copy strides or goes without padding, so that maps keep the shape they have at depth 1. Takes images
    of side 9 or more.
    """

    stackable = True
    LAYERS = (
        (16, 3, 1, 1),
        (16, 3, 1, 1),
        (32, 3, 2, 1),
        (32, 3, 1, 1),
        (32, 3, 1, 1),
        (64, 3, 2, 1),
        (64, 3, 1, 0),
        (64, 1, 1, 0),
    )

    def __init__(
        self,
        width: float = 1.0,
        depth: int = 1,
        image: tuple[int, int, int] = (3, 32, 32),
        classes: int = 10,
        norm: str | None = "batch",
        activation: str = "relu",
        init: Init = "matched",
    ) -> None:
        super().__init__()
        if depth < 1 or width <= 0:
            raise ValueError(f"depth is {depth} and width {width}: give a positive whole number and a positive factor")
        if min(image[1:]) < 9:
            raise ValueError(
                f"image is {tuple(image)}: two strides and an unpadded convolution need a side of 9 or more"
            )
        blocks, fan_in = [], image[0]
        for channels, kernel, stride, padding in self.LAYERS:
            channels = max(1, round(channels * width))
            for copy in range(depth):
                first = copy == 0
                same = kernel // 2
                blocks.append(
                    _block(
                        fan_in,
                        channels,
                        stride if first else 1,
                        padding if first else same,
                        norm,
                        activation,
                        None,
                        kernel,
                    )
                )
                fan_in = channels
        self.hidden = nn.ModuleList(blocks)
        self.head = nn.Linear(fan_in, classes)
        initialise(self, matched_init(activation) if init == "matched" else init)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [..., classes] for images [..., C, H, W]."""
        for block in self.hidden:
            x = block(x)
        return self.head(x.mean((-2, -1)))

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Every convolution's output after norm and activation: "conv1" ... -> [..., C, H, W]."""
        return _features(self.hidden, x)


def _block(
    c_in: int, c_out: int, stride: int, padding: int, norm: str | None, name: str, pool: str | None, kernel: int = 3
) -> nn.Sequential:
    # A bias in front of a batch norm is subtracted again: leave it out.
    steps: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=padding, bias=norm is None)
    )
    if norm is not None:
        steps["norm"] = nn.BatchNorm2d(c_out)
    steps["activation"] = activation(name)
    if pool is not None:
        steps["pool"] = POOLS[pool](2)
    if pool == "max" and name in INCREASING:
        steps.move_to_end("activation")
    return nn.Sequential(steps)


def _features(blocks: nn.ModuleList, x: Tensor) -> dict[str, Tensor]:
    features = {}
    for i, block in enumerate(blocks, start=1):
        x = features[f"conv{i}"] = block(x)
    return features


def _check(
    channels: Sequence[int], image: tuple[int, int, int], norm: str | None, pool: str | None, shrink: int
) -> None:
    if len(channels) == 0 or any(c < 1 for c in channels):
        raise ValueError(f"channels is {list(channels)}: give at least one block, each a positive whole number")
    if norm not in (None, "batch"):
        raise ValueError(f"norm is {norm!r}: give None or batch")
    if pool is not None and pool not in POOLS:
        raise ValueError(f"pool is {pool!r}: give None or one of {', '.join(POOLS)}")
    if min(image[1:]) // shrink < 1:
        raise ValueError(
            f"image is {tuple(image)}: {len(channels)} poolings by 2 leave nothing; give fewer channels or pool=None"
        )
