"""The random model of a softmax classifier's curvature (Fort and Ganguli 2019), and its parts measured on networks.

Gradients of logits cluster, dz_k/dθ = c_k + noise with one mean vector a logit; logits are Gaussian; the outputs' own
curvature is left out. Then the Hessian is G = mean J' A J with A = diag(p) - pp'. All it knows of the logits is how far
the softmax has frozen, Y = E sum_k p_k^2: a random energy model of K levels at inverse temperature σ_z (Derrida 1981).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from repro.measure.logit_clusters import LogitClusters
from repro.measure.operators import Operator
from repro.rng import Streams


@dataclass(frozen=True)
class RandomLogits:
    """``classes`` K logits with gradients of squared length ``signal`` = |c_k|^2 = P σ_c^2 in their means, orthogonal
    to each other, and ``noise`` = P σ_E^2 around them, and values of standard deviation ``scale`` = σ_z.

    The three may be tensors [...] of one shape; predictions have it too.
    """

    classes: int
    signal: Tensor
    noise: Tensor
    scale: Tensor

    def trace(self) -> Tensor:
        """Tr G = (1 - Y) (|c|^2 + |noise|^2), [...]."""
        return self.mixed * (self.signal + self.noise)

    def outlier(self) -> Tensor:
        """The K - 1 equal outliers of G, |c|^2 (1 - Y) / (K - 1), [...]: what the means alone give."""
        return self.mixed * self.signal / (self.classes - 1)

    @cached_property
    def mixed(self) -> Tensor:
        """1 - Y, how far the softmax is from frozen, [...]."""
        return 1 - participation(self.scale, self.classes)


def draw_jacobian(streams: Streams, examples: int, classes: int, size: int, signal: float, noise: float) -> Tensor:
    """Logit gradients of the model on ``examples`` N: [M, N, K, P], a mean vector a logit plus noise, both isotropic
    with mean squared lengths ``signal`` and ``noise``. The examples share the means; ``size`` is P.
    """
    means = streams.normal(1, classes, size) * math.sqrt(signal / size)
    return means + streams.normal(examples, classes, size) * math.sqrt(noise / size)


def output_curvature(logits: Tensor) -> Tensor:
    """A = diag(p) - pp' of softmax cross-entropy at ``logits`` [..., K]: [..., K, K]."""
    p = logits.softmax(-1)
    return torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)


def gauss_newton_of(jacobian: Tensor, curvature: Tensor) -> Operator:
    """G = mean over examples of J' A J as an operator, for given logit gradients ``jacobian`` [M, N, K, P] and
    ``curvature`` A [M, N, K, K].
    """
    members, examples, _, size = jacobian.shape

    def product(v: Tensor) -> Tensor:
        pushed = jacobian.flatten(1, 2) @ v.mT  # [M, N K, k]
        pushed = curvature @ pushed.unflatten(1, jacobian.shape[1:3])
        return (jacobian.flatten(1, 2).mT @ pushed.flatten(1, 2)).mT / examples

    return Operator(product, members, size, jacobian.dtype, jacobian.device)


def gauss_newton_trace(jacobian: Tensor, curvature: Tensor) -> Tensor:
    """Tr G of :func:`gauss_newton_of`, exactly: [M]."""
    gram = jacobian @ jacobian.mT  # [M, N, K, K]
    return (gram * curvature).sum((-2, -1)).mean(1)


def cluster_eigenvalues(means: Tensor, curvature: Tensor) -> Tensor:
    """Eigenvalues of c' A c, G without the noise of the gradients, largest first: [..., K].

    ``means`` c [..., K, P], ``curvature`` the mean A [..., K, K]. One of them is 0, as A 1 = 0; orthogonal means of one
    length and exchangeable logits give |c|^2 (1 - Y) / (K - 1) for all the others. NaN where an input is not finite.
    """
    gram = means @ means.mT
    finite = (gram.isfinite() & curvature.isfinite()).flatten(-2).all(-1)[..., None]
    values, vectors = torch.linalg.eigh(torch.where(finite[..., None], curvature, 0.0))
    half = vectors * values.clamp(min=0).sqrt().unsqueeze(-2)  # A = half half'
    found = torch.linalg.eigvalsh(half.mT @ torch.where(finite[..., None], gram, 0.0) @ half).flip(-1).clamp(min=0)
    return torch.where(finite, found, torch.nan)


def factored_trace(clusters: LogitClusters, curvature: Tensor) -> Tensor:
    """Tr G if gradients and probabilities were independent: sum_k A_kk |J_k|^2 + sum_(k≠l) A_kl c_k.c_l with the mean
    ``curvature`` A [M, K, K] and |J_k|^2 = signal + noise: [M].
    """
    gram = clusters.means @ clusters.means.mT
    gram = gram - torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1) - clusters.signal - clusters.noise)
    return (gram * curvature).sum((-2, -1))


def logit_scale(logits: Tensor) -> Tensor:
    """σ_z: root of the mean over examples of the variance over logits [..., N, K]: [...]. What all logits of an example
    share, which softmax does not see, is left out.
    """
    return logits.var(-1).mean(-1).sqrt()


def participation(scale: Tensor, classes: int) -> Tensor:
    """The freezing curve Y = E sum_k p_k^2 of p = softmax(σ z), z standard normal, at σ = ``scale`` [...]: [...].

    1/K at 0, towards 1 as the largest logit takes all; for many logits the two regimes meet at σ = sqrt(2 ln K). With
    S = sum_k e^(σ z_k) and 1/S^2 = ∫ t e^(-tS) dt it is the single integral K ∫ E[w^2 e^-w] (E e^-w)^(K-1) du with
    w = e^(u + σ z). Trapezoidal rule, right to 1e-6. Raises ValueError for fewer than 2 classes or a negative scale.
    """
    if classes < 2 or bool((scale < 0).any()):
        raise ValueError(f"classes = {classes}, least scale = {float(scale.min()):g}: need at least 2 and at least 0")
    distinct, place = scale.unique(return_inverse=True)
    values = [_participation(float(sigma), classes) for sigma in distinct]
    return torch.tensor(values, dtype=scale.dtype, device=scale.device)[place]


def _participation(sigma: float, classes: int) -> float:
    if not math.isfinite(sigma):
        return math.nan
    # steps well below 1 in log w, where w^2 e^-w is smooth on the scale 1
    z = torch.linspace(-8, 8, max(161, round(32 * sigma)), dtype=torch.float64)
    u = torch.linspace(-8 * sigma - 18, 8 * sigma + 5, round(4 * (16 * sigma + 23)), dtype=torch.float64)
    density = torch.exp(-0.5 * z.square())
    w = torch.exp((u[:, None] + sigma * z).clamp(max=6))  # [u, z]; e^-w is nothing from there on
    decay = torch.exp(-w)
    one = (w.square() * decay) @ (density / density.sum())
    others = decay @ (density / density.sum())
    return float(classes * torch.trapezoid(one * others ** (classes - 1), u))
