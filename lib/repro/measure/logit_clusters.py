"""The gradients of single logits: the Jacobian, its products on one example, and how it clusters by logit.

Clustering (Fort and Ganguli 2019): the gradient of logit k on an example is a mean c_k plus noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from repro.measure.curvature import spread
from repro.measure.gradients import eval_mode
from repro.measure.logit_factors import HELD, examples_at_once, logit_factors

if TYPE_CHECKING:
    from repro.train import Along, Stack


class LogitClusters(NamedTuple):
    """The model ∂z_k/∂θ = c_k + noise: sample ``means`` [M, K, P], |c_k|^2 without the noise's part ``signal`` [M, K],
    and E|noise|^2 ``noise`` [M, K]. Per parameter, σ_c^2 = signal / P and σ_E^2 = noise / P.
    """

    means: Tensor
    signal: Tensor
    noise: Tensor


def logit_jacobian(nets: Stack, x: Tensor | Along, chunk: int = 64) -> Tensor:
    """Gradient of every logit on every example of ``x``, shared or each member's own: [M, N, K, P]. For small networks."""
    return _jacobian(nets, spread(nets, x), chunk)


def logit_products(nets: Stack, x: Tensor | Along, classes: int) -> Tensor:
    """Inner products J J' of the gradients of the ``classes`` K logits on one example, for each: [M, N, K, K].

    With A = diag(p) - pp' the mean of tr A J J' is the trace of the Gauss-Newton matrix of cross-entropy, exactly.
    Networks of linear layers form no gradient.
    """

    def products(part: Tensor) -> Tensor:
        if (layers := logit_factors(nets, part, classes)) is not None:
            return sum(layer.within() for layer in layers)
        jacobian = _jacobian(nets, part)
        return jacobian @ jacobian.mT

    return torch.cat([products(part) for part in _parts(nets, x, classes)], 1)


def logit_clusters(nets: Stack, x: Tensor | Along, classes: int, chunk: int | None = None) -> LogitClusters:
    """Cluster means of the gradients of ``classes`` K logits over ``x`` and their unbiased signal and noise.

    ``x`` is shared or each member's own; ``chunk`` examples at once, by default as many as memory allows. Networks of
    linear layers form no gradient of an example.
    """
    parts = _parts(nets, x, classes, chunk)
    sums = [_sums(nets, part, classes) for part in parts]
    total, squares = (sum(each) for each in zip(*sums, strict=True))
    n = sum(part.shape[1] for part in parts)
    means = total / n
    noise = (squares / n - means.square().sum(2)) * n / (n - 1)
    return LogitClusters(means, means.square().sum(2) - noise / n, noise)


# -- how -----------------------------------------------------------------------------------------------------------


def _parts(nets: Stack, x: Tensor | Along, classes: int, chunk: int | None = None) -> tuple[Tensor, ...]:
    """Examples [M, B, ...] that are passed at once: as many as have factors, or else gradients, of ``HELD`` numbers."""
    whole = spread(nets, x)
    if chunk is None and logit_factors(nets, whole[:, :1], classes) is not None:
        chunk = examples_at_once(nets, classes)
    return whole.split(chunk or max(1, HELD // (classes * nets.flat().numel())), 1)


def _sums(nets: Stack, x: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Over examples, the sums of the logits' gradients [M, K, P] and of their squared lengths [M, K]."""
    layers = logit_factors(nets, x, classes)
    if layers is None:
        jacobian = _jacobian(nets, x)
        return jacobian.sum(1), jacobian.square().sum((1, 3))
    return torch.cat([layer.total() for layer in layers], 2), sum(layer.squares().sum(2) for layer in layers)


def _jacobian(nets: Stack, x: Tensor, chunk: int = 64) -> Tensor:
    """Of the logits on each member's own examples ``x`` [M, N, ...]: [M, N, K, P]."""

    def jacobian(params: dict[str, Tensor], buffers: dict[str, Tensor], own: Tensor) -> Tensor:
        def logits(p: dict[str, Tensor], one: Tensor) -> Tensor:
            return functional_call(nets.template, (p, buffers), (one[None],))[0]

        parts = [vmap(jacrev(logits), (None, 0))(params, part) for part in own.split(chunk)]
        return torch.cat([torch.cat([t.flatten(2) for t in part.values()], 2) for part in parts])

    with eval_mode(nets.template):
        return nets.each(jacobian, x)
