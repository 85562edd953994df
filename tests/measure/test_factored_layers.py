"""Convolutions and batch norms, whose per-example gradients follow from their inputs and errors."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repro.measure import factored, layer_gradients
from repro.measure.coherence import coherence, stack_gram
from repro.measure.factored import factored_gram, gradient_factors
from repro.measure.gradients import gram, per_example_gradients
from repro.models import ConvNet, PlainCNN, ResNet
from repro.train import Stack, cross_entropy

EXACT = {"rtol": 1e-10, "atol": 1e-12}


def data(shape=(3, 9, 8), examples=11, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(examples, *shape, generator=g, dtype=torch.float64), torch.randint(3, (examples,), generator=g)


def tensors(module):
    return dict(module.named_parameters()), dict(module.named_buffers())


def headed(*body, shape=(3, 9, 8)):
    """``body`` with a linear head on its flattened map, in float64; running statistics moved from their start."""
    torch.manual_seed(0)
    units = nn.Sequential(*body)(torch.randn(2, *shape)).flatten(1).shape[1]
    module = nn.Sequential(*body, nn.Flatten(), nn.Linear(units, 3)).double()
    with torch.no_grad():
        module(data(shape)[0])
        for p in module.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return module.eval()


def one_by_one(module, x, y):
    rows = []
    for i in range(len(x)):
        module.zero_grad()
        F.cross_entropy(module(x[i : i + 1]), y[i : i + 1]).backward()
        rows.append(torch.cat([p.grad.flatten() for p in module.parameters()]))
    return torch.stack(rows)


CONVOLUTIONS = {
    "plain": dict(kernel_size=3),
    "no bias": dict(kernel_size=3, bias=False),
    "padded": dict(kernel_size=3, padding=1),
    "padded by axis": dict(kernel_size=(3, 2), padding=(2, 1)),
    "same": dict(kernel_size=(4, 3), padding="same"),
    "strided": dict(kernel_size=3, stride=2, padding=1),
    "strides that leave a rest": dict(kernel_size=(2, 3), stride=(3, 2)),
    "dilated": dict(kernel_size=(3, 2), dilation=(2, 3), padding=2),
    "grouped": dict(kernel_size=3, groups=3, padding=1),
    "circular": dict(kernel_size=3, padding=1, padding_mode="circular"),
    "reflected": dict(kernel_size=3, padding=(2, 1), padding_mode="reflect"),
    "single points": dict(kernel_size=1),
}


@pytest.fixture(params=["gradients held", "gradients formed for a channel at a time", "and for all channels"])
def route(request, monkeypatch):
    """Both ways of holding a convolution; a block of one number means a channel at a time."""
    if request.param != "gradients held":
        monkeypatch.setattr(layer_gradients, "conv_gradients", layer_gradients.ConvFactors)
        monkeypatch.setattr(factored, "conv_gradients", lambda layer, a, d: layer_gradients.ConvFactors(a, d, layer))
    if request.param.startswith("gradients formed"):
        monkeypatch.setattr(layer_gradients, "BLOCK", 1)
    monkeypatch.setattr(layer_gradients, "SQUARE", 2)
    monkeypatch.setattr(layer_gradients, "PATCHES", 1500)  # of two or three examples, to be joined again


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_products_of_a_convolution_are_those_of_the_gradients_one_by_one(options, route):
    second = dict(kernel_size=2, groups=options.get("groups", 1))
    module = headed(nn.Conv2d(3, 6, **options), nn.Tanh(), nn.Conv2d(6, 9, **second), nn.MaxPool2d(2))
    (x, y), (x2, y2) = data(), data(examples=5, seed=1)
    g, g2 = one_by_one(module, x, y), one_by_one(module, x2, y2)
    own = factored_gram(module, *tensors(module), (x, y), None, F.cross_entropy, chunk=4)
    cross = factored_gram(module, *tensors(module), (x, y), (x2, y2), F.cross_entropy, chunk=4)
    torch.testing.assert_close(own.products, g @ g.T, **EXACT)
    torch.testing.assert_close(own.norms2, g.norm(dim=1), **EXACT)
    torch.testing.assert_close(cross.products, g @ g2.T, **EXACT)
    torch.testing.assert_close(cross.norms1, g.norm(dim=1), **EXACT)
    torch.testing.assert_close(cross.norms2, g2.norm(dim=1), **EXACT)


@pytest.mark.parametrize("groups", [1, 2])
def test_sums_of_gradients_are_in_the_order_of_the_parameters(groups, route):
    module = headed(nn.Conv2d(4, 6, (2, 3), groups=groups), nn.BatchNorm2d(6), nn.Tanh(), shape=(4, 5, 6))
    x, y = data((4, 5, 6))
    g = one_by_one(module, x, y).split([6 * (4 // groups) * 6 + 6, 12, 6 * 4 * 4 * 3 + 3], dim=1)
    held = gradient_factors(module, *tensors(module), x, y, F.cross_entropy, chunk=4)
    for parts, rows in zip(held.values(), g, strict=True):
        torch.testing.assert_close(sum(part.total() for part in parts), rows.sum(0), **EXACT)
        torch.testing.assert_close(torch.cat([part.squares() for part in parts]), rows.square().sum(1), **EXACT)


@pytest.mark.parametrize("dims", [1, 3])
def test_convolutions_and_batch_norms_of_one_and_three_dimensions_too(dims, route):
    conv, norm, shape = [(nn.Conv1d, nn.BatchNorm1d, (3, 9)), None, (nn.Conv3d, nn.BatchNorm3d, (3, 4, 5, 3))][dims - 1]
    module = headed(conv(3, 4, 2, padding=1), norm(4), nn.Tanh(), conv(4, 4, 2, bias=False), shape=shape)
    x, y = data(shape)
    g = one_by_one(module, x, y)
    found = factored_gram(module, *tensors(module), (x, y), None, F.cross_entropy)
    torch.testing.assert_close(found.products, g @ g.T, **EXACT)


@pytest.mark.parametrize(
    "build",
    [
        lambda: ConvNet((4, 5), (3, 9, 8), 3, dense=(6,), dropout=0.3),
        lambda: ConvNet((4, 5), (3, 9, 8), 3, norm="batch", dense=(6,)),
        lambda: PlainCNN(0.25, image=(3, 9, 9), classes=3),
        lambda: ResNet(8, 4, (3, 9, 8), 3, shortcut="B"),
    ],
)
def test_networks_of_these_layers_go_this_way_and_agree_with_the_way_in_chunks(build):
    nets = Stack.of([build() for _ in range(2)]).to(dtype=torch.float64)
    x, y = data((3, 9, 9) if isinstance(nets.template, PlainCNN) else (3, 9, 8))
    found = stack_gram(nets, cross_entropy, x, y, chunk=4, factored=True)
    expected = stack_gram(nets, cross_entropy, x, y, chunk=4, factored=False)
    torch.testing.assert_close(found.products, expected.products, **EXACT)
    m, alpha = len(x), coherence(nets, cross_entropy, x, y, chunk=4).alpha
    square = expected.norms1.square().sum(1) / m
    torch.testing.assert_close(alpha, expected.products.sum((1, 2)) / m**2 / square, **EXACT)


def test_sets_larger_than_what_may_be_held_are_taken_in_parts(monkeypatch):
    monkeypatch.setattr(factored, "HELD", 1)
    module = headed(nn.Conv2d(3, 4, 2), nn.Tanh())
    (x, y), (x2, y2) = data(), data(examples=5, seed=1)
    for second in (None, (x2, y2)):
        found = factored_gram(module, *tensors(module), (x, y), second, F.cross_entropy, chunk=2)
        expected = gram(module, *tensors(module), (x, y), second, F.cross_entropy)
        for part, other in zip(found, expected, strict=True):
            torch.testing.assert_close(part, other, **EXACT)


def test_members_of_a_stack_keep_their_own_running_statistics():
    x, y = data()
    modules = [headed(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Tanh()) for _ in range(2)]
    modules[1][1].running_mean += 1.0
    modules[1][1].running_var *= 2.0
    found = stack_gram(Stack.of(modules).to(dtype=torch.float64), cross_entropy, x, y, factored=True)
    for module, products in zip(modules, found.products, strict=True):
        g = one_by_one(module, x, y)
        torch.testing.assert_close(products, g @ g.T, **EXACT)


class Viewing(nn.Module):
    """Takes a view of its maps, which maps laid out otherwise than row by row do not have, and works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 2), nn.Linear(224, 3)

    def forward(self, x):
        return self.head(torch.relu_(self.conv(x)).view(len(x), -1))


def test_views_and_changes_in_place_are_no_obstacle():
    torch.manual_seed(0)
    module, (x, y) = Viewing().double(), data()
    found = factored_gram(module, *tensors(module), (x, y), None, F.cross_entropy)
    g = one_by_one(module, x, y)
    torch.testing.assert_close(found.products, g @ g.T, **EXACT)


class Tied(nn.Module):
    """Uses a weight otherwise than by calling its layer: ``how`` says how."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.conv, self.other = how, nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(216, 3)
        if how == "shared weight":
            self.other.weight = self.conv.weight

    def forward(self, x):
        z = torch.tanh(self.conv(x))
        if self.how == "weight decay inside":
            z = z + self.conv.weight.sum()
        if self.how == "weight alone":
            return self.head(F.conv2d(z, self.other.weight, self.other.bias, padding=1).flatten(1))
        if self.how == "layer never called":
            return self.head(z.flatten(1))
        if self.how == "no gradient":
            return self.head((z + self.other(z).detach()).flatten(1))
        return self.head((self.conv if self.how == "called twice" else self.other)(z).flatten(1))


@pytest.mark.parametrize(
    "how",
    ["called twice", "shared weight", "weight decay inside", "weight alone", "layer never called", "no gradient"],
)
def test_weights_used_otherwise_than_by_one_call_are_refused_and_left_to_the_way_in_chunks(how):
    torch.manual_seed(0)
    module, (x, y) = Tied(how).double(), data()
    with pytest.raises(ValueError, match=r"use repro\.measure\.gradients\.gram"):
        factored_gram(module, *tensors(module), (x, y), None, F.cross_entropy)
    g = per_example_gradients(module, *tensors(module), x, y, F.cross_entropy)
    if how != "shared weight":  # a stack unties what is shared
        nets = Stack.of([module]).to(dtype=torch.float64)
        torch.testing.assert_close(stack_gram(nets, cross_entropy, x, y).products[0], g @ g.T, **EXACT)


def test_other_layers_and_parameters_left_out_are_refused_by_name():
    x, y = data()
    odd = nn.Sequential(nn.Conv2d(3, 2, 3), nn.PReLU(), nn.Flatten(), nn.Linear(84, 3)).double()
    with pytest.raises(
        ValueError, match=r"parameter '1.weight' is not a linear layer's, a convolution's or a batch norm"
    ):
        factored_gram(odd, *tensors(odd), (x, y), None, F.cross_entropy)
    batch = headed(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2, track_running_stats=False))
    with pytest.raises(ValueError, match="batch norm '1' keeps no running statistics"):
        factored_gram(batch, *tensors(batch), (x, y), None, F.cross_entropy)
    module = headed(nn.Conv2d(3, 2, 3))
    params, buffers = tensors(module)
    del params["0.bias"]
    with pytest.raises(ValueError, match=r"parameter '0.bias' is not among those that are given"):
        factored_gram(module, params, buffers, (x, y), None, F.cross_entropy)
    with pytest.raises(ValueError, match="x has 11 examples and y has 4"):
        factored_gram(module, *tensors(module), (x, y[:4]), None, F.cross_entropy)


def test_half_of_a_symmetric_product_and_its_mirror_are_the_whole():
    for n in (1, 2, 5, 127, 128, 129, 300):
        covered = torch.zeros(n, n)
        for row, column in layer_gradients.lower_tiles(0, n):
            covered[row, column] += 1
        assert (covered.tril() == torch.ones(n, n).tril()).all() and covered.max() == 1
        whole = torch.arange(n * n, dtype=torch.float64).view(n, n)
        whole = whole + whole.T
        half = whole * covered
        layer_gradients.mirror(half)
        assert torch.equal(half, whole)
