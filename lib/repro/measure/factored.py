"""Inner products of per-example gradients without the gradients, for networks made of linear layers.

The gradient of one example's loss in the weights of a linear layer z = W a + b is the outer product delta a^T of the
error delta = dL/dz and the input a, and delta itself in b. So (Goodfellow 2015, arXiv 1510.01799, for the norms)

    g_i . g_j = sum over layers (a_i . a_j + 1) (delta_i . delta_j),

which needs one forward and one backward pass for all examples and memory O(N (units) + N^2), never N x P.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from repro.measure.gradients import Gram, Loss, Tensors, member


class Factors(NamedTuple):
    """One linear layer's inputs ``a`` [N, in] and errors ``delta`` [N, out]; ``bias`` is 1 if it has one, else 0."""

    a: Tensor
    delta: Tensor
    bias: int


def gradient_factors(
    module: nn.Module, params: Tensors, buffers: Tensors, x: Tensor, y: Tensor, loss: Loss
) -> list[Factors]:
    """The factors of every example's gradient, a pair per linear layer, from one backward pass.

    ``loss(outputs, targets)`` receives one example as a batch of one. Raises ValueError where a parameter belongs to
    something else than ``nn.Linear``, or a linear layer is used more than once or on more than one axis of examples.
    """
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    others = set(params) - {f"{name}.{p}" if name else p for name in layers for p in ("weight", "bias")}
    if others:
        raise ValueError(f"parameter {sorted(others)[0]!r} is not a linear layer's: use repro.measure.gradients.gram")
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def note(name: str):
        def hook(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            if name in seen or output.dim() != 2:
                raise ValueError(
                    f"linear layer {name!r} is not applied once, to [N, features]: use repro.measure.gradients.gram"
                )
            seen[name] = (inputs[0].detach(), output)

        return hook

    handles = [layer.register_forward_hook(note(name)) for name, layer in layers.items()]
    was = module.training
    module.eval()
    try:
        with torch.enable_grad():
            given = {name: value.detach().requires_grad_() for name, value in params.items()}
            outputs = functional_call(module, (given, dict(buffers)), (x,))
            total = vmap(lambda o, t: loss(o.unsqueeze(0), t.unsqueeze(0)))(outputs, y).sum()
            deltas = torch.autograd.grad(total, [z for _, z in seen.values()])
    finally:
        module.train(was)
        for handle in handles:
            handle.remove()
    return [Factors(a, d, int(layers[n].bias is not None)) for (n, (a, _)), d in zip(seen.items(), deltas, strict=True)]


def factored_gram(
    module: nn.Module,
    params: Tensors,
    buffers: Tensors,
    first: tuple[Tensor, Tensor],
    second: tuple[Tensor, Tensor],
    loss: Loss,
) -> Gram:
    """Inner products between the gradients of two sets of examples ``(x, y)``: what ``gradients.gram`` gives, faster."""
    f, s = (gradient_factors(module, params, buffers, *data, loss) for data in (first, second))
    products = sum((one.a @ two.a.T + one.bias) * (one.delta @ two.delta.T) for one, two in zip(f, s, strict=True))
    norms = [
        sum((layer.a.square().sum(1) + layer.bias) * layer.delta.square().sum(1) for layer in factors).sqrt()
        for factors in (f, s)
    ]
    return Gram(products, *norms)


def stacked_factored_gram(
    module: nn.Module,
    params: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    first: tuple[Tensor, Tensor],
    second: tuple[Tensor, Tensor],
    loss: Loss,
) -> Gram:
    """:func:`factored_gram` for M networks: tensors, inputs and targets all carry a leading member axis.

    Returns products [M, N1, N2] and norms [M, N1], [M, N2].
    """
    grams = [
        factored_gram(module, member(params, m), member(buffers, m), *((x[m], y[m]) for x, y in (first, second)), loss)
        for m in range(len(first[0]))
    ]
    return Gram(*(torch.stack(part) for part in zip(*grams, strict=True)))
