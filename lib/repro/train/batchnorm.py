"""Batch-norm statistics of a trained stack, taken from the whole training set."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from repro.train.layers import BatchNorm
from repro.train.stack import Stack


@torch.no_grad()
def refresh_batchnorm(nets: Stack, x: Tensor, each: bool = False, batch: int = 4096) -> None:
    """Set the running mean and variance of every batch-norm layer of ``nets`` to those of the training inputs ``x``.

    The running averages of training lag behind the weights, by 1/momentum updates in every layer; after few updates a
    deep network in evaluation mode is then far from the one that was trained. Here every layer sees the set with the
    layers before it normalised by batch statistics, as in training, and all else (dropout) in evaluation mode. Up to
    ``batch`` examples the statistics are the set's own (variance with n - 1); beyond, the average over batches. Changes
    ``nets`` in place; a stack without batch norm stays as it is.

    Args:
        x: inputs [N, ...] shared by the members, or [M, N, ...] with ``each``.
    Raises:
        ValueError: fewer than two inputs or ``batch`` below 2, or batch norm inside a module that runs under ``vmap``.
    """
    dim = 1 if each else 0
    if min(batch, x.shape[dim]) < 2:
        raise ValueError(f"batch = {batch}, inputs = {x.shape[dim]}: a variance needs at least 2 of both")
    layers = [module for module in nets.net.modules() if isinstance(module, BatchNorm) and module.track]
    if not layers and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in nets.template.modules()):
        raise ValueError("batch norm needs a stackable module (see repro.train.layers)")
    if not layers:
        return
    was, momenta = nets.net.training, [layer.momentum for layer in layers]
    nets.net.eval()
    for layer in layers:
        layer.train()
        layer.momentum = None  # the cumulative average
        layer.num_batches_tracked.zero_()
    # equal parts: a last, smaller one would weigh as much as the others
    for part in x.tensor_split(-(-x.shape[dim] // batch), dim=dim):
        (nets if each else nets.shared)(part)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    nets.net.train(was)
