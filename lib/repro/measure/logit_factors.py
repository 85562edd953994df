"""Gradients of every logit on every example in all members of a stack at once, held as layers' inputs and errors.

One forward pass and one backward pass a logit serve the whole stack. With a layer's input a and its errors
delta_k = dz_k / d(output), the gradient of logit k is delta_k a^T in the weights and delta_k in the bias, so that means,
lengths and inner products follow without any gradient being formed (as in :mod:`repro.measure.layer_gradients`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call

from repro.measure.factored import uses
from repro.measure.gradients import eval_mode

if TYPE_CHECKING:
    from repro.train import Stack

HELD = 2**24  # numbers held at once, 64 MiB in float32


class LogitFactors(NamedTuple):
    """One layer's inputs ``a`` [M, N, in] and errors ``delta`` [M, K, N, out]; ``bias`` is 1 if it has one, else 0."""

    a: Tensor
    delta: Tensor
    bias: int

    def total(self) -> Tensor:
        """The sum of the gradients over examples, in the order weight, bias: [M, K, p]."""
        weight = (self.delta.mT @ self.a.unsqueeze(1)).flatten(2)
        return torch.cat([weight, self.delta.sum(2)], 2) if self.bias else weight

    def squares(self) -> Tensor:
        """Squared lengths, [M, K, N]."""
        return (self.a.square().sum(2) + self.bias).unsqueeze(1) * self.delta.square().sum(3)

    def within(self) -> Tensor:
        """Inner products of the logits' gradients on one example, [M, N, K, K]."""
        delta = self.delta.transpose(1, 2)
        return (self.a.square().sum(2) + self.bias)[:, :, None, None] * (delta @ delta.mT)

    def add_products(self, out: Tensor) -> None:
        """Add the inner products of every two (example, logit) pairs, the logit fastest, to ``out`` [M, N K, N K]."""
        n, k = self.a.shape[1], self.delta.shape[1]
        for total, a, delta in zip(out, self.a, self.delta.transpose(1, 2).flatten(1, 2), strict=True):
            inputs = (a @ a.T).add_(self.bias)[:, None, :, None]
            total.view(n, k, n, k).addcmul_(inputs, (delta @ delta.T).view(n, k, n, k))


def logit_factors(nets: Stack, x: Tensor, classes: int) -> list[LogitFactors] | None:
    """The layers' factors on ``x`` [M, N, ...], in the order of ``nets.flat()`` and in evaluation mode.

    None where a parameter belongs to something else than an ``nn.Linear`` that runs once, on inputs
    [M, N, in], and is not used otherwise.
    """
    layers = {name: layer for name, layer in nets.template.named_modules() if type(layer) is nn.Linear}
    names = list(nets.params)
    stacked = dict(nets.net.named_modules())
    if {name.rpartition(".")[0] for name in names} != {*layers} or not {*layers} <= {*stacked}:
        return None
    seen: dict[str, list[tuple[Tensor, GradientEdge]]] = {name: [] for name in layers}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda module, inputs, output: seen[name].append((inputs[0].detach(), get_gradient_edge(output)))

    handles = [stacked[name].register_forward_hook(note(name)) for name in layers]
    try:
        with torch.enable_grad(), eval_mode(nets.net):
            leaves = {name: p.detach().requires_grad_() for name, p in nets.net.named_parameters()}
            outputs = functional_call(nets.net, leaves, (x,))
    finally:
        for handle in handles:
            handle.remove()
    used = uses(outputs)
    once = all(len(runs) == 1 and runs[0][0].dim() == 3 for runs in seen.values())
    if not once or any(used[id(leaf)] != 1 for leaf in leaves.values()):
        return None
    order = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    inputs, edges = zip(*(seen[name][0] for name in order), strict=True)
    errors = [torch.autograd.grad(outputs[..., k].sum(), edges, retain_graph=True) for k in range(classes)]
    return [LogitFactors(a, torch.stack(delta, 1), int(layers[name].bias is not None))
            for name, a, delta in zip(order, inputs, zip(*errors, strict=True), strict=True)]  # fmt: skip


def examples_at_once(nets: Stack, classes: int) -> int:
    """For how many examples the errors of all logits and layers fit ``HELD``; at least 1."""
    units = sum(layer.out_features for layer in nets.template.modules() if type(layer) is nn.Linear)
    return max(1, HELD // max(1, nets.members * classes * units))
