"""Stacked twins of torch's layers: M networks of one architecture as one module.

A twin keeps its original's parameter names, each with a leading member axis [M, ...], and maps [M, B, ...] to
[M, B, ...]. Members never mix, so the gradient of the *sum* of their losses holds every member's own gradient:
no per-member backward pass, no vmap. Linear layers become batched matrix products, convolutions grouped ones.

The logical order of axes is always [M, B, ...]; the memory is laid out for speed: feature-major [M, C, B] behind linear
layers (weights and their gradients then come out contiguous, and softmax and batch statistics run along memory) and
channels-last [B, H, W, M, C] behind convolutions (grouped convolutions and pooling copy nothing).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.rng import Streams


def fold(x: Tensor) -> Tensor:
    """[M, B, C, ...] -> [B, M·C, ...]; images channels-last. No copy if the memory already lies so."""
    x = x.transpose(0, 1)
    x = x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def unfold(x: Tensor, members: int) -> Tensor:
    """[B, M·C, ...] -> [M, B, C, ...] as a view."""
    return x.unflatten(1, (members, -1)).transpose(0, 1)


class Twin(nn.Module):
    """Base of the stacked layers: copies the settings of ``layer`` and gives each parameter a leading axis [M]."""

    def __init__(self, layer: nn.Module, members: int) -> None:
        super().__init__()
        self.layer_repr, self.members = repr(layer), members
        for name, value in layer.named_parameters(recurse=False):
            stacked = value.detach().expand(members, *value.shape).clone()
            self.register_parameter(name, nn.Parameter(stacked, requires_grad=value.requires_grad))
        for name, value in layer.named_buffers(recurse=False):
            self.register_buffer(name, value.detach().expand(members, *value.shape).clone())
        for name in [n for n in ("weight", "bias") if getattr(layer, n, 0) is None]:
            self.register_parameter(name, None)

    def extra_repr(self) -> str:
        return f"{self.members} x {self.layer_repr}"


class Linear(Twin):
    def forward(self, x: Tensor) -> Tensor:  # [M, B, ..., in] -> [M, B, ..., out]
        columns = x.flatten(1, -2).mT  # [M, in, B·...]
        if self.bias is None:
            out = torch.bmm(self.weight, columns).mT
        else:
            out = torch.baddbmm(self.bias[:, :, None], self.weight, columns).mT
        return out.unflatten(1, x.shape[1:-1]) if x.dim() > 3 else out


class Conv(Twin):
    """Conv1d and Conv2d as one grouped convolution over M·C channels."""

    def __init__(self, layer: nn.Conv1d | nn.Conv2d, members: int) -> None:
        super().__init__(layer, members)
        if layer.padding_mode != "zeros":
            raise NotImplementedError(f"padding_mode={layer.padding_mode!r}: stacked convolutions pad with zeros only")
        self.convolve = F.conv1d if isinstance(layer, nn.Conv1d) else F.conv2d
        self.options = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
        self.groups = members * layer.groups

    def forward(self, x: Tensor) -> Tensor:  # [M, B, C, *space]
        bias = None if self.bias is None else self.bias.flatten()
        out = self.convolve(fold(x), self.weight.flatten(0, 1), bias, groups=self.groups, **self.options)
        return unfold(out, self.members)


class BatchNorm(Twin):
    """Each member's own batch statistics and running averages, in one fused call over M·C channels."""

    def __init__(self, layer: nn.BatchNorm1d | nn.BatchNorm2d, members: int) -> None:
        super().__init__(layer, members)
        self.momentum, self.eps, self.track = layer.momentum, layer.eps, layer.track_running_stats

    def forward(self, x: Tensor) -> Tensor:
        tracked = self.training and self.track
        if tracked:
            self.num_batches_tracked += 1
        momentum = self.momentum
        if momentum is None:  # cumulative average; all members have seen equally many batches
            momentum = 1.0 / float(self.num_batches_tracked[0]) if tracked else 0.0
        flat = [None if t is None else t.view(-1) for t in (self.weight, self.bias)]
        mean, var = (self.running_mean.view(-1), self.running_var.view(-1)) if self.track else (None, None)
        use_batch = self.training or not self.track
        if x.dim() == 3:  # [M, B, C]: batch statistics along feature-major memory, as one image of M·C channels
            columns = x.mT.reshape(1, -1, x.shape[1])
            out = F.batch_norm(columns, mean, var, *flat, use_batch, momentum, self.eps)
            return out.view(self.members, -1, x.shape[1]).mT
        return unfold(F.batch_norm(fold(x), mean, var, *flat, use_batch, momentum, self.eps), self.members)


class NormOverFeatures(torch.autograd.Function):
    """Layer norm of columns [M, C, B] over C with scale and shift [M, C]: as behind linear layers, without turning the
    memory over. Its derivative can be derived once more.
    """

    @staticmethod
    def normalised(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """(x - mean) / sigma, and 1 / sigma [M, 1, B]."""
        centred = x - x.mean(1, keepdim=True)
        inverse = centred.square().mean(1, keepdim=True).add(eps).rsqrt()
        return centred * inverse, inverse

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        h, inverse = NormOverFeatures.normalised(x, eps)
        ctx.eps = eps
        ctx.save_for_backward(x, weight, h, inverse)
        return (h * weight[:, :, None]).add_(bias[:, :, None])

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, h, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():  # a further derivative, which has to see how these depend on x
            h, inverse = NormOverFeatures.normalised(x, ctx.eps)
        dh, mean = d * h, (weight / weight.shape[1])[:, None]  # [M, 1, C]: means over features of the scaled gradient
        dx = (d * weight[:, :, None]).sub_(mean @ d).sub_(h * (mean @ dh)).mul_(inverse)
        return dx, dh.sum(2), d.sum(2), None


class LayerNorm(Twin):
    def __init__(self, layer: nn.LayerNorm, members: int) -> None:
        super().__init__(layer, members)
        self.shape, self.eps = layer.normalized_shape, layer.eps

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 3 and len(self.shape) == 1 and self.weight is not None and self.bias is not None:
            return NormOverFeatures.apply(x.mT, self.weight, self.bias, self.eps).mT
        out = F.layer_norm(x, self.shape, None, None, self.eps)
        if self.weight is None:
            return out
        between = (slice(None),) + (None,) * (x.dim() - 1 - len(self.shape))  # [M, *shape] -> [M, 1.., *shape]
        out = out * self.weight[between]
        return out if self.bias is None else out + self.bias[between]


class GroupNorm(Twin):
    def __init__(self, layer: nn.GroupNorm, members: int) -> None:
        super().__init__(layer, members)
        self.groups, self.eps = layer.num_groups * members, layer.eps

    def forward(self, x: Tensor) -> Tensor:
        flat = [None if t is None else t.flatten() for t in (self.weight, self.bias)]
        return unfold(F.group_norm(fold(x), self.groups, *flat, self.eps), self.members)


class Embedding(Twin):
    def __init__(self, layer: nn.Embedding, members: int) -> None:
        super().__init__(layer, members)
        self.rows = layer.num_embeddings

    def forward(self, index: Tensor) -> Tensor:  # [M, B, ...] integers -> [M, B, ..., features]
        offset = torch.arange(self.members, device=index.device).view(-1, *(1,) * (index.dim() - 1)) * self.rows
        return F.embedding(index + offset, self.weight.flatten(0, 1))


class Spatial(Twin):
    """Layers that treat channels alike (pooling): run the original on [B, M·C, ...]."""

    def __init__(self, layer: nn.Module, members: int) -> None:
        super().__init__(layer, members)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return unfold(self.layer(fold(x)), self.members)


class Flatten(Twin):
    """``nn.Flatten``: axes that count from the front move one up, because the member axis comes first."""

    def __init__(self, layer: nn.Flatten, members: int) -> None:
        super().__init__(layer, members)
        self.start, self.end = (d + 1 if d >= 0 else d for d in (layer.start_dim, layer.end_dim))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(self.start, self.end)


class Dropout(Twin):
    """Dropout and alpha dropout whose masks come from each member's own stream (``streams`` is set by the trainer).

    Alpha dropout: Klambauer et al. 2017, section "New dropout technique": dropped units are set to α' = -λα, then the
    affine map a·x + b restores mean 0 and variance 1, with a = [q + α'²q(1-q)]^(-1/2), b = -a(1-q)α', q = 1 - p.
    """

    def __init__(self, layer: nn.Dropout | nn.AlphaDropout, members: int) -> None:
        super().__init__(layer, members)
        self.p, self.alpha = layer.p, isinstance(layer, nn.AlphaDropout)
        self.streams: Streams | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if self.streams is None:
            raise RuntimeError("dropout in training mode outside of fit(): the members have no random streams")
        keep = self.streams.uniform(*x.shape[1:]) >= self.p
        q = 1.0 - self.p
        if not self.alpha:
            return x * keep / q
        low = -1.7580993408473766
        a = (q + low**2 * q * (1 - q)) ** -0.5
        return torch.where(keep, x, low) * a - a * (1 - q) * low


ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus,
    nn.Hardtanh, nn.Identity, nn.LogSigmoid, nn.Softsign,
)  # fmt: skip
TWINS: dict[type[nn.Module], Callable[[nn.Module, int], nn.Module]] = {
    nn.Linear: Linear, nn.Conv1d: Conv, nn.Conv2d: Conv, nn.BatchNorm1d: BatchNorm, nn.BatchNorm2d: BatchNorm,
    nn.LayerNorm: LayerNorm, nn.GroupNorm: GroupNorm, nn.Embedding: Embedding, nn.Flatten: Flatten,
    nn.Dropout: Dropout, nn.AlphaDropout: Dropout, nn.MaxPool1d: Spatial, nn.MaxPool2d: Spatial,
    nn.AvgPool1d: Spatial, nn.AvgPool2d: Spatial, nn.AdaptiveAvgPool1d: Spatial, nn.AdaptiveAvgPool2d: Spatial,
    **dict.fromkeys(ELEMENTWISE, lambda layer, members: copy.deepcopy(layer)),
}  # fmt: skip
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def stackable(module: nn.Module) -> bool:
    """Whether every part of ``module`` has a stacked twin or promises (``stackable = True``) to count axes from the end."""
    if type(module) in TWINS:
        return True
    known = type(module) in CONTAINERS or (getattr(module, "stackable", False) and not own_tensors(module))
    return known and all(stackable(child) for child in module.children())


def own_tensors(module: nn.Module) -> bool:
    """Whether the module itself (not its children) holds parameters or buffers."""
    return any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False))


def twin(module: nn.Module, members: int) -> nn.Module:
    """The stacked twin of a ``stackable`` module; every member starts as a copy of ``module``."""
    if type(module) in TWINS:
        return TWINS[type(module)](module, members)
    stacked = copy.copy(module)  # same forward, same settings; children are replaced below
    stacked._modules = {name: child and twin(child, members) for name, child in module._modules.items()}
    return stacked
