"""Stacked layers against the plain ones they are twins of, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from repro.train import Stack


def three(make, seed: int = 0) -> list[nn.Module]:
    """Three layers whose parameters are all random."""
    generator = torch.Generator().manual_seed(seed)
    layers = [make().double() for _ in range(3)]
    for p in (p for layer in layers for p in layer.parameters()):
        p.data.normal_(generator=generator)
    return layers


def derivatives(outputs: Tensor, x: Tensor, params: list[Tensor], towards: Tensor) -> list[Tensor]:
    """Gradients of the outputs' product with ``towards``, and of the squared length of these gradients."""
    first = torch.autograd.grad((outputs * towards).sum(), [x, *params], create_graph=True)
    return [*first, *torch.autograd.grad(sum(g.square().sum() for g in first), [x, *params], allow_unused=True)]


@pytest.mark.parametrize(
    "make", [lambda: nn.LayerNorm(7), lambda: nn.LayerNorm(7, bias=False), lambda: nn.LayerNorm(7, 1e-2)]
)
def test_layer_norm_has_the_plain_layers_values_and_its_first_and_second_derivatives(make):
    plain = three(make)
    nets = Stack.of(plain).to(dtype=torch.float64)
    x, towards = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x.requires_grad_()
    stacked = derivatives(nets(x), x, list(nets.net.parameters()), towards)
    for m, layer in enumerate(plain):
        torch.testing.assert_close(nets(x)[m], layer(x[m]), rtol=0, atol=1e-12)
        own = x[m].detach().requires_grad_()
        alone = derivatives(layer(own), own, list(layer.parameters()), towards[m])
        for found, expected in zip(stacked, alone, strict=True):
            if expected is None:  # the last gradient does not depend on the shift
                assert found is None or not found[m].any()
            else:
                torch.testing.assert_close(found[m], expected, rtol=1e-10, atol=1e-10)
