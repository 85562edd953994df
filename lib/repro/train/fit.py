"""Train a grid of networks at once: seeds x swept settings, stepped together, labelled when they come back."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.rng import Streams
from repro.train.batches import Along, Batch, Batches
from repro.train.losses import cross_entropy
from repro.train.memory import members_that_fit
from repro.train.optimizers import Schedule, StackOptimizer, allowed_hyperparameters, schedule_of
from repro.train.stack import Stack, build_stack

if TYPE_CHECKING:
    import xarray as xr

Loss = Callable[[Tensor, Tensor], Tensor]
Objective = Callable[[Stack, Batch], Tensor]
Measure = Callable[[Stack, int], Mapping[str, Tensor]]


@dataclass
class Run:
    """What :func:`fit` returns.

    ``final``: the trained networks. ``history``: an ``xarray.Dataset`` with ``loss`` over (axes, step) - the minibatch
    loss *before* update ``step`` - and everything ``measure`` returned over (axes, at, ...), ``at`` counting updates
    done. ``kept``: networks by number of updates. ``below``: networks by training-loss threshold, at the first check
    at which each member had reached it; ``reached``: that number of updates, NaN (and NaN parameters) if it never did.
    ``diverged``: members with a non-finite loss or parameter at the end; they are kept.
    """

    final: Stack
    history: xr.Dataset
    diverged: xr.DataArray
    kept: dict[int, Stack] = field(default_factory=dict)
    below: dict[float, Stack] = field(default_factory=dict)
    reached: xr.DataArray | None = None

    def at(self, step: int) -> Stack:
        """The networks after ``step`` updates; raises ``KeyError`` naming the steps that were kept."""
        if step not in self.kept:
            raise KeyError(f"step {step} was not kept; kept are {sorted(self.kept)}")
        return self.kept[step]


@dataclass
class Plan:
    """The settings of a run, checked; the same for every chunk of members."""

    steps: int
    batch: int | None
    objective: Objective
    optimizer: str
    hyper: Mapping[str, Any]
    schedule: Schedule
    mask: Mapping[str, Tensor | Along]
    hook: Callable[[Stack, int], None] | None
    augment: Callable[[Tensor, Streams], Tensor] | None
    measure: Measure | None
    measure_at: frozenset[int]
    keep_at: frozenset[int]
    keep_below: tuple[float, ...]
    check_every: int
    stop_below: bool
    precision: str | None
    train_loss: Callable[[Stack, Batches], Tensor]


def fit(
    build: Callable[[], nn.Module] | Stack,
    x: Tensor | Along | None = None,
    y: Tensor | Along | None = None,
    *,
    steps: int,
    seeds: Sequence[int] | None = None,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    batch: int | None = 64,
    loss: Loss = cross_entropy,
    objective: Objective | None = None,
    optimizer: str = "sgd",
    schedule: str | Schedule = "constant",
    prepare: Callable[[Stack], None] | None = None,
    mask: Mapping[str, Tensor | Along] | None = None,
    frozen: Sequence[str] = (),
    augment: Callable[[Tensor, Streams], Tensor] | None = None,
    hook: Callable[[Stack, int], None] | None = None,
    measure: Measure | None = None,
    measure_at: Sequence[int] = (),
    keep_at: Sequence[int] = (),
    keep_below: Sequence[float] = (),
    check_every: int = 10,
    stop_below: bool = False,
    device: str = "cpu",
    members_at_once: int | None = None,
    precision: str | None = None,
    **hyper: Any,
) -> Run:
    """Train seeds x swept settings together.

    Args:
        build: makes one plain module; called once a seed under that seed's random state. Or a ``Stack`` to go on from.
        x, y: training set [N, ...] and targets [N, ...], shared, or ``along("seed", tensor)`` where members differ.
        steps: updates. ``batch``: examples an update, ``None`` for all; their order depends on the seed alone.
        sweep: axis name -> values. Names of the optimizer's hyperparameters (``lr``, ``weight_decay`` ...) set them;
            any other is the notebook's own, read in ``objective``, ``prepare`` or ``hook`` by ``nets.setting(name)``.
        loss: outputs [M, B, ...], targets [M, B, ...] -> [M]. ``objective``: (nets, batch) -> [M] replaces it altogether.
        optimizer: ``sgd``, ``adam``, ``adamw``, ``adagrad``, with torch's hyperparameters as keywords (``lr=0.1``).
        schedule: ``constant``, ``cosine``, ``linear`` or a function of the step giving a factor on the learning rate.
        prepare: changes the stack once before training (initial scale, surgery).
        mask: parameter name -> 0/1 tensor [*shape] (or ``along``): zeros are set and stay zero. ``frozen``: names kept
            as they are.
        augment: (x [M, B, ...], streams) -> x. ``hook``: (nets, updates done) after every update.
        measure, measure_at: what is recorded, and after how many updates (0 = before training).
        keep_at: numbers of updates to keep the networks at. ``keep_below``: training-loss thresholds, checked every
            ``check_every`` updates on the whole training set in evaluation mode. ``stop_below``: train no longer than
            until every member has reached all of them; the history is NaN from there on, ``steps`` the most updates.
        members_at_once: chunk of members trained together; by default as many as fit into memory.
        precision: ``"bf16"`` for autocast, else full.
    Raises:
        ValueError: an argument outside what is allowed; one line naming value and range, before any training.
    """
    nets = _initial(build, seeds, sweep or {}, optimizer, x, device)
    if steps < 1 or check_every < 1:
        raise ValueError(f"steps = {steps}, check_every = {check_every}: both must be at least 1")
    late = [s for s in [*measure_at, *keep_at] if not 0 <= s <= steps]
    if late:
        raise ValueError(f"step {late[0]} in measure_at or keep_at: allowed are 0 to {steps}")
    if stop_below and (not keep_below or any([*keep_at, *measure_at])):
        raise ValueError("stop_below needs keep_below, and no keep_at or measure_at above 0: that step may never come")
    if objective is None and (x is None or y is None):
        raise ValueError("fit needs x and y, or an objective of its own")
    if precision not in (None, "bf16"):
        raise ValueError(f"precision = {precision!r}: allowed are None, 'bf16'")
    for name in [*frozen, *(mask or {})]:
        if name not in nets.params:
            raise ValueError(f"parameter {name!r}: this network has {', '.join(nets.params)}")
    if prepare is not None:
        prepare(nets)

    def supervised(nets: Stack, batch: Batch) -> Tensor:
        return loss(nets(batch.x), batch.y)

    def train_loss(nets: Stack, batches: Batches) -> Tensor:
        with torch.no_grad():
            return loss(nets.predict(batches.x.whole, each=True), batches.y.whole)

    plan = Plan(
        steps, batch, objective or supervised, optimizer, hyper, schedule_of(schedule, steps), mask or {}, hook, augment,
        measure, frozenset(measure_at), frozenset(keep_at), tuple(sorted(keep_below, reverse=True)), check_every,
        stop_below, precision, train_loss,
    )  # fmt: skip
    size = members_at_once or members_that_fit(nets, x, batch)
    shelf = Shelf(nets, plan)
    pieces = [_train(nets, range(m, min(m + size, nets.members)), plan, shelf, x, y, frozen)
              for m in range(0, nets.members, size)]  # fmt: skip
    return _assemble(nets, pieces, plan, shelf)


def _initial(
    build: Callable[[], nn.Module] | Stack, seeds: Sequence[int] | None, sweep: Mapping[str, Sequence[Any]],
    optimizer: str, x: Tensor | Along | None, device: str,
) -> Stack:  # fmt: skip
    """The untrained stack, hyperparameter axes outermost so that equal members lie together."""
    if isinstance(build, Stack):
        if seeds is not None or sweep:
            raise ValueError("a Stack brings its own axes: give no seeds and no sweep with it")
        return build.copy().to(device)
    if not seeds:
        raise ValueError("fit needs at least one seed")
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds = {list(seeds)}: every seed may stand only once")
    empty = [axis for axis, values in sweep.items() if len(values) == 0]
    if empty or "seed" in sweep:
        raise ValueError(f"sweep of {(empty or ['seed'])[0]!r}: give at least one value; seeds go into seeds=")
    hyper = set(allowed_hyperparameters(optimizer))
    axes = {axis: sweep[axis] for axis in sorted(sweep, key=lambda a: a not in hyper)} | {"seed": seeds}
    nets = build_stack(build, seeds, axes)
    values = x.values if isinstance(x, Along) else x
    floating = values is not None and values.is_floating_point()
    return nets.to(device, values.dtype if floating else None)


class Shelf:
    """Networks kept on the way, allocated once for all members; every chunk writes its own rows."""

    @torch.no_grad()
    def __init__(self, nets: Stack, plan: Plan) -> None:
        self.kept = {step: nets.copy() for step in sorted(plan.keep_at)}
        self.below = {threshold: nets.copy() for threshold in plan.keep_below}
        for stack in self.below.values():  # a threshold never reached leaves NaN
            for value in stack.state.values():
                if value.is_floating_point():
                    value.fill_(torch.nan)
        self.reached = torch.full((nets.members, len(plan.keep_below)), torch.nan, device=nets.device)

    def waited_for(self, rows: range) -> bool:
        """Whether one of these members has yet to reach a threshold."""
        return bool(self.reached[rows.start : rows.stop].isnan().any())


@dataclass
class Piece:
    """One chunk: its networks, the members (``rows``) they are, and its results with the chunk's member axis first."""

    nets: Stack
    rows: range
    losses: Tensor = field(default_factory=lambda: torch.zeros(0))
    broken: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    measured: dict[int, Mapping[str, Tensor]] = field(default_factory=dict)

    def put(self, into: Stack, state: Mapping[str, Tensor], which: Tensor | None = None) -> None:
        """Copy ``state`` (only the members in the boolean mask ``which``) to this chunk's rows of a stack of all."""
        for name, value in into.state.items():
            own = value[self.rows.start : self.rows.stop]
            if which is None:
                own.copy_(state[name])
            else:
                own[which] = state[name][which]


def _train(
    whole: Stack, rows: range, plan: Plan, shelf: Shelf, x: Tensor | Along | None, y: Tensor | Along | None,
    frozen: Sequence[str],
) -> Piece:  # fmt: skip
    nets = whole if len(rows) == whole.members else whole.chunk(rows)
    for name, p in nets.net.named_parameters():
        p.requires_grad_(name.replace("/", ".") not in frozen)
    batches = Batches(nets, x, y, plan.batch)
    masks = [(nets.params[name], _mask(value, nets)) for name, value in plan.mask.items()]
    for p, m in masks:
        p.mul_(m)
    opt = StackOptimizer(nets, plan.optimizer, plan.hyper)
    nets.randomness(Streams(nets.labels("seed"), "dropout", nets.device))
    augmenting = Streams(nets.labels("seed"), "augment", nets.device)
    piece, losses = Piece(nets, rows), []
    _observe(piece, plan, shelf, batches, 0)
    nets.net.train()
    for batch in _progress(batches.draw(plan.steps), plan.steps):
        if not nets.net.training:  # after a measurement; setting it walks over all layers
            nets.net.train()
        if plan.augment is not None:
            batch.x = plan.augment(batch.x, augmenting)
        opt.zero_grad()
        with torch.autocast(nets.device.type, torch.bfloat16, enabled=plan.precision == "bf16"):
            values = plan.objective(nets, batch)
        values.sum().backward()
        opt.step(plan.schedule(batch.step))
        for p, m in masks:
            p.mul_(m)
        losses.append(values.detach())
        if plan.hook is not None:
            with torch.no_grad():
                plan.hook(nets, batch.step + 1)
        _observe(piece, plan, shelf, batches, batch.step + 1)
        if plan.stop_below and not shelf.waited_for(rows):
            break
    opt.zero_grad()  # gradients are as large as the networks
    nets.net.eval()
    nets.randomness(None)
    piece.losses = torch.stack(losses, 1).float().cpu()
    piece.broken = ~piece.losses[:, -1].isfinite()
    piece.losses = F.pad(piece.losses, (0, plan.steps - len(losses)), value=torch.nan)
    if nets is not whole:
        piece.put(whole, nets.state)
        piece.nets = whole
    return piece


def _mask(value: Tensor | Along, nets: Stack) -> Tensor:
    if isinstance(value, Along):
        return value.flat()[value.rows(nets)].to(nets.device)
    return value.to(nets.device)


@torch.no_grad()
def _observe(piece: Piece, plan: Plan, shelf: Shelf, batches: Batches, done: int) -> None:
    """Measurements and copies due after ``done`` updates."""
    nets = piece.nets
    if plan.measure is not None and done in plan.measure_at:
        nets.net.eval()
        piece.measured[done] = {name: value.detach().cpu() for name, value in plan.measure(nets, done).items()}
    if done in plan.keep_at:
        piece.put(shelf.kept[done], nets.state)
    if done % plan.check_every == 0 and shelf.waited_for(piece.rows):
        losses, reached = plan.train_loss(nets, batches), shelf.reached[piece.rows.start : piece.rows.stop]
        for i, threshold in enumerate(plan.keep_below):
            new = (losses < threshold) & reached[:, i].isnan()
            reached[new, i] = float(done)
            piece.put(shelf.below[threshold], nets.state, new)


def _progress(batches: Any, total: int) -> Any:
    """A progress bar over steps where ``REPRO_PROGRESS`` asks for one; quiet in committed outputs."""
    if not os.environ.get("REPRO_PROGRESS"):
        return batches
    from tqdm import tqdm

    return tqdm(batches, total=total, unit="step", leave=False)


def _assemble(final: Stack, pieces: list[Piece], plan: Plan, shelf: Shelf) -> Run:
    import xarray as xr

    for stack in (final, *shelf.kept.values(), *shelf.below.values()):
        stack.net.eval()
    loss = torch.cat([p.losses for p in pieces])
    data = {"loss": final.array(loss, "step", step=range(plan.steps))}
    at = sorted(pieces[0].measured)
    for name in pieces[0].measured[at[0]] if at else ():
        values = torch.cat([torch.stack([p.measured[a][name] for a in at], 1) for p in pieces])  # [M, at, ...]
        extra = [f"{name}_{i}" for i in range(values.dim() - 2)]
        data[name] = final.array(values, "at", *extra, at=at)
    # largest and smallest pass on NaN and infinity, in a sixteenth of the time that asking every number takes
    ends = [(p.flatten(1).amax(1), p.flatten(1).amin(1)) for p in final.params.values()]
    finite = [(high.isfinite() & low.isfinite()).cpu() for high, low in ends]
    broken = torch.cat([p.broken for p in pieces]) | ~torch.stack(finite).all(0)
    run = Run(final, xr.Dataset(data), final.array(broken), shelf.kept, shelf.below)
    if plan.keep_below:
        run.reached = final.array(shelf.reached, "below", below=list(plan.keep_below))
    return run
