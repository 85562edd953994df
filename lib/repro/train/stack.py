"""A stack: M networks of one architecture, their parameters labelled by named axes (seed, lr ...)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from repro.rng import Streams
from repro.train.layers import Dropout, stackable, twin

if TYPE_CHECKING:
    import xarray as xr

Axes = dict[str, list[Any]]
CACHED = 4096  # examples of all members together that pass at once on a CPU


class Vmapped(nn.Module):
    """The slow, general way: any module under ``vmap``. Parameter names as in the module, with "." written as "/"."""

    def __init__(self, module: nn.Module, members: int) -> None:
        super().__init__()
        if any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in module.modules()):
            raise ValueError(
                "dropout needs a stackable module (see repro.train.layers): under vmap its draws are not the seed's own"
            )
        self.__dict__["module"] = module  # not a child: its own parameters are placeholders
        for name, value in module.named_parameters():
            stacked = value.detach().expand(members, *value.shape).clone()
            self.register_parameter(name.replace(".", "/"), nn.Parameter(stacked, requires_grad=value.requires_grad))
        for name, value in module.named_buffers():
            self.register_buffer(name.replace(".", "/"), value.detach().expand(members, *value.shape).clone())

    def forward(self, x: Tensor) -> Tensor:
        self.module.train(self.training)
        state = {name.replace("/", "."): value for name, value in [*self.named_parameters(), *self.named_buffers()]}
        return vmap(lambda s, one: functional_call(self.module, s, (one,)))(state, x)


class Stack:
    """M networks that are evaluated and trained together.

    ``axes`` names what the members vary over, outermost first; their product has M entries. Calling the stack maps
    inputs [M, B, ...] to outputs [M, B, ...]; ``nets.shared(x)`` feeds the same [B, ...] to every member.

    Attributes: ``template`` (a plain module, one member's architecture), ``net`` (the stacked module), ``axes``.
    """

    def __init__(self, template: nn.Module, axes: Mapping[str, Sequence[Any]], net: nn.Module | None = None) -> None:
        self.template = template
        self.axes: Axes = {name: list(labels) for name, labels in axes.items()}
        self.members = math.prod(len(labels) for labels in self.axes.values())
        self.parts: dict[str, tuple[list[Any], list[Any]]] = {}  # labels of a chunk: axis -> (all, each member's)
        if net is None:
            net = (twin if stackable(template) else Vmapped)(template, self.members)
        self.net = net

    @classmethod
    def of(cls, modules: Sequence[nn.Module], axes: Mapping[str, Sequence[Any]] | None = None) -> Stack:
        """Stack given modules of one architecture, by default along one axis ``member``."""
        stack = cls(modules[0], axes or {"member": range(len(modules))})
        if stack.members != len(modules):
            raise ValueError(f"{len(modules)} modules, but the axes {stack.shape} hold {stack.members}")
        stack.load({name: torch.stack([m.state_dict()[name] for m in modules]) for name in modules[0].state_dict()})
        return stack

    # -- state -----------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> dict[str, int]:
        return {name: len(labels) for name, labels in self.axes.items()}

    def _named(self, items: Iterator[tuple[str, Tensor]]) -> dict[str, Tensor]:
        return {name.replace("/", "."): value for name, value in items}

    @property
    def params(self) -> dict[str, Tensor]:
        """Parameters by name, each [M, ...]; the stack's own memory, not a copy."""
        return self._named((n, p.data) for n, p in self.net.named_parameters())

    @property
    def buffers(self) -> dict[str, Tensor]:
        """Buffers by name (running averages), each [M, ...]."""
        return self._named(self.net.named_buffers())

    @property
    def state(self) -> dict[str, Tensor]:
        return {**self.params, **self.buffers}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Overwrite parameters and buffers with tensors [M, ...] by name; unknown names or shapes raise ``ValueError``."""
        own = self.state
        for name, value in state.items():
            if name not in own or own[name].shape != value.shape:
                expected = {n: tuple(t.shape) for n, t in own.items()}.get(name, f"one of {sorted(own)}")
                raise ValueError(f"{name} of shape {tuple(value.shape)}: expected {expected}")
            own[name].copy_(value)

    def flat(self) -> Tensor:
        """All parameters of each member as one vector, [M, P], in the order of ``template.parameters()``."""
        return torch.cat([p.flatten(1) for p in self.params.values()], dim=1)

    def copy(self) -> Stack:
        """An independent copy (a checkpoint)."""
        return Stack(self.template, self.axes, copy.deepcopy(self.net))

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Stack:
        """Move in place; returns itself."""
        self.net.to(device=device, dtype=dtype)
        return self

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    # -- members ---------------------------------------------------------------------------------------------------

    def labels(self, axis: str) -> list[Any]:
        """The label of each member along ``axis``, length M."""
        if axis in self.parts:
            return self.parts[axis][1]
        if axis not in self.axes:
            raise ValueError(f"axis {axis!r}: this stack has {list(self.axes)}")
        sizes = list(self.shape.values())
        position = list(self.axes).index(axis)
        inner = math.prod(sizes[position + 1 :])
        return [self.axes[axis][m // inner % sizes[position]] for m in range(self.members)]

    def ordered_labels(self, axis: str) -> list[Any]:
        """The labels of ``axis`` in order, also where this stack is only a chunk of a larger one."""
        return self.parts[axis][0] if axis in self.parts else self.axes[axis]

    def setting(self, axis: str) -> Tensor:
        """The numeric labels of ``axis`` for each member, [M]."""
        return torch.tensor(self.labels(axis), device=self.device)

    def sel(self, **labels: Any) -> Stack:
        """The members with these labels (one value drops the axis, a list keeps it), e.g. ``nets.sel(lr=0.1)``."""
        rows, axes = list(range(self.members)), {}
        for axis in labels:
            self.labels(axis)  # raises for an unknown axis
        for axis, own in self.axes.items():
            wanted = labels.get(axis, own)
            chosen = wanted if isinstance(wanted, list) else [wanted]
            missing = [label for label in chosen if label not in own]
            if missing:
                raise ValueError(f"{axis} = {missing[0]!r}: this stack has {own}")
            at = self.labels(axis)
            rows = [m for m in rows if at[m] in chosen]
            if isinstance(wanted, list):
                axes[axis] = [label for label in own if label in chosen]
        return self.take(rows, axes or {"member": [0]})

    def take(self, rows: Sequence[int], axes: Mapping[str, Sequence[Any]]) -> Stack:
        """The members in ``rows`` as a stack of its own, labelled by ``axes``."""
        stack = Stack(self.template, axes)
        stack.to(self.device, next(iter(self.params.values())).dtype)
        stack.load({name: value[list(rows)] for name, value in self.state.items()})
        return stack

    def chunk(self, rows: Sequence[int]) -> Stack:
        """Some members along one axis ``member``; they still know their labels along the original axes."""
        part = self.take(rows, {"member": list(rows)})
        for axis in self.axes:
            labels = self.labels(axis)
            part.parts[axis] = (self.ordered_labels(axis), [labels[m] for m in rows])
        return part

    def member(self, index: int) -> nn.Module:
        """Member ``index`` as a plain module (a copy, in evaluation mode)."""
        module = copy.deepcopy(self.template).to(self.device, next(iter(self.params.values())).dtype)
        module.load_state_dict({name: value[index] for name, value in self.state.items()})
        return module.eval()

    # -- evaluation ------------------------------------------------------------------------------------------------

    def __call__(self, x: Tensor) -> Tensor:
        return self.net(x)

    def shared(self, x: Tensor) -> Tensor:
        """The same inputs [B, ...] for every member: outputs [M, B, ...]."""
        return self.net(x.expand(self.members, *x.shape))

    @torch.no_grad()
    def predict(self, x: Tensor, batch: int | None = None, each: bool = False) -> Tensor:
        """Outputs in evaluation mode, [M, N, ...]; ``x`` is [N, ...], or [M, N, ...] with ``each=True``.

        ``batch``: examples at once, by default up to 1024; of many members on a CPU fewer, so that caches hold them.
        """
        if batch is None:
            batch = min(1024, max(32, CACHED // self.members)) if self.device.type == "cpu" else 1024
        was, parts = self.net.training, []
        self.net.eval()
        for part in x.split(batch, dim=1 if each else 0):
            parts.append(self(part) if each else self.shared(part))
        self.net.train(was)
        return torch.cat(parts, dim=1)

    def each(
        self, fn: Callable[[dict[str, Tensor], dict[str, Tensor]], Any], *args: Tensor, chunk: int | None = None
    ) -> Any:
        """``vmap`` of ``fn(params, buffers, *args)`` over the members: measurements written for one plain network.

        Inside, ``functional_call(nets.template, (params, buffers), x)`` runs it. ``args`` carry a leading axis [M].
        """
        return vmap(fn, chunk_size=chunk, randomness="error")(self.params, self.buffers, *args)

    def array(self, values: Tensor, *dims: str, **coords: Any) -> xr.DataArray:
        """Label [M, ...] values: the member axis becomes the stack's named axes, further ones are ``dims``."""
        import xarray as xr

        shaped = values.detach().cpu().reshape(*self.shape.values(), *values.shape[1:]).numpy()
        return xr.DataArray(shaped, dims=[*self.axes, *dims], coords={**self.axes, **coords})

    def randomness(self, streams: Streams | None) -> None:
        """Give the dropout layers their streams (the trainer does so at the start of a run)."""
        for module in self.net.modules():
            if isinstance(module, Dropout):
                module.streams = streams

    def __repr__(self) -> str:
        return f"Stack({' x '.join(f'{n} {a}' for a, n in self.shape.items())} of {type(self.template).__name__})"


def build_stack(build: Callable[[], nn.Module], seeds: Sequence[int], axes: Mapping[str, Sequence[Any]]) -> Stack:
    """Build one module a seed (under that seed's own random state) and repeat it along the other axes.

    ``axes`` must contain ``seed``. Torch's global random state is left as it was.
    """
    modules = {}
    for seed in dict.fromkeys(seeds):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed also asks for every accelerator
            modules[seed] = build()
    stack = Stack(next(iter(modules.values())), axes)
    states = {seed: module.state_dict() for seed, module in modules.items()}
    for name, value in stack.state.items():
        for row, seed in zip(value, stack.labels("seed"), strict=True):
            row.copy_(states[seed][name])
    return stack
