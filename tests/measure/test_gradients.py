import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from repro.measure.gradients import gram, per_example_gradients, stacked_gradients


def network(seed: int = 0, norm: bool = False) -> nn.Sequential:
    torch.manual_seed(seed)
    middle = nn.BatchNorm1d(7) if norm else nn.Identity()
    return nn.Sequential(nn.Linear(5, 7), middle, nn.Tanh(), nn.Dropout(0.5), nn.Linear(7, 3)).double()


def tensors(net: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    return dict(net.named_parameters()), dict(net.named_buffers())


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(11, 5, generator=g, dtype=torch.float64), torch.randint(3, (11,), generator=g)


def by_backward(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    net.eval()
    rows = []
    for i in range(len(x)):
        net.zero_grad()
        cross_entropy(net(x[i : i + 1]), y[i : i + 1]).backward()
        rows.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    return torch.stack(rows)


@pytest.mark.parametrize("chunk", [None, 1, 4])
@pytest.mark.parametrize("norm", [False, True])
def test_each_row_is_the_gradient_that_backward_gives_for_that_example_alone(batch, chunk, norm):
    net = network(norm=norm)
    with torch.no_grad():
        net(batch[0])  # moves running statistics away from their start
    torch.testing.assert_close(
        per_example_gradients(net, *tensors(net), *batch, cross_entropy, chunk), by_backward(net, *batch)
    )


def test_one_layer_of_softmax_regression_has_the_gradient_of_the_textbook(batch):
    torch.manual_seed(0)
    net = nn.Linear(5, 3, bias=False).double()
    x, y = batch
    residual = net(x).softmax(1) - nn.functional.one_hot(y, 3)  # (p - y) x'
    expected = torch.einsum("nk,nd->nkd", residual, x).flatten(1)
    torch.testing.assert_close(per_example_gradients(net, *tensors(net), x, y, cross_entropy), expected)


def test_the_mean_row_is_the_gradient_of_the_mean_loss(batch):
    net = network().eval()
    cross_entropy(net(batch[0]), batch[1]).backward()
    mean = torch.cat([p.grad.flatten() for p in net.parameters()])
    torch.testing.assert_close(per_example_gradients(net, *tensors(net), *batch, cross_entropy).mean(0), mean)


def test_modes_of_the_module_are_left_as_they_were(batch):
    net = network(norm=True).train()
    net[1].eval()
    per_example_gradients(net, *tensors(net), *batch, cross_entropy)
    assert net.training and net[0].training and not net[1].training


@pytest.mark.parametrize("own_labels", [False, True])
def test_a_member_of_a_stack_has_the_gradients_of_its_network_alone(batch, own_labels):
    nets = [network(seed, norm=True) for seed in range(3)]
    params, buffers = torch.func.stack_module_state(nets)
    x, y = batch
    labels = torch.stack([(y + m) % 3 for m in range(3)]) if own_labels else y
    dims = (None, 0) if own_labels else (None, None)
    stacked = stacked_gradients(network(norm=True), params, buffers, x, labels, cross_entropy, in_dims=dims)
    for m, net in enumerate(nets):
        torch.testing.assert_close(stacked[m], by_backward(net, x, labels[m] if own_labels else labels))


@pytest.mark.parametrize("chunk", [3, 64])
def test_inner_products_in_chunks_are_those_of_the_full_gradient_matrices(batch, chunk):
    net = network()
    x, y = batch
    first, second = (x[:7], y[:7]), (x[7:], y[7:])
    g1, g2 = (per_example_gradients(net, *tensors(net), *part, cross_entropy) for part in (first, second))
    cross = gram(net, *tensors(net), first, second, cross_entropy, chunk)
    torch.testing.assert_close(cross.products, g1 @ g2.T)
    torch.testing.assert_close(cross.norms1, g1.norm(dim=1))
    torch.testing.assert_close(cross.norms2, g2.norm(dim=1))
    own = gram(net, *tensors(net), first, None, cross_entropy, chunk)
    torch.testing.assert_close(own.products, g1 @ g1.T)
    torch.testing.assert_close(own.norms2, g1.norm(dim=1))


def test_inputs_and_targets_of_different_length_are_refused(batch):
    net = network()
    with pytest.raises(ValueError, match="x has 11 examples and y has 4"):
        per_example_gradients(net, *tensors(net), batch[0], batch[1][:4], cross_entropy)
