"""Robust gradient averages against the plain definition, one coordinate at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repro.rng import Streams
from repro.train import Stack, accuracy, along, cross_entropy, fit
from repro.train.aggregate import example_gradients, median_of_parts, rolling_median, winsorised

torch.manual_seed(0)
X, Y = torch.randn(24, 4, dtype=torch.float64), torch.randint(3, (24,))


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def alone(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build().double()


def gradient(net, x, y):
    return torch.cat([g.flatten() for g in torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))])


def moved(net, step):
    return torch.cat([p.detach().flatten() for p in net.parameters()]) - step


class Unlike(nn.Module):
    """Not made of linear layers alone."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.out = nn.Parameter(torch.ones(4)), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(torch.sin(x * self.scale))


class Twice(nn.Module):
    """A layer called twice."""

    stackable = True

    def __init__(self) -> None:
        super().__init__()
        self.again, self.out = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.again(torch.tanh(self.again(x))))


@pytest.mark.parametrize("make", [build, Unlike, Twice])
def test_example_gradients_are_those_of_backward_with_the_examples_last(make):
    nets = Stack.of([make() for _ in range(2)]).to(dtype=torch.float64)
    found, values = example_gradients(nets, cross_entropy, X.expand(2, -1, -1), Y.expand(2, -1))
    net = nets.member(1)
    rows = torch.stack([gradient(net, X[i : i + 1], Y[i : i + 1]) for i in range(24)], 1)
    torch.testing.assert_close(torch.cat([found[n][1].flatten(0, -2) for n in nets.params]), rows)
    torch.testing.assert_close(values[1].detach(), F.cross_entropy(net(X), Y).detach())


@pytest.mark.parametrize("clip", [0, 1, 5])
def test_winsorising_clips_every_coordinate_to_its_order_statistics(clip):
    run = fit(build, X, Y, seeds=[3, 4], steps=1, batch=None, lr=0.5, objective=winsorised(cross_entropy, clip))
    net = alone(4)
    rows = torch.stack([gradient(net, X[i : i + 1], Y[i : i + 1]) for i in range(24)])
    ordered = rows.sort(0).values
    expected = rows.clamp(ordered[clip], ordered[23 - clip]).mean(0)
    torch.testing.assert_close(run.final.flat()[1], moved(net, 0.5 * expected))
    torch.testing.assert_close(float(run.history["loss"][1, 0]), F.cross_entropy(net(X), Y).item())


def test_clipping_nothing_is_sgd_and_members_may_clip_differently():
    plain = fit(build, X, Y, seeds=[1, 2], steps=8, batch=8, lr=0.2, momentum=0.9)
    swept = fit(build, X, Y, seeds=[1, 2], sweep={"clip": [0, 2]}, steps=8, batch=8, lr=0.2, momentum=0.9,
                objective=winsorised(cross_entropy, "clip"))  # fmt: skip
    two = fit(build, X, Y, seeds=[1, 2], steps=8, batch=8, lr=0.2, momentum=0.9, objective=winsorised(cross_entropy, 2))
    torch.testing.assert_close(swept.final.sel(clip=0).flat(), plain.final.flat())
    torch.testing.assert_close(swept.final.sel(clip=2).flat(), two.final.flat())
    assert (two.final.flat() - plain.final.flat()).norm() > 1e-3


def test_the_median_of_three_parts_is_coordinate_wise():
    run = fit(build, X, Y, seeds=[3], steps=1, batch=None, lr=0.5, objective=median_of_parts(cross_entropy))
    net = alone(3)
    parts = torch.stack([gradient(net, x, y) for x, y in zip(X.chunk(3), Y.chunk(3), strict=True)])
    torch.testing.assert_close(run.final.flat()[0], moved(net, 0.5 * parts.median(0).values))


def test_a_rolling_median_of_one_is_sgd_and_forgets_between_chunks_of_members():
    plain = fit(build, X, Y, seeds=[1, 2], steps=6, batch=8, lr=0.2)
    one = fit(build, X, Y, seeds=[1, 2], steps=6, batch=8, lr=0.2, objective=rolling_median(cross_entropy, 1))
    torch.testing.assert_close(one.final.flat(), plain.final.flat())
    together, chunks = (
        fit(build, X, Y, seeds=[1, 2], steps=6, batch=8, lr=0.2, objective=rolling_median(cross_entropy),
            members_at_once=n)
        for n in (2, 1)
    )  # fmt: skip
    torch.testing.assert_close(together.final.flat(), chunks.final.flat())


def test_the_rolling_median_is_taken_over_the_last_three_gradients():
    seen = []
    run = fit(build, X, Y, seeds=[5], steps=4, batch=8, lr=0.5, objective=rolling_median(cross_entropy),
              keep_at=range(5))  # fmt: skip
    order = Streams([5], "batches")
    first, second = order.permutation(24)[0], order.permutation(24)[0]
    batches = [*first.split(8), second[:8]]
    for step, index in enumerate(batches):
        seen.append(gradient(run.at(step).member(0), X[index], Y[index]))
    expected = run.at(3).flat()[0] - 0.5 * torch.stack(seen[1:4]).median(0).values
    torch.testing.assert_close(run.final.flat()[0], expected)


def test_winsorising_holds_back_what_single_examples_push_for():
    torch.manual_seed(1)
    centres = torch.randn(3, 40)
    labels = torch.randint(3, (192,))
    x = centres[labels] + 0.5 * torch.randn(192, 40)
    noisy = torch.where(torch.arange(192) % 4 == 0, (labels + 1) % 3, labels)
    net = lambda: nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 3))  # noqa: E731
    run = fit(net, x, along("seed", torch.stack([noisy, noisy])), seeds=[1, 2], sweep={"clip": [0, 6]}, steps=600,
              batch=32, lr=0.5, objective=winsorised(cross_entropy, "clip"))  # fmt: skip
    corrupt = accuracy(run.final.predict(x[::4]), noisy[::4]).view(2, 2)
    assert (corrupt[0] > 0.8).all() and (corrupt[1] < 0.5).all()


def test_what_cannot_be_averaged_robustly_is_refused():
    with pytest.raises(ValueError, match=r"clip = \[4\]: a batch of 8 allows 0 to 3"):
        fit(build, X, Y, seeds=[1], steps=1, batch=8, objective=winsorised(cross_entropy, 4))
    with pytest.raises(ValueError, match="parts = 3: a batch of 8"):
        fit(build, X, Y, seeds=[1], steps=1, batch=8, objective=median_of_parts(cross_entropy))
    norm = lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))  # noqa: E731
    with pytest.raises(ValueError, match=r"buffer '1.running_mean'"):
        fit(norm, X, Y, seeds=[1], steps=1, batch=8, objective=winsorised(cross_entropy, 1))
