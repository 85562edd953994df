"""Training confined to an affine plane through given networks (Li et al. 2018; Fort and Scherlis 2019).

Used as::

    basis = random_basis(Streams(nets.labels("seed"), "plane"), 60, nets.flat().shape[1])
    run = fit(on_plane(nets, basis), x, y, steps=200, optimizer="adam", lr=...)
    trained = networks(run.final)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from repro.train.reparametrise import Reparametrised, networks
from repro.train.stack import Stack

__all__ = ["Plane", "networks", "on_plane"]


class Plane(Reparametrised):
    """θ = origin + a V with trainable coordinates ``a`` [d]; with ``sphere`` scaled back to the origin's norm."""

    def __init__(self, module: nn.Module, origin: Tensor, basis: Tensor, sphere: bool = False) -> None:
        super().__init__(module)
        self.sphere = sphere
        self.coordinates = nn.Parameter(torch.zeros(basis.shape[0], dtype=origin.dtype))
        self.register_buffer("origin", origin)
        self.register_buffer("basis", basis)

    def formula(self, own: Mapping[str, Tensor]) -> Tensor:
        origin = own["origin"]
        theta = origin + (own["coordinates"].unsqueeze(-2) @ own["basis"]).squeeze(-2)
        if self.sphere:
            theta = theta * origin.norm(dim=-1, keepdim=True) / theta.norm(dim=-1, keepdim=True)
        return theta


def on_plane(nets: Stack, basis: Tensor, sphere: bool = False) -> Stack:
    """The members of ``nets``, free to move only along the rows of ``basis`` [M, d, P]; a stack with the same axes.

    Its one parameter is ``coordinates`` [M, d], zero at ``nets``. A coordinate is a distance in parameter space if the
    basis is orthonormal, so step sizes that suit all of space scale with |θ| / sqrt d. ``sphere`` keeps |θ|.
    Raises ValueError where the basis does not fit, or the networks have buffers or dropout.
    """
    origin = nets.flat()
    if basis.dim() != 3 or basis.shape[::2] != origin.shape:
        raise ValueError(f"basis {tuple(basis.shape)}: expected [{origin.shape[0]}, d, {origin.shape[1]}]")
    basis = basis.to(origin)
    planes = Stack(Plane(nets.template, origin[0], basis[0], sphere), nets.axes).to(nets.device, origin.dtype)
    planes.load({"origin": origin, "basis": basis})
    return planes
