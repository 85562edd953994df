"""Training confined to an affine plane through given networks (Li et al. 2018; Fort and Scherlis 2019).

Used as::

    basis = random_basis(Streams(nets.labels("seed"), "plane"), 60, nets.flat().shape[1])
    run = fit(on_plane(nets, basis), x, y, steps=200, optimizer="adam", lr=...)
    trained = networks(run.final)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.train.batches import Along, pick
from repro.train.reparametrise import Reparametrised, networks
from repro.train.stack import Stack

__all__ = ["Plane", "networks", "on_plane"]


class Plane(Reparametrised):
    """θ = origin + scale a V with trainable coordinates ``a`` [d]; with ``sphere`` scaled back to the origin's norm.

    V is number ``row`` of ``bases`` [B, d, P], which all members of a stack share.
    """

    def __init__(self, module: nn.Module, origin: Tensor, bases: Tensor, sphere: bool = False) -> None:
        super().__init__(module)
        self.sphere, self.bases = sphere, bases
        self.coordinates = nn.Parameter(torch.zeros(bases.shape[1], dtype=origin.dtype))
        self.register_buffer("origin", origin)
        self.register_buffer("scale", torch.ones((), dtype=origin.dtype))
        self.register_buffer("row", torch.tensor(0))

    def formula(self, own: Mapping[str, Tensor]) -> Tensor:
        origin = own["origin"]
        theta = origin + own["scale"].unsqueeze(-1) * self._combined(own["coordinates"], own["row"])
        if self.sphere:
            theta = theta * origin.norm(dim=-1, keepdim=True) / theta.norm(dim=-1, keepdim=True)
        return theta

    def _combined(self, a: Tensor, rows: Tensor) -> Tensor:
        """a V for [d] or [M, d]; each basis is read once for all members on its plane."""
        if a.dim() == 1:
            return a @ self.bases.to(a).index_select(0, rows[None])[0]
        used, rows = rows.unique(return_inverse=True)  # a chunk of members may use a part of them
        bases = pick(self.bases, used.cpu()).to(a)
        earlier = F.one_hot(rows, len(bases)).cumsum(0).gather(1, rows[:, None])[:, 0] - 1  # members of the same plane
        most = int(earlier.max()) + 1
        place = rows * most + earlier
        lined_up = a.new_zeros(len(bases) * most, a.shape[1]).index_copy(0, place, a)
        return (lined_up.unflatten(0, (-1, most)) @ bases).flatten(0, 1).index_select(0, place)


def on_plane(nets: Stack, basis: Tensor | Along, sphere: bool = False, scale: Tensor | float = 1.0) -> Stack:
    """The members of ``nets``, free to move only along the rows of ``basis`` [M, d, P]; a stack with the same axes.

    Its one parameter is ``coordinates`` [M, d], zero at ``nets``. A coordinate is a distance in parameter space if the
    basis is orthonormal, so step sizes that suit all of space grow with |θ| / sqrt d: ``scale`` [M] (or a number) is
    the length of a unit of the coordinates. Members that share planes take ``along("seed", basis)``, held and read
    once. ``sphere`` keeps |θ|.
    Raises ValueError where the basis does not fit, or the networks have buffers or dropout.
    """
    origin = nets.flat()
    bases = (basis.flat() if isinstance(basis, Along) else basis).to(origin)
    rows = basis.rows(nets) if isinstance(basis, Along) else torch.arange(len(bases))
    if bases.dim() != 3 or (len(rows), bases.shape[2]) != origin.shape:
        raise ValueError(f"basis {tuple(bases.shape)}: expected [{origin.shape[0]}, d, {origin.shape[1]}]")
    planes = Stack(Plane(nets.template, origin[0], bases, sphere), nets.axes).to(nets.device, origin.dtype)
    scales = torch.as_tensor(scale, device=origin.device).to(origin).expand(len(origin))
    planes.load({"origin": origin, "row": rows.to(origin.device), "scale": scales})
    return planes
