"""Spectral densities and traces of operators from random probes."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from repro.measure.lanczos import lanczos
from repro.measure.operators import Operator
from repro.rng import Streams


class SpectralDensity(NamedTuple):
    """A discrete measure on the eigenvalues: ``nodes`` [M, n] with ``weights`` [M, n] that sum to 1."""

    nodes: Tensor
    weights: Tensor

    def on(self, grid: Tensor, width: float | Tensor) -> Tensor:
        """The density on ``grid`` [G] smoothed by a Gaussian of standard deviation ``width`` (a number or [M]): [M, G]."""
        width = torch.as_tensor(width, dtype=self.nodes.dtype, device=self.nodes.device).reshape(-1, 1, 1)
        bumps = (-0.5 * ((grid[:, None] - self.nodes[:, None]) / width) ** 2).exp() / (width * math.sqrt(2 * math.pi))
        return (bumps @ self.weights[..., None])[..., 0]

    def share(self, low: float | Tensor, high: float | Tensor) -> Tensor:
        """Share of eigenvalues in [low, high] (numbers or [M]): [M]."""
        low, high = (torch.as_tensor(t, device=self.nodes.device).reshape(-1, 1) for t in (low, high))
        return (self.weights * ((self.nodes >= low) & (self.nodes <= high))).sum(1)

    def moment(self, power: int) -> Tensor:
        """Mean of λ^power, [M]; times P this estimates tr H^power."""
        return (self.weights * self.nodes**power).sum(1)


class Estimate(NamedTuple):
    """``mean`` [M] over probes and its standard ``error`` [M] (NaN for one probe)."""

    mean: Tensor
    error: Tensor


def slq(op: Operator, streams: Streams, probes: int = 4, steps: int = 80) -> SpectralDensity:
    """Stochastic Lanczos quadrature: each probe's Krylov space of ``steps`` products gives a Gauss rule for the spectral
    measure seen by that probe; their average estimates the density (Ubaru, Chen and Saad 2017).

    Members with equal seeds in ``streams`` get equal probes.
    """
    nodes, weights = [], []
    for probe in _probes(op, streams, probes).unbind(1):
        projected = lanczos(op, probe, steps).projected
        finite = projected.isfinite().flatten(1).all(1)
        values, vectors = torch.linalg.eigh(torch.where(finite[:, None, None], projected, 0.0))
        nodes.append(torch.where(finite[:, None], values, torch.nan))
        weights.append(vectors[:, 0].square() / probes)
    return SpectralDensity(torch.cat(nodes, 1), torch.cat(weights, 1))


def hutchinson(op: Operator, streams: Streams, probes: int = 100) -> Estimate:
    """tr H as the mean of v'Hv over random signs v (Hutchinson 1990)."""
    values = torch.stack([(v * op(v)).sum(1) for v in _probes(op, streams, probes).unbind(1)], 1)
    return _estimate(values)


def hutch_plus_plus(op: Operator, streams: Streams, products: int = 99) -> Estimate:
    """tr H from ``products`` products: a third finds the dominant range Q, a third gives tr(Q'HQ) exactly, the last
    estimates the rest (Meyer, Musco, Musco and Woodruff 2021). Raises ValueError below 3 products.
    """
    third = min(products // 3, op.size)
    if third < 1:
        raise ValueError(f"products = {products}: at least 3 are needed")
    v = _probes(op, streams, 2 * third)
    q = torch.linalg.qr(op(v[:, :third]).mT)[0].mT
    known = (q * op(q)).sum((1, 2))
    rest = v[:, third:] - (v[:, third:] @ q.mT) @ q
    estimate = _estimate((rest * op(rest)).sum(2))
    return Estimate(known + estimate.mean, estimate.error)


def frobenius_norm(op: Operator, streams: Streams, probes: int = 100) -> Tensor:
    """|H|_F as the root of the mean of |Hv|^2 over random signs v: [M]."""
    squares = [op(v).square().sum(2) for v in _probes(op, streams, probes).split(16, 1)]  # as many at once
    return torch.cat(squares, 1).mean(1).sqrt()


def _probes(op: Operator, streams: Streams, count: int) -> Tensor:
    """Random signs, [M, count, P]."""
    if count < 1:
        raise ValueError(f"probes = {count}: at least one is needed")
    return torch.where(streams.uniform(count, op.size) < 0.5, -1.0, 1.0).to(op.device, op.dtype)


def _estimate(values: Tensor) -> Estimate:
    return Estimate(values.mean(1), values.std(1) / math.sqrt(values.shape[1]))
