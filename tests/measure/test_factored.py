"""Inner products from layer factors equal those of the gradients themselves."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repro.measure.factored import factored_gram, stacked_factored_gram
from repro.measure.gradients import gram, per_example_gradients
from repro.models import MLP
from repro.train import Stack

X, Y = torch.randn(9, 6, dtype=torch.float64), torch.randint(3, (9,))
X2, Y2 = torch.randn(7, 6, dtype=torch.float64), torch.randint(3, (7,))


def tensors(module):
    return dict(module.named_parameters()), dict(module.named_buffers())


@pytest.mark.parametrize("bias", [True, False])
def test_products_and_norms_equal_those_of_explicit_gradients(bias):
    module = MLP((6, 8, 5, 3), bias=bias).double()
    found = factored_gram(module, *tensors(module), (X, Y), (X2, Y2), F.cross_entropy)
    g1 = per_example_gradients(module, *tensors(module), X, Y, F.cross_entropy)
    g2 = per_example_gradients(module, *tensors(module), X2, Y2, F.cross_entropy)
    torch.testing.assert_close(found.products, g1 @ g2.T, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.norms1, g1.norm(dim=1), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.norms2, g2.norm(dim=1), rtol=1e-10, atol=1e-12)


def test_a_stack_is_its_members():
    modules = [MLP((6, 8, 3)).double() for _ in range(3)]
    nets = Stack.of(modules).to(dtype=torch.float64)
    x, x2 = torch.randn(3, 9, 6, dtype=torch.float64), torch.randn(3, 7, 6, dtype=torch.float64)
    found = stacked_factored_gram(
        nets.template, nets.params, nets.buffers, (x, Y.expand(3, 9)), (x2, Y2.expand(3, 7)), F.cross_entropy
    )
    for m, module in enumerate(modules):
        alone = gram(module, *tensors(module), (x[m], Y), (x2[m], Y2), F.cross_entropy)
        torch.testing.assert_close(found.products[m], alone.products, rtol=1e-10, atol=1e-12)


def test_networks_with_other_parameters_are_refused_by_name():
    module = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 3)).double()
    with pytest.raises(ValueError, match=r"parameter '1.bias' is not a linear layer's"):
        factored_gram(module, *tensors(module), (X, Y), (X2, Y2), F.cross_entropy)
    shared = nn.Linear(6, 6).double()
    module = nn.Sequential(shared, nn.ReLU(), shared)
    with pytest.raises(ValueError, match="is not applied once"):
        factored_gram(module, *tensors(module), (X, Y), (X2, Y2), F.cross_entropy)
