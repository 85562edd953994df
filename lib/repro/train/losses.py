"""Losses of a stack of networks: outputs [M, B, ...] and targets [M, B, ...] to one loss a member, [M]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from repro.train.stack import Stack


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean softmax cross-entropy of each member, in nats: logits [M, B, C], labels [M, B] -> [M]."""
    # classes on the second axis: the memory order of stacked linear layers, along which softmax is vectorised
    return F.cross_entropy(outputs.mT, targets, reduction="none").mean(1)


def tempered_cross_entropy(outputs: Tensor, targets: Tensor, beta: float | Tensor) -> Tensor:
    """:func:`cross_entropy` of logits times the inverse temperature ``beta`` (a number, or [M]): -> [M]."""
    if isinstance(beta, Tensor):
        beta = beta.to(outputs).view(-1, 1, 1)
    return cross_entropy(beta * outputs, targets)


def weighted_cross_entropy(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean of w_y times the cross-entropy: logits [M, B, C], labels [M, B], ``weights`` [C] or [M, C] -> [M].

    Divided by the batch size, not by the weights in it: an example counts the same in every batch.
    """
    each = F.cross_entropy(outputs.mT, targets, reduction="none")
    return (weights.to(outputs).expand(len(outputs), -1).gather(1, targets) * each).mean(1)


def weighted_logistic(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean of w_y times the logistic loss: f [M, B] or [M, B, 1], y = ±1 [M, B], ``weights`` (of -1, of +1) [2] or
    [M, 2] -> [M].
    """
    weights = weights.to(outputs).expand(len(outputs), -1).gather(1, (targets > 0).long())
    return (weights * F.softplus(-targets * outputs.reshape(targets.shape))).mean(1)


def class_weights(ratio: float | Tensor) -> Tensor:
    """Weights of two classes, (first, second), with second / first = ``ratio`` (a number or [M]) and mean 1, so that the
    ratio does not scale the learning rate: [2] or [M, 2].
    """
    ratio = torch.as_tensor(ratio, dtype=torch.get_default_dtype())
    return 2 * torch.stack([torch.ones_like(ratio), ratio], -1) / (1 + ratio).unsqueeze(-1)


def l2_penalty(nets: Stack, strength: float | Tensor | Mapping[str, float]) -> Tensor:
    """½ λ |θ|^2 of each member, for objectives: [M]. Its gradient is that of SGD's ``weight_decay`` λ.

    ``strength`` λ: a number, [M], or by parameter name (others are not penalised). Raises ValueError for unknown names.
    """
    params = {name.replace("/", "."): p for name, p in nets.net.named_parameters()}
    if isinstance(strength, Mapping):
        unknown = [name for name in strength if name not in params]
        if unknown:
            raise ValueError(f"parameter {unknown[0]!r}: this network has {', '.join(params)}")
        return 0.5 * sum(value * params[name].square().flatten(1).sum(1) for name, value in strength.items())
    return 0.5 * strength * sum(p.square().flatten(1).sum(1) for p in params.values())


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the mean squared error of each member (summed over outputs): [M, B, K], [M, B, K] -> [M]."""
    return 0.5 * (outputs - targets).square().flatten(2).sum(2).mean(1)


def logistic(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean logistic loss log(1 + exp(-y f)) of each member: f [M, B] or [M, B, 1], y = ±1 [M, B] -> [M]."""
    return F.softplus(-targets * outputs.reshape(targets.shape)).mean(1)


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of examples whose largest logit is at the label: [M, B, C], [M, B] or [B] -> [M]. NaN logits count as wrong."""
    right = (outputs.argmax(-1) == targets) & outputs.isfinite().all(-1)
    return right.to(torch.get_default_dtype()).mean(1)
