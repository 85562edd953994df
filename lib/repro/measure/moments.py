"""How mean and variance of activations travel through a layer: SELU's map in closed form, and measured moments.

Klambauer et al. (2017, arXiv 1706.02515), eqs. 4-5: a unit sums inputs of mean mu and variance nu with weights of sum
omega and sum of squares tau, so that its pre-activation is N(m, v) with m = mu omega and v = nu tau.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.special import erfcx

ALPHA = 1.6732632423543772
LAMBDA = 1.0507009873554805


def selu_map(mu: Tensor, nu: Tensor, omega: Tensor | float = 0.0, tau: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """Mean and variance (mu~, nu~) of a SELU unit's activation from those of its inputs; arguments broadcast, nu and
    tau positive.

    Accurate in float64 for variances from 1e-6 to 1e6.
    """
    m, v = torch.broadcast_tensors(torch.as_tensor(mu * omega), torch.as_tensor(nu * tau))
    s = v.sqrt()
    above = torch.special.ndtr(m / s)  # P(x > 0)
    density = torch.exp(-(m**2) / (2 * v)) / math.sqrt(2 * math.pi)
    below = torch.special.ndtr(-m / s)
    once, twice = _exponential_part(m, v, 1), _exponential_part(m, v, 2)
    mean = LAMBDA * (m * above + s * density + ALPHA * (once - below))
    second = LAMBDA**2 * ((m**2 + v) * above + m * s * density + ALPHA**2 * (twice - 2 * once + below))
    return mean, second - mean**2


def selu_jacobian(mu: float = 0.0, nu: float = 1.0, omega: float = 0.0, tau: float = 1.0) -> Tensor:
    """Jacobian of ``selu_map`` with respect to (mu, nu) [2, 2]; rows are mu~ and nu~."""

    def g(point: Tensor) -> Tensor:
        return torch.stack(selu_map(point[0], point[1], omega, tau))

    return torch.autograd.functional.jacobian(g, torch.tensor([mu, nu], dtype=torch.float64))


def moments(activations: Tensor) -> Tensor:
    """Mean and population variance over inputs and units of activations [..., B, H]: [..., 2]."""
    activations = activations.to(torch.float64)
    mean = activations.mean((-2, -1), keepdim=True)
    variance = (activations - mean).square_().mean((-2, -1))  # two passes: several times as fast as torch.var_mean
    return torch.stack([mean[..., 0, 0], variance], -1)


def _exponential_part(m: Tensor, v: Tensor, k: int) -> Tensor:
    """E[exp(k x); x < 0] for x ~ N(m, v): exp(k m + k^2 v / 2) Phi(-(m + k v) / s).

    For z = (m + k v) / s > 0 the factors overflow and underflow against each other; exp(-m^2 / 2v) erfcx(z / sqrt 2) /
    2 is the same number. For z <= 0 it is erfcx that overflows, and the direct form is safe.
    """
    z = (m + k * v) / v.sqrt()
    scaled = torch.exp(-(m**2) / (2 * v)) * erfcx(z.clamp(min=0) / math.sqrt(2)) / 2
    # The inner `where` keeps the branch that is not taken finite, so that no 0 x inf reaches the gradient.
    safe = torch.where(z > 0, torch.zeros_like(m), k * m + k**2 * v / 2)
    return torch.where(z > 0, scaled, torch.exp(safe) * torch.special.ndtr(-z))
