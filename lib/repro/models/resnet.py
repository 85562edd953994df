"""Residual networks for small images: He et al. (2016, arXiv 1512.03385, section 4.2)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import pad

from repro.models.activations import initialise


class ResNet(nn.Module):
    """CIFAR ResNet of depth 6n + 2: a 3x3 convolution and three stages of n two-layer blocks with ``width``, 2
    ``width`` and 4 ``width`` channels.

    Shortcuts across a change of shape are "A", identity with striding and zero channels (no parameters: the paper's
    choice on CIFAR), or "B", 1x1 convolutions. Batch norm follows every convolution. He initialisation. Images [..., C,
    H, W].
    """

    stackable = True

    def __init__(
        self,
        depth: int = 20,
        width: int = 16,
        image: tuple[int, int, int] = (3, 32, 32),
        classes: int = 10,
        shortcut: str = "A",
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth is {depth}: give 6n + 2, such as 8, 20, 32, 44, 56, 110")
        if shortcut not in ("A", "B"):
            raise ValueError(f"shortcut is {shortcut!r}: give one of A, B")
        if width < 1 or min(image[1:]) < 4:
            raise ValueError(f"width is {width} on image {tuple(image)}: give a positive width and a side of 4 or more")
        self.stem = nn.Conv2d(image[0], width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.activation = nn.ReLU()
        blocks, fan_in = [], width
        for stage in range(3):
            for i in range((depth - 2) // 6):
                channels = width * 2**stage
                blocks.append(
                    ResidualBlock(fan_in, channels, stride=2 if stage > 0 and i == 0 else 1, shortcut=shortcut)
                )
                fan_in = channels
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(fan_in, classes)
        initialise(self, "he")

    def forward(self, x: Tensor) -> Tensor:
        """Logits [..., classes] for images [..., C, H, W]."""
        x = self.activation(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((-2, -1)))

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """The stem's and every block's output, after the activation: "stem", "block1" ... -> [..., C, H, W]."""
        x = self.activation(self.norm(self.stem(x)))
        features = {"stem": x}
        for i, block in enumerate(self.blocks, start=1):
            x = features[f"block{i}"] = block(x)
        return features


class ResidualBlock(nn.Module):
    """relu(F(x) + shortcut(x)), F being two 3x3 convolutions with batch norm, the first of them strided."""

    stackable: ClassVar[bool] = True

    def __init__(self, c_in: int, c_out: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_out)
        self.activation1, self.activation2 = nn.ReLU(), nn.ReLU()
        self.shortcut = _shortcut(c_in, c_out, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C_in, H, W] to [..., C_out, H/stride, W/stride]."""
        out = self.norm2(self.conv2(self.activation1(self.norm1(self.conv1(x)))))
        return self.activation2(out + self.shortcut(x))


class PaddedShortcut(nn.Module):
    """Option A: take every ``stride``-th pixel and add zero channels, half on either side."""

    stackable = True

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x: Tensor) -> Tensor:
        """[..., C, H, W] to [..., C + extra, H/stride, W/stride]."""
        before = self.extra // 2
        return pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.extra - before))


def _shortcut(c_in: int, c_out: int, stride: int, kind: str) -> nn.Module:
    if c_in == c_out and stride == 1:
        return nn.Identity()
    if kind == "A":
        return PaddedShortcut(c_out - c_in, stride)
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False), nn.BatchNorm2d(c_out))
