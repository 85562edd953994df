"""A member trained in the stack equals the same network trained alone, to float64 round-off, for every feature."""

import copy
import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.rng import Streams, seeds
from repro.train import Batch, Stack, along, fit, squared_error
from repro.train.layers import stackable

N, STEPS, BATCH = 40, 12, 8
torch.manual_seed(0)
X = torch.randn(N, 6, dtype=torch.float64)
IMAGES = torch.randn(N, 2, 8, 8, dtype=torch.float64)
Y = torch.randint(3, (N,))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))


def batchnorm() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3))


def layernorm() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 7, bias=False), nn.LayerNorm(7), nn.SELU(), nn.Linear(7, 3))


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2, groups=2), nn.GroupNorm(2, 6), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip


class Residual(nn.Module):
    stackable = True

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 3)])
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner[1](x + self.act(self.inner[0](x)))


class Unknown(nn.Module):
    """Parameters of its own and no promise: goes the vmap way."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(6))
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.sin(x * self.scale))


def batches(seed: int, n: int, steps: int, size: int | None) -> list[Tensor]:
    """The minibatches that a seed stands for: a fresh order every epoch, a smaller last batch left out."""
    if size is None:
        return [torch.arange(n)] * steps
    stream, per_epoch = Streams([seed], "batches"), n // size
    out: list[Tensor] = []
    while len(out) < steps:
        order = stream.permutation(n)[0]
        out += [order[i * size : (i + 1) * size] for i in range(per_epoch)]
    return out[:steps]


def train_alone(build, seed, x, y, make, batch=BATCH, factor=lambda s: 1.0, loss=F.cross_entropy, after=None):
    """The plain PyTorch loop."""
    torch.manual_seed(seed)
    net = build().double()
    if after:
        after(net)
    opt = make([p for p in net.parameters() if p.requires_grad])
    base = opt.param_groups[0]["lr"]
    for step, index in enumerate(batches(seed, len(x), STEPS, batch)):
        opt.param_groups[0]["lr"] = base * factor(step)
        opt.zero_grad()
        loss(net(x[index]), y[index]).backward()
        opt.step()
        if after:
            after(net)
    return net


def assert_same(nets: Stack, index: int, alone: nn.Module) -> None:
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(nets.state[name][index], value, rtol=1e-10, atol=1e-11, msg=lambda m: f"{name}: {m}")  # noqa: B023


ARCHITECTURES = {
    "mlp": (mlp, X), "batchnorm": (batchnorm, X), "layernorm": (layernorm, X), "convnet": (convnet, IMAGES),
    "residual": (Residual, X), "vmap": (Unknown, X),
}  # fmt: skip


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_architecture_trains_in_the_stack_as_alone(kind):
    build, x = ARCHITECTURES[kind]
    run = fit(build, x, Y, seeds=[3, 4, 5], steps=STEPS, batch=BATCH, lr=0.05, momentum=0.9)
    assert stackable(build()) == (kind != "vmap")
    for i, seed in enumerate([3, 4, 5]):
        alone = train_alone(build, seed, x, Y, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9))
        assert_same(run.final, i, alone)


@pytest.mark.parametrize(
    ("name", "make", "hyper"),
    [
        ("sgd", torch.optim.SGD, {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.01, "nesterov": True}),
        ("adam", torch.optim.Adam, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6}),
        ("adamw", torch.optim.AdamW, {"lr": 0.02, "weight_decay": 0.1}),
        ("adagrad", torch.optim.Adagrad, {"lr": 0.05}),
    ],
)
def test_every_optimizer_steps_as_torch_does(name, make, hyper):
    run = fit(mlp, X, Y, seeds=[1, 2], steps=STEPS, batch=BATCH, optimizer=name, **hyper)
    for i, seed in enumerate([1, 2]):
        assert_same(run.final, i, train_alone(mlp, seed, X, Y, lambda p: make(p, **hyper)))


def test_swept_hyperparameters_belong_to_their_members():
    run = fit(
        mlp,
        X,
        Y,
        seeds=[1, 2],
        sweep={"lr": [0.01, 0.2], "weight_decay": [0.0, 0.1]},
        steps=STEPS,
        batch=BATCH,
        momentum=0.9,
    )
    assert dict(run.history.loss.sizes) == {"lr": 2, "weight_decay": 2, "seed": 2, "step": STEPS}
    for lr in (0.01, 0.2):
        for wd in (0.0, 0.1):
            chosen = run.final.sel(lr=lr, weight_decay=wd)
            for i, seed in enumerate([1, 2]):
                make = lambda p: torch.optim.SGD(p, lr=lr, momentum=0.9, weight_decay=wd)  # noqa: B023, E731
                assert_same(chosen, i, train_alone(mlp, seed, X, Y, make))


@pytest.mark.parametrize("schedule", ["cosine", "linear", "own"])
def test_schedules_scale_the_learning_rate_step_by_step(schedule):
    factors = {
        "cosine": lambda s: 0.5 * (1 + math.cos(math.pi * s / STEPS)),
        "linear": lambda s: 1 - s / STEPS,
        "own": lambda s: 1.0 if s < 4 else 0.1,
    }
    given = factors["own"] if schedule == "own" else schedule
    run = fit(mlp, X, Y, seeds=[9], steps=STEPS, batch=BATCH, lr=0.3, schedule=given)
    alone = train_alone(mlp, 9, X, Y, lambda p: torch.optim.SGD(p, lr=0.3), factor=factors[schedule])
    assert_same(run.final, 0, alone)


def test_masked_weights_are_zero_from_the_start_and_stay_zero():
    mask = torch.randint(2, (2, 7, 6), dtype=torch.float64)
    run = fit(mlp, X, Y, seeds=[1, 2], steps=STEPS, batch=BATCH, lr=0.1, momentum=0.9, weight_decay=0.1,
              mask={"0.weight": along("seed", mask)}, keep_at=[0])  # fmt: skip
    for i, seed in enumerate([1, 2]):

        def prune(net, i=i):
            net[0].weight.data.mul_(mask[i])

        make = lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1)  # noqa: E731
        assert_same(run.final, i, train_alone(mlp, seed, X, Y, make, after=prune))
    assert (run.at(0).params["0.weight"][mask == 0] == 0).all()


def test_frozen_parameters_do_not_move():
    run = fit(mlp, X, Y, seeds=[1], steps=STEPS, batch=BATCH, lr=0.1, frozen=["0.weight", "0.bias"], keep_at=[0])
    assert torch.equal(run.final.params["0.weight"], run.at(0).params["0.weight"])
    assert not torch.equal(run.final.params["2.weight"], run.at(0).params["2.weight"])


def test_labels_and_inputs_may_differ_along_named_axes():
    noisy = torch.randint(3, (2, N))
    inputs = torch.randn(2, N, 6, dtype=torch.float64)
    run = fit(
        mlp,
        along("seed", inputs),
        along("seed", noisy),
        seeds=[1, 2],
        sweep={"lr": [0.1, 0.2]},
        steps=STEPS,
        batch=BATCH,
    )
    for i, seed in enumerate([1, 2]):
        alone = train_alone(mlp, seed, inputs[i], noisy[i], lambda p: torch.optim.SGD(p, lr=0.2))
        assert_same(run.final.sel(lr=0.2), i, alone)


def test_an_own_objective_reads_its_swept_settings():
    def tempered(nets: Stack, batch: Batch) -> Tensor:
        beta = nets.setting("beta")[:, None, None]
        return F.cross_entropy((beta * nets(batch.x)).mT, batch.y, reduction="none").mean(1)

    run = fit(mlp, X, Y, seeds=[1], sweep={"beta": [0.5, 4.0]}, steps=STEPS, batch=BATCH, lr=0.1, objective=tempered)
    for i, beta in enumerate([0.5, 4.0]):
        loss = lambda out, y: F.cross_entropy(beta * out, y)  # noqa: B023, E731
        assert_same(run.final, i, train_alone(mlp, 1, X, Y, lambda p: torch.optim.SGD(p, lr=0.1), loss=loss))


def test_full_batches_and_squared_error():
    target = torch.randn(N, 3, dtype=torch.float64)
    run = fit(mlp, X, target, seeds=[1], steps=STEPS, batch=None, lr=0.1, loss=squared_error)
    loss = lambda out, y: 0.5 * (out - y).square().sum(1).mean()  # noqa: E731
    alone = train_alone(mlp, 1, X, target, lambda p: torch.optim.SGD(p, lr=0.1), batch=None, loss=loss)
    assert_same(run.final, 0, alone)


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_chunks_of_members_change_nothing(at_once):
    def dropping() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 7), nn.BatchNorm1d(7), nn.Dropout(0.3), nn.AlphaDropout(0.1), nn.Linear(7, 3))

    arguments = {
        "seeds": [1, 2], "sweep": {"lr": [0.1, 0.2]}, "steps": STEPS, "batch": BATCH, "keep_at": [4],
        "keep_below": [1.0], "check_every": 2, "measure_at": [0, STEPS],
        "measure": lambda nets, step: {"norm": nets.flat().norm(dim=1)},
    }  # fmt: skip
    whole = fit(dropping, X, Y, **arguments)
    parts = fit(dropping, X, Y, members_at_once=at_once, **arguments)
    torch.testing.assert_close(parts.final.flat(), whole.final.flat(), rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(parts.at(4).flat(), whole.at(4).flat(), rtol=1e-10, atol=1e-11)
    assert parts.reached.equals(whole.reached)
    assert abs(parts.history.norm - whole.history.norm).max() < 1e-10


def test_dropout_members_are_independent_of_their_neighbours_and_of_the_global_state():
    build = lambda: nn.Sequential(nn.Linear(6, 7), nn.Dropout(0.5), nn.Linear(7, 3))  # noqa: E731
    together = fit(build, X, Y, seeds=[1, 2, 3], steps=STEPS, batch=BATCH, lr=0.1)
    torch.rand(17)
    state = torch.random.get_rng_state()
    alone = fit(build, X, Y, seeds=[2], steps=STEPS, batch=BATCH, lr=0.1)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.testing.assert_close(alone.final.flat()[0], together.final.flat()[1], rtol=1e-10, atol=1e-11)


def test_going_on_from_a_kept_stack_starts_at_its_parameters():
    first = fit(mlp, X, Y, seeds=[1, 2], steps=STEPS, batch=BATCH, lr=0.1, keep_at=[5])
    again = fit(first.at(5), X, Y, steps=1, batch=BATCH, lr=0.0)
    assert torch.equal(again.final.flat(), first.at(5).flat())


def test_networks_kept_below_a_loss_are_those_of_the_first_check_that_reached_it():
    run = fit(
        mlp,
        X,
        Y,
        seeds=[1, 2],
        steps=60,
        batch=BATCH,
        lr=0.2,
        keep_below=[1.05, 1e-9],
        check_every=5,
        keep_at=range(0, 61, 5),
    )
    for i in range(2):
        losses = {s: F.cross_entropy(net.predict(X)[i], Y).item() for s, net in run.kept.items()}
        first = min(s for s, value in losses.items() if value < 1.05)
        assert run.reached.sel(below=1.05).values[i] == first
        assert torch.equal(run.below[1.05].flat()[i], run.at(first).flat()[i])
    assert run.reached.sel(below=1e-9).isnull().all() and run.below[1e-9].flat().isnan().all()


@pytest.mark.parametrize("at_once", [None, 1])
def test_training_may_stop_once_every_member_is_below(at_once):
    given = {"seeds": [1, 2], "batch": BATCH, "lr": 0.2, "keep_below": [1.05], "check_every": 5}
    whole = fit(mlp, X, Y, steps=60, **given)
    short = fit(mlp, X, Y, steps=60, stop_below=True, members_at_once=at_once, **given)
    assert torch.equal(short.below[1.05].flat(), whole.below[1.05].flat())
    assert torch.equal(torch.as_tensor(short.reached.values), torch.as_tensor(whole.reached.values))
    last = int(whole.reached.max())
    assert last < 60 and short.history.loss.isel(step=slice(last, None)).isnull().all()
    assert short.history.loss.isel(step=0).notnull().all() and not short.diverged.any()


def test_training_that_waits_in_vain_takes_all_its_steps():
    run = fit(mlp, X, Y, seeds=[1], steps=10, batch=BATCH, lr=0.2, keep_below=[1e-9], stop_below=True)
    assert run.history.loss.notnull().all() and run.reached.isnull().all()


def test_a_diverged_member_is_counted_and_leaves_the_others_alone():
    run = fit(
        mlp,
        10 * X,
        torch.randn(N, 3, dtype=torch.float64),
        seeds=[1],
        sweep={"lr": [0.001, 1e3]},
        steps=30,
        batch=None,
        loss=squared_error,
    )
    assert run.diverged.sel(lr=1e3).all() and not run.diverged.sel(lr=0.001).any()
    assert run.final.sel(lr=0.001).flat().isfinite().all()


def test_swept_seeds_from_neighbouring_bases_share_nothing():
    assert not set(seeds(2026, 50)) & set(seeds(2027, 50))
    assert seeds(2026, 3) == seeds(2026, 5)[:3]


def test_hooks_see_every_update():
    seen = []
    fit(mlp, X, Y, seeds=[1], steps=4, batch=BATCH, lr=0.1, hook=lambda nets, done: seen.append((done, nets.members)))
    assert seen == [(1, 1), (2, 1), (3, 1), (4, 1)]


def test_stack_of_modules_predicts_what_they_predict():
    modules = [copy.deepcopy(m).double().eval() for m in (mlp(), mlp())]
    nets = Stack.of(modules)
    expected = torch.stack([m(X) for m in modules])
    torch.testing.assert_close(nets.to(dtype=torch.float64).predict(X, batch=7), expected)
    torch.testing.assert_close(nets.member(1)(X), expected[1])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"batch": 41}, "batch = 41: the data holds 40 examples, so 1 to 40 are allowed"),
        ({"batch": 0}, "batch = 0"),
        ({"steps": 0}, "steps = 0"),
        ({"optimizer": "lion"}, "optimizer = 'lion': allowed are sgd, adam, adamw, adagrad"),
        ({"lr": -1.0}, "lr = -1.0: must be finite and at least 0"),
        ({"rate": 1.0}, "rate = 1.0: sgd takes lr"),
        ({"seeds": []}, "at least one seed"),
        ({"seeds": [1, 1]}, "every seed may stand only once"),
        ({"sweep": {"lr": []}}, "sweep of 'lr': give at least one value"),
        ({"schedule": "step"}, "schedule = 'step': allowed are constant, cosine, linear"),
        ({"keep_at": [99]}, "step 99"),
        ({"mask": {"9.weight": torch.ones(1)}}, "parameter '9.weight': this network has 0.weight"),
        ({"stop_below": True}, "stop_below needs keep_below"),
        ({"stop_below": True, "keep_below": [0.1], "keep_at": [2]}, "that step may never come"),
        ({"precision": "fp8"}, "precision = 'fp8'"),
    ],
)
def test_bad_arguments_stop_before_training_with_one_line(arguments, says):
    calls = []

    def build() -> nn.Module:
        calls.append(1)
        return mlp()

    given = {"seeds": [1], "steps": 5, "batch": BATCH, "hook": lambda *a: pytest.fail("training began"), **arguments}
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        fit(build, X, Y, **given)
    assert says in str(error.value)


def test_inputs_and_targets_of_different_length_are_named():
    with pytest.raises(ValueError, match="x holds 40 examples, y holds 39"):
        fit(mlp, X, Y[:39], seeds=[1], steps=1)


def test_training_does_not_import_torchs_compiler():
    """1.5 s of CPU time on every page."""
    script = """
import sys, torch
from repro.train import fit
x, y = torch.randn(8, 3), torch.randint(2, (8,))
for name in ("sgd", "adam", "adamw", "adagrad"):
    fit(lambda: torch.nn.Linear(3, 2), x, y, seeds=[1], steps=2, batch=4, optimizer=name, lr=0.1)
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
