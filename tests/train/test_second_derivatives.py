"""Dense Hessians by layers against Hessian-vector products."""

import pytest
import torch
from torch import nn

from repro.measure.curvature import hessian, loss_and_gradient
from repro.train import Stack, along, cross_entropy, squared_error
from repro.train.second_derivatives import second_derivatives

F64 = torch.float64


class Backwards(nn.Module):
    """Executes its layers in another order than it lists them, one of them without a bias, with a skip."""

    stackable = True

    def __init__(self) -> None:
        super().__init__()
        self.last, self.act = nn.Linear(4, 2), nn.Tanh()
        self.middle, self.first = nn.Linear(4, 4, bias=False), nn.Linear(3, 4)

    def forward(self, x):
        h = self.act(self.first(x))
        return self.last(h + self.act(self.middle(h)))


class Twice(nn.Module):
    """One layer that is used twice."""

    stackable = True

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act = nn.Linear(3, 3), nn.Tanh()

    def forward(self, x):
        return self.layer(self.act(self.layer(x)))


NETWORKS = {
    "two layers": lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)),
    "three layers": lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.SiLU(), nn.Linear(2, 3)),
    "deep linear": lambda: nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 2, bias=False)),
    "softmax regression": lambda: nn.Linear(3, 3),
    "layers in another order": Backwards,
    "a layer used twice": Twice,
    "layer norm": lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
def test_derivatives_by_layers_are_those_by_hessian_vector_products(name, loss):
    torch.manual_seed(0)
    nets = Stack.of([NETWORKS[name]() for _ in range(3)], {"seed": range(3)}).to(dtype=F64)
    x, y = along("seed", torch.randn(3, 7, 3, dtype=F64)), torch.randint(2, (7,))
    if loss is squared_error:
        y = torch.randn(7, nets.shared(torch.zeros(1, 3, dtype=F64)).shape[-1], dtype=F64)
    found = second_derivatives(nets, loss, x, y, l2=0.1)
    value, gradient = loss_and_gradient(nets, loss, x, y, l2=0.1)
    torch.testing.assert_close(found.loss, value)
    torch.testing.assert_close(found.gradient, gradient)
    torch.testing.assert_close(found.hessian, hessian(nets, loss, x, y, l2=0.1).dense())


def test_the_networks_stay_as_they_are():
    nets = Stack.of([NETWORKS["two layers"]()], {"seed": [0]}).to(dtype=F64)
    before = nets.flat().clone()
    second_derivatives(nets, cross_entropy, torch.randn(5, 3, dtype=F64), torch.randint(3, (5,)))
    torch.testing.assert_close(nets.flat(), before)
    assert all(p.requires_grad for p in nets.net.parameters())
    assert not any(m._forward_hooks for m in nets.net.modules())
