"""Closed forms that measurements are held against: models of learning that can be solved with pen and paper."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# -- softmax regression ----------------------------------------------------------------------------------------------


def softmax_regression_spectrum(x: Tensor, classes: int) -> Tensor:
    """Eigenvalues of the Hessian of bias-free softmax regression at zero weights, descending: [K d].

    All probabilities are 1/K, so H = (I/K - 11'/K^2) x (X'X/N): those of X'X/N over K, K - 1 times each, and d zeros.
    ``x`` [N, d]; labels play no part.
    """
    values = torch.linalg.eigvalsh(x.mT @ x / len(x)).clamp(min=0) / classes
    return torch.cat([values.repeat(classes - 1), torch.zeros_like(values)]).sort(descending=True).values


# -- deep linear networks --------------------------------------------------------------------------------------------


class CriticalPoint(NamedTuple):
    """A critical point of a two-layer linear network: the singular ``modes`` it has learned, its ``loss``, its
    ``index`` (number of negative eigenvalues of the Hessian).
    """

    modes: tuple[int, ...]
    loss: float
    index: int


def deep_linear_critical_points(strengths: Tensor, hidden: int) -> list[CriticalPoint]:
    """The critical points of 1/2 |B A - diag(s)|_F^2 with unused hidden units at rest, one for each set of at most
    ``hidden`` modes (Baldi and Hornik 1989).

    ``strengths`` s [n], positive and distinct, A [hidden, n], B [n, hidden]. The loss is half the sum of s_j^2 over
    modes j not learned. A hidden unit at rest can start each of them (one negative direction each), and a learned mode
    i can turn into j downhill if s_j > s_i: index = (hidden - r)(n - r) + #{i learned, j not: s_j > s_i}. A set whose
    index is 0 is a global minimum: every other critical point is a saddle.
    """
    s = [float(v) for v in strengths]
    if min(s) <= 0 or len(set(s)) < len(s):
        raise ValueError(f"strengths = {s}: all must be positive and distinct")
    points = []
    for r in range(min(hidden, len(s)) + 1):
        for modes in itertools.combinations(range(len(s)), r):
            rest = [j for j in range(len(s)) if j not in modes]
            turns = sum(s[j] > s[i] for i in modes for j in rest)
            loss = 0.5 * sum(s[j] ** 2 for j in rest)
            points.append(CriticalPoint(modes, loss, (hidden - r) * len(rest) + turns))
    return points


def deep_linear_weights(strengths: Tensor, hidden: int, modes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Balanced weights A [hidden, n], B [n, hidden] of the critical point that has learned ``modes``."""
    a = strengths.new_zeros(hidden, len(strengths))
    for unit, mode in enumerate(modes):
        a[unit, mode] = strengths[mode].sqrt()
    return a, a.T.clone()


def deep_linear_mode(t: Tensor, strength: float, start: float) -> Tensor:
    """Strength of one mode of a two-layer linear network at times ``t`` of gradient flow on 1/2 |B A - S|_F^2, from
    balanced weights of strength ``start`` (Saxe, McClelland and Ganguli 2014, eq. 7, time constant 1).
    """
    return strength / (1 + (strength / start - 1) * torch.exp(-2 * strength * t))


# -- unconstrained features ------------------------------------------------------------------------------------------


class FreeFeatures(NamedTuple):
    """Per class, each [K]: squared length of the ``head``'s row (W_M ... W_1)_k, squared length of the ``feature``
    mean h_k, and the ``output`` (W_M ... W_1 h_k)_k. Zeros where the class collapses.
    """

    head: Tensor
    feature: Tensor
    output: Tensor


def free_features(counts: Tensor, layers: int, weight_decay: float, feature_decay: float) -> FreeFeatures:
    """The global minimum of the unconstrained-features model with a bias-free deep linear head (Dang et al. 2023).

    Loss: 1/(2N) |W_M ... W_1 H - Y|^2 + λ_W/2 sum_m |W_m|^2 + λ_H/2 |H|^2, one-hot Y, ``counts`` [K] examples a
    class, N of them in all. Class k minimises 1/(x^M + 1) + (b/n_k) x with b = M N (N λ_W^M λ_H)^(1/M): x is the
    largest root of b/n_k = M x^(M-1) / (x^M + 1)^2 if b/n_k lies below :func:`collapse_threshold`, else 0; then
    |(W_M ... W_1)_k|^2 = N λ_H x^M.
    """
    if layers < 1 or weight_decay <= 0 or feature_decay <= 0:
        raise ValueError(
            f"layers = {layers}, weight_decay = {weight_decay}, feature_decay = {feature_decay}: all must be positive"
        )
    m, n = layers, float(counts.sum())
    b = m * n * (n * weight_decay**m * feature_decay) ** (1 / m)
    powers = torch.tensor([_length(b / float(c), m) ** m for c in counts], dtype=torch.float64)
    head = n * feature_decay * powers
    output = powers / (powers + 1)
    return FreeFeatures(head, head / (head + n * feature_decay) ** 2, output)


def collapse_threshold(layers: int) -> float:
    """The value of b/n_k from which a class collapses to zero: (M-1)^((M-1)/M) / M; 1 for M = 1, 0.5291 for M = 3."""
    m = layers
    return (m - 1) ** ((m - 1) / m) / m


def _length(ratio: float, m: int) -> float:
    """The largest root x of ratio = m x^(m-1) / (x^m + 1)^2, or 0 at or above the threshold."""
    from scipy.optimize import brentq

    if ratio >= collapse_threshold(m):
        return 0.0

    def excess(x: float) -> float:
        return m * x ** (m - 1) / (x**m + 1) ** 2 - ratio

    low = ((m - 1) / (m + 1)) ** (1 / m)  # where the left side is largest; beyond it falls
    high = low + 1.0
    while excess(high) > 0:
        high *= 2
    return brentq(excess, low, high, xtol=1e-14, rtol=1e-14)


# -- spherical spins -------------------------------------------------------------------------------------------------


class SphericalSpins:
    """The spherical 3-spin model E(σ) = N^-2 sum_ijk J_ijk σ_i σ_j σ_k on |σ|^2 = N (Crisanti and Sommers 1992).

    ``couplings`` J [N, N, N], independent standard normal; only their symmetric part matters. States σ are [B, N].
    """

    def __init__(self, couplings: Tensor) -> None:
        orders = itertools.permutations(range(3))
        self.j = sum(couplings.permute(order) for order in orders) / 6
        self.n = len(couplings)

    def energy(self, sigma: Tensor) -> Tensor:
        """Energy per spin [B]."""
        return (self._field(sigma) * sigma).sum(1) / self.n**2

    def gradient(self, sigma: Tensor) -> Tensor:
        """Euclidean gradient of N E, [B, N]."""
        return 3 * self._field(sigma) / self.n

    def hessian(self, sigma: Tensor) -> Tensor:
        """Euclidean Hessian of N E, [B, N, N]."""
        return 6 * torch.einsum("ijk,bk->bij", self.j, sigma) / self.n

    def _field(self, sigma: Tensor) -> Tensor:
        return torch.einsum("ijk,bj,bk->bi", self.j, sigma, sigma)


def threshold_energy(p: int = 3) -> float:
    """E_inf = 2 sqrt((p-1)/p): below minus this energy per spin, critical points are minima (Auffinger et al. 2013)."""
    return 2 * math.sqrt((p - 1) / p)


def spin_index(energy: Tensor, p: int = 3) -> Tensor:
    """Share of negative curvatures at a critical point of ``energy`` per spin, in the limit of many spins.

    The spectrum is a semicircle shifted by the energy (Bray and Dean 2007; Auffinger et al. 2013), hence
    1/2 + (x sqrt(1 - x^2) + arcsin x) / π with x = E / E_inf, clipped to [-1, 1].
    """
    x = (energy / threshold_energy(p)).clamp(-1, 1)
    return 0.5 + (x * (1 - x * x).sqrt() + x.arcsin()) / math.pi


# -- separable logistic regression -----------------------------------------------------------------------------------


def two_point_flow(t: Tensor, ratio: float = 1.0) -> Tensor:
    """Weights w [..., 2] of logistic regression under gradient flow from 0, at times ``t`` [...].

    A positive example at (1, 0) of weight ``ratio`` and a negative one at (0, -1) of weight 1: dw_1/dt = R σ(-w_1), so
    w_1 + exp(w_1) = 1 + R t, and likewise w_2 with R = 1. The max-margin direction is (1, 1); w_1 - w_2 tends to ln R,
    so the angle to it falls as ln R / (2 ln t).
    """
    from scipy.special import wrightomega

    times = t.detach().cpu().to(torch.float64).numpy()
    z = np.stack([1 + ratio * times, 1 + times], -1)
    return torch.from_numpy(np.log(wrightomega(z)))  # u = exp(w) solves u + ln u = z
