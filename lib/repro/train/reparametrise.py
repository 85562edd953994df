"""Networks whose parameters are a function of fewer or other ones, which ``fit`` trains like any stack."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from repro.measure.flat import split
from repro.train.layers import TWINS, Twin
from repro.train.stack import Stack


class Reparametrised(nn.Module, ABC):
    """One network ``module`` run at the parameters θ that ``formula`` makes of this module's own tensors.

    ``module`` only lends its structure. Raises ValueError where it has buffers or dropout: they would not be the
    members' own.
    """

    def __init_subclass__(cls, **kwargs) -> None:
        super().__init_subclass__(**kwargs)
        TWINS[cls] = ReparametrisedTwin

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        if any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in module.modules()):
            raise ValueError("dropout in a reparametrised network: not supported")
        buffers = [name for name, _ in module.named_buffers()]
        if buffers:
            raise ValueError(f"buffer {buffers[0]!r} in a reparametrised network: buffers are not supported")
        self.__dict__["module"] = module  # not a child: its own parameters are placeholders

    @abstractmethod
    def formula(self, own: Mapping[str, Tensor]) -> Tensor:
        """θ [..., P] from this module's parameters and buffers by name, which may carry leading member axes."""

    def forward(self, x: Tensor) -> Tensor:
        return run(self.module, self.formula(tensors(self)), x)


class ReparametrisedTwin(Twin):
    """M reparametrised networks, evaluated as the stack of their networks."""

    def __init__(self, layer: Reparametrised, members: int) -> None:
        super().__init__(layer, members)
        self.__dict__["inner"] = Stack(layer.module, {"member": range(members)}).net
        self.__dict__["formula"] = layer.formula

    def vectors(self) -> Tensor:
        """θ of each member, [M, P]."""
        return self.formula(tensors(self))

    def forward(self, x: Tensor) -> Tensor:
        return run(self.inner, self.vectors(), x)


def networks(nets: Stack) -> Stack:
    """The networks that a stack of reparametrised ones stands for, as a plain stack with the same axes."""
    plain = Stack(nets.template.module, nets.axes).to(nets.device, next(iter(nets.params.values())).dtype)
    with torch.no_grad():
        plain.load(split(nets.net.vectors(), {name: p.shape[1:] for name, p in plain.params.items()}))
    plain.net.eval()
    return plain


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name."""
    return dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))


def run(module: nn.Module, vectors: Tensor, x: Tensor) -> Tensor:
    """``module`` at the parameters ``vectors`` [P], or a stacked module at [M, P]."""
    leading = vectors.dim() - 1
    return functional_call(module, split(vectors, {n: p.shape[leading:] for n, p in module.named_parameters()}), (x,))
