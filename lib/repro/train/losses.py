"""Losses of a stack of networks: outputs [M, B, ...] and targets [M, B, ...] to one loss a member, [M]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean softmax cross-entropy of each member, in nats: logits [M, B, C], labels [M, B] -> [M]."""
    # classes on the second axis: the memory order of stacked linear layers, along which softmax is vectorised
    return F.cross_entropy(outputs.mT, targets, reduction="none").mean(1)


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
