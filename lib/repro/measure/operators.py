"""Symmetric linear maps on the parameter spaces of M networks, known only by their products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from repro.rng import Streams


@dataclass(frozen=True)
class Operator:
    """One symmetric P x P matrix a member. ``op(v)`` multiplies vectors [M, P], or k of them at once [M, k, P].

    ``product`` does the work on [M, k, P]. Operators of one size add, subtract and scale: ``H - G``, ``0.5 * H``.
    """

    product: Callable[[Tensor], Tensor]
    members: int
    size: int
    dtype: torch.dtype
    device: torch.device

    def __call__(self, v: Tensor) -> Tensor:
        if v.dim() not in (2, 3) or v.shape[0] != self.members or v.shape[-1] != self.size:
            raise ValueError(
                f"vectors {tuple(v.shape)}: this operator takes [{self.members}, {self.size}]"
                f" or [{self.members}, k, {self.size}]"
            )
        return self.product(v) if v.dim() == 3 else self.product(v[:, None])[:, 0]

    def like(self, product: Callable[[Tensor], Tensor]) -> Operator:
        """Another operator on the same spaces."""
        return Operator(product, self.members, self.size, self.dtype, self.device)

    def __add__(self, other: Operator) -> Operator:
        return self.like(lambda v: self.product(v) + other.product(v))

    def __sub__(self, other: Operator) -> Operator:
        return self.like(lambda v: self.product(v) - other.product(v))

    def __rmul__(self, factor: float) -> Operator:
        return self.like(lambda v: factor * self.product(v))

    def dense(self) -> Tensor:
        """The matrices themselves, symmetrised: [M, P, P], by P products. For small networks."""
        eye = torch.eye(self.size, dtype=self.dtype, device=self.device)
        return _symmetric(self(eye.expand(self.members, -1, -1)))


def from_matrix(matrices: Tensor) -> Operator:
    """The operator of given symmetric matrices [M, P, P]."""
    return Operator(lambda v: v @ matrices, *matrices.shape[:2], matrices.dtype, matrices.device)


def random_basis(streams: Streams, dimension: int, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """An orthonormal basis of a random subspace for each member, uniform on the Grassmannian: [M, dimension, size].

    Members with one seed share it. Raises ValueError unless 1 <= dimension <= size.
    """
    if not 1 <= dimension <= size:
        raise ValueError(f"dimension = {dimension}: a space of {size} dimensions has subspaces of 1 to {size}")
    draws = streams.distinct().normal(dimension, size, dtype=dtype)
    return streams.spread(torch.linalg.qr(draws.mT)[0].mT.contiguous())


def restrict(op: Operator, basis: Tensor) -> Tensor:
    """The operator seen on a plane: V H V' for orthonormal ``basis`` V [M, d, P], by d products: [M, d, d]."""
    return _symmetric(op(basis) @ basis.mT)


def on_sphere(op: Operator, gradient: Tensor, point: Tensor) -> Operator:
    """The Riemannian Hessian on the sphere of radius |point| through ``point`` [M, P], as an operator on all of space.

    P (H - (g . n / r) I) P with n = point / r, the projector P = I - n n' and the Euclidean gradient g [M, P]: the
    second derivative along great circles. The radial direction n is an eigenvector of eigenvalue 0.
    """
    radius = point.norm(dim=1)[:, None, None]
    n = point[:, None] / radius
    slope = (gradient[:, None] * n).sum(2, keepdim=True) / radius

    def tangent(v: Tensor) -> Tensor:
        return v - (v * n).sum(2, keepdim=True) * n

    def product(v: Tensor) -> Tensor:
        v = tangent(v)
        return tangent(op(v) - slope * v)

    return op.like(product)


def _symmetric(matrices: Tensor) -> Tensor:
    return 0.5 * (matrices + matrices.mT)
