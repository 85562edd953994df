import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repro.models import ACTIVATIONS, MLP, ConvNet, PlainCNN, ResNet, activation, matched_init


def built(make, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


NETWORKS = {
    "mlp": (lambda: MLP([20, 16, 12, 5]), (20,)),
    "mlp batch": (lambda: MLP([20, 16, 12, 5], "tanh", norm="batch", norm_after=False), (20,)),
    "mlp layer": (lambda: MLP([20, 16, 12, 5], "gelu", norm="layer"), (20,)),
    "mlp alpha": (lambda: MLP([20, 16, 5], "selu", dropout=0.1, dropout_kind="alpha"), (20,)),
    "mlp linear": (lambda: MLP([20, 5], "linear"), (20,)),
    "conv": (lambda: ConvNet((4, 6), (1, 8, 8), 5), (1, 8, 8)),
    "conv batch": (lambda: ConvNet((4, 6), (2, 8, 6), 5, norm="batch", pool="average"), (2, 8, 6)),
    "conv dense": (lambda: ConvNet((4,), (1, 8, 8), 5, norm="batch", dense=(12, 8), dropout=0.2), (1, 8, 8)),
    "conv no pool": (lambda: ConvNet((4,), (1, 5, 5), 5, pool=None), (1, 5, 5)),
    "plain": (lambda: PlainCNN(0.25, 1, (3, 12, 12), 5), (3, 12, 12)),
    "plain deep": (lambda: PlainCNN(0.25, 2, (1, 9, 9), 5, norm=None), (1, 9, 9)),
    "resnet A": (lambda: ResNet(8, 4, (3, 8, 8), 5, "A"), (3, 8, 8)),
    "resnet B": (lambda: ResNet(8, 4, (1, 9, 9), 5, "B"), (1, 9, 9)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_maps_a_batch_to_logits_and_names_its_hidden_layers(name):
    make, shape = NETWORKS[name]
    net = built(make).eval()
    x = torch.randn(7, *shape)
    assert net(x).shape == (7, 5)
    features = net.features(x)
    assert all(f.shape[0] == 7 for f in features.values())
    if "resnet" not in name and "linear" not in name:
        assert len(features) == len(net.hidden) + len(getattr(net, "dense", ()))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_head_reads_the_last_feature(name):
    make, shape = NETWORKS[name]
    net = built(make).eval()
    x = torch.randn(3, *shape)
    last = list(net.features(x).values() or [x])[-1]
    if isinstance(net, ConvNet):
        last = last.flatten(1)
    elif not isinstance(net, MLP):
        last = last.mean((-2, -1))
    torch.testing.assert_close(net.head(last), net(x))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_code_runs_a_stack_of_networks(name):
    from repro.train.layers import stackable, twin

    make, shape = NETWORKS[name]
    nets = [built(make, seed).double().eval() for seed in range(3)]
    x = torch.randn(3, 4, *shape, dtype=torch.float64)
    assert stackable(nets[0])
    stack = twin(nets[0], 3).eval()
    params, buffers = torch.func.stack_module_state(nets)
    stack.load_state_dict({**params, **buffers})
    torch.testing.assert_close(stack(x), torch.stack([net(x[m]) for m, net in enumerate(nets)]))
    for key, feature in stack.features(x).items():
        torch.testing.assert_close(feature, torch.stack([net.features(x[m])[key] for m, net in enumerate(nets)]))


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_come_from_the_callers_generator_alone(name):
    make, _ = NETWORKS[name]
    first, again, other = built(make, 1), built(make, 1), built(make, 2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("init", "variance"),
    [("lecun", 1 / 400), ("he", 2 / 400), ("torch", 1 / 1200), ("normal", 1.0), (("gain", 3.0), 9 / 400)],
)
def test_each_initialisation_has_its_variance(init, variance):
    net = built(lambda: MLP([400, 400, 10], init=init))
    assert float(net.hidden[0].linear.weight.detach().var()) == pytest.approx(variance, rel=0.02)
    assert (net.hidden[0].linear.bias == 0).all() == (init != "torch")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_comes_with_the_scale_that_belongs_to_it(name):
    fan_in_variance = {"lecun": 1, "he": 2}[matched_init(name)] / 400
    net = built(lambda: MLP([400, 400, 10], name))
    assert float(net.hidden[0].linear.weight.detach().var()) == pytest.approx(fan_in_variance, rel=0.02)


def test_selu_with_its_own_scale_keeps_mean_nought_and_variance_one_through_thirty_layers():
    x = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    own, foreign = (built(lambda i=i: MLP([256] * 32, "selu", init=i)) for i in ("matched", "torch"))
    last = own.features(x)["hidden30"].detach()
    assert abs(float(last.mean())) < 0.1 and 0.8 < float(last.var()) < 1.2
    assert float(foreign.features(x)["hidden30"].detach().var()) < 0.5


def test_norm_stands_behind_the_activation_or_before_it_as_asked():
    after, before = (MLP([4, 6, 2], norm="batch", norm_after=at).hidden[0] for at in (True, False))
    assert [n for n, _ in after.named_children()] == ["linear", "activation", "norm"]
    assert [n for n, _ in before.named_children()] == ["linear", "norm", "activation"]


def test_a_bias_that_batch_norm_would_subtract_is_left_out_and_the_weights_stay_the_seeds_own():
    plain, batch, after, layer = (
        built(lambda kind=kind, at=at: MLP([4, 6, 6, 2], norm=kind, norm_after=at))
        for kind, at in ((None, False), ("batch", False), ("batch", True), ("layer", False))
    )
    assert [[block.linear.bias is None for block in net.hidden] for net in (plain, batch, after, layer)] == [
        [False] * 2, [True] * 2, [False] * 2, [False] * 2
    ]  # fmt: skip
    for a, b in zip(plain.hidden, batch.hidden, strict=True):
        assert torch.equal(a.linear.weight, b.linear.weight)
    assert batch.head.bias is not None


def test_alpha_dropout_keeps_the_moments_that_ordinary_dropout_inflates():
    x = torch.randn(2048, 64, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kinds = {k: MLP([64] * 22, "selu", dropout=0.1, dropout_kind=k).train() for k in ("alpha", "standard")}
        variance = {k: float(net.features(x)["hidden20"].detach().var()) for k, net in kinds.items()}
    assert 0.8 < variance["alpha"] < 1.25 < variance["standard"]


def test_the_plain_network_has_the_papers_ten_layers():
    net = built(PlainCNN)
    maps = [tuple(f.shape[1:]) for f in net.features(torch.zeros(2, 3, 32, 32)).values()]
    assert maps == [
        (16, 32, 32), (16, 32, 32), (32, 16, 16), (32, 16, 16), (32, 16, 16), (64, 8, 8), (64, 6, 6), (64, 6, 6),
    ]  # fmt: skip


def test_depth_repeats_layers_without_changing_what_the_next_one_sees():
    shapes = {
        d: [
            tuple(f.shape[1:]) for f in built(lambda d=d: PlainCNN(0.5, d)).features(torch.zeros(2, 3, 32, 32)).values()
        ]
        for d in (1, 3)
    }
    assert shapes[3] == [s for s in shapes[1] for _ in range(3)]


def test_resnet20_has_the_published_number_of_parameters():
    count = sum(p.numel() for p in built(lambda: ResNet(20, 16)).parameters())
    assert count == 269_722  # 0.27M in He et al. 2016, table 6
    projected = sum(p.numel() for p in built(lambda: ResNet(20, 16, shortcut="B")).parameters())
    assert projected - count == 16 * 32 + 32 * 64 + 2 * (32 + 64)


def test_the_parameterless_shortcut_passes_strided_pixels_and_zeros():
    block = built(lambda: ResNet(8, 4)).blocks[1]
    x = torch.randn(2, 4, 6, 6)
    short = block.shortcut(x)
    torch.testing.assert_close(short[:, 2:6], x[:, :, ::2, ::2])
    assert short.shape == (2, 8, 3, 3) and (short[:, :2] == 0).all() and (short[:, 6:] == 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP([4]), r"widths is \[4\]"),
        (lambda: MLP([4, 0, 2]), r"widths is \[4, 0, 2\]"),
        (lambda: MLP([4, 3, 2], "swish"), "activation is 'swish': give one of relu, gelu, selu"),
        (lambda: MLP([4, 3, 2], norm="group"), "norm is 'group'"),
        (lambda: MLP([4, 3, 2], dropout=1.0), r"dropout is 1.0: give a rate in \[0, 1\)"),
        (lambda: MLP([4, 3, 2], dropout_kind="beta"), "dropout_kind is 'beta'"),
        (lambda: MLP([4, 3, 2], init="xavier"), "init is 'xavier'"),
        (lambda: MLP([4, 3, 2], init=("gain", -1.0)), "with g > 0"),
        (lambda: ConvNet((4, 4, 4, 4), (1, 8, 8)), "4 poolings by 2 leave nothing"),
        (lambda: ConvNet(norm="layer"), "norm is 'layer'"),
        (lambda: ConvNet(dropout=0.5), "no dense layers"),
        (lambda: PlainCNN(image=(1, 8, 8)), "a side of 9 or more"),
        (lambda: PlainCNN(depth=0), "depth is 0"),
        (lambda: ResNet(21), "depth is 21: give 6n"),
        (lambda: ResNet(shortcut="C"), "shortcut is 'C'"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_an_activation_is_a_fresh_leaf():
    assert activation("relu") is not activation("relu") and math.isclose(
        float(activation("selu")(torch.tensor(1.0))), 1.0507, abs_tol=1e-4
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_pooling_before_an_increasing_activation_changes_neither_output_nor_gradient(name):
    net = built(lambda: ConvNet((4, 6), (1, 8, 8), 5, activation=name))
    x = torch.randn(7, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    by_name, want = dict(net.named_parameters()), x
    for block in net.hidden:
        want = F.max_pool2d(activation(name)(block.conv(want)), 2)
    want = net.head(want.flatten(1))
    assert torch.equal(net(x), want)
    mine = torch.autograd.grad(net(x).square().sum(), list(by_name.values()))
    theirs = torch.autograd.grad(want.square().sum(), list(by_name.values()))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)
