"""Loss, gradient and dense Hessian of small networks at once, from the curvature in their pre-activations.

A change of the weights of layer m moves its pre-activation z_m = W_m a_m by dW_m a_m, example by example. With errors
delta_l = dL/dz_l and inputs a_l (a 1 appended for the bias) the Hessian of one example's loss is (Bishop 1992)

    d2L / dW_l,ij dW_m,pq = S_li,mp a_lj a_mq + delta_li T_lj,mp a_mq + delta_mp T_mq,li a_lj,

S_li,mp = d2L / dz_li dz_mp and T_lj,mp = da_lj / dz_mp. They take one backward pass a *unit* for all examples, where
Hessian-vector products take one a *weight*: less than half the time for 30 weights, and less still for wider layers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from repro.measure.curvature import Loss, hessian, loss_and_gradient, spread
from repro.train.batches import Along
from repro.train.layers import Linear
from repro.train.stack import Stack


class Derivatives(NamedTuple):
    """Of each member's loss: ``loss`` [M], ``gradient`` [M, P], ``hessian`` [M, P, P], in the order of ``nets.flat()``."""

    loss: Tensor
    gradient: Tensor
    hessian: Tensor


class Pass(NamedTuple):
    """One forward pass: in the order of execution the layers, their inputs a [M, N, in] and the zeros [M, N, out] that
    were added to their outputs, in which one differentiates; and the members' ``losses`` [M].
    """

    layers: list[Linear]
    inputs: list[Tensor]
    shifts: list[Tensor]
    losses: Tensor


def second_derivatives(
    nets: Stack, loss: Loss, x: Tensor | Along, y: Tensor | Along, *, l2: float = 0.0
) -> Derivatives:
    """The members' mean losses over (x, y) with their first and second derivatives, in evaluation mode.

    Networks whose parameters all sit in linear layers, each run once on inputs [M, N, in], take the short way above;
    any other goes through :func:`repro.measure.curvature.hessian`, whose arguments these are. ``loss`` must be a mean
    over examples.
    """
    nets = nets.copy()
    for p in nets.net.parameters():
        p.requires_grad_(False)
    once = _forward(nets, loss, spread(nets, x), spread(nets, y))
    if once is None:
        found = *loss_and_gradient(nets, loss, x, y, l2=l2), hessian(nets, loss, x, y, l2=l2).dense()
        return Derivatives(*found)
    point = nets.flat()
    errors = torch.autograd.grad(once.losses.sum(), once.shifts, create_graph=True)
    inputs = [_with_one(a.detach()) if layer.bias is not None else a.detach()
              for layer, a in zip(once.layers, once.inputs, strict=True)]  # fmt: skip
    gradient = torch.cat([(e.detach().mT @ a).flatten(1) for e, a in zip(errors, inputs, strict=True)], 1)
    order = _order(nets, once.layers, inputs).to(nets.device)
    full = _assemble(once, errors, inputs)[:, order][:, :, order]
    full.diagonal(dim1=1, dim2=2).add_(l2)
    losses = once.losses.detach() + 0.5 * l2 * point.square().sum(1)
    return Derivatives(losses, gradient[:, order] + l2 * point, full)


def _forward(nets: Stack, loss: Loss, x: Tensor, y: Tensor) -> Pass | None:
    """The pass, or None for networks that are not made of linear layers alone."""
    layers = [m for m in nets.net.modules() if isinstance(m, Linear)]
    if sum(p.numel() for m in layers for p in m.parameters()) != sum(p.numel() for p in nets.net.parameters()):
        return None
    once = Pass([], [], [], x)

    def shift(module: Linear, args: tuple[Tensor], out: Tensor) -> Tensor:
        zeros = torch.zeros_like(out).requires_grad_()
        for kept, value in zip(once, (module, args[0], zeros), strict=False):
            kept.append(value)
        return out + zeros

    hooks = [layer.register_forward_hook(shift) for layer in layers]
    nets.net.eval()
    with torch.enable_grad():
        losses = loss(nets.net(x), y)
    for hook in hooks:
        hook.remove()
    if len(once.layers) != len(layers) or {*once.layers} != {*layers} or any(a.dim() != 3 for a in once.inputs):
        return None
    return once._replace(losses=losses)


def _assemble(once: Pass, errors: tuple[Tensor, ...], inputs: list[Tensor]) -> Tensor:
    """The Hessian [M, P, P], layers in order of execution, weights [out, in + 1] of a layer row by row."""
    rows = [[torch.empty(0)] * len(errors) for _ in errors]
    for k, (error, a) in enumerate(zip(errors, inputs, strict=True)):
        bends = _jacobians(error, once.shifts[: k + 1])  # S
        slopes = _jacobians(once.inputs[k], once.shifts[:k])  # T
        for m, before in enumerate(inputs[: k + 1]):
            block = _contract(bends[m], _products(a, before)).transpose(2, 3)  # [M, out_k, in_k, out_m, in_m]
            if m < k:
                width = once.inputs[k].shape[2]
                block = block.contiguous()
                block[:, :, :width] += _contract(slopes[m], _products(error.detach(), before)).movedim(3, 1)
            rows[k][m] = block.flatten(3).flatten(1, 2)
            rows[m][k] = rows[k][m].mT
    return torch.cat([torch.cat(row, 2) for row in rows], 1)


def _jacobians(values: Tensor, shifts: list[Tensor]) -> list[Tensor]:
    """d values [M, N, k] / d shifts [M, N, out], example by example: for each of the shifts [M, k, out, N]."""
    if not shifts or not values.requires_grad:
        return [values.new_zeros(len(s), values.shape[2], s.shape[2], s.shape[1]) for s in shifts]
    ones = torch.eye(values.shape[2], dtype=values.dtype, device=values.device)
    found = [
        torch.autograd.grad(values, shifts, one.expand_as(values), retain_graph=True, materialize_grads=True)
        for one in ones
    ]
    return [torch.stack([g.mT for g in each], 1) for each in zip(*found, strict=True)]


def _products(a: Tensor, b: Tensor) -> Tensor:
    """a_nj b_nq for a [M, N, j], b [M, N, q]: [M, N, j, q]."""
    return a[..., :, None] * b[..., None, :]


def _contract(first: Tensor, second: Tensor) -> Tensor:
    """Sum over examples of [M, i, p, N] and [M, N, j, q]: [M, i, p, j, q]."""
    shape = *first.shape[:3], *second.shape[2:]
    return (first.flatten(1, 2) @ second.flatten(2)).view(shape)


def _with_one(a: Tensor) -> Tensor:
    return torch.cat([a, a.new_ones(*a.shape[:2], 1)], 2)


def _order(nets: Stack, layers: list[Linear], inputs: list[Tensor]) -> Tensor:
    """Where each entry of ``nets.flat()`` stands among the weights and biases of the layers as executed."""
    places, start = {}, 0
    for layer, a in zip(layers, inputs, strict=True):
        size = layer.weight.shape[1:]
        own = start + torch.arange(size[0] * a.shape[2]).view(size[0], a.shape[2])
        places[layer.weight] = own[:, : size[1]].flatten()
        if layer.bias is not None:
            places[layer.bias] = own[:, size[1]]
        start += own.numel()
    return torch.cat([places[p] for p in nets.net.parameters()])
