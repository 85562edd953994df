"""Robust averages of gradients as objectives for ``fit`` (Chatterjee and Zielinski 2022), used as::

    fit(build, x, y, objective=winsorised(cross_entropy, clip=4), ...)

An objective's value is the plain minibatch loss; its gradient is the robust average. Per-example gradients need
networks without batch norm and dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap

from repro.train.batches import Batch
from repro.train.layers import Linear
from repro.train.stack import Stack

Loss = Callable[[Tensor, Tensor], Tensor]
Objective = Callable[[Stack, Batch], Tensor]


def winsorised(loss: Loss, clip: int | str) -> Objective:
    """Per coordinate, the per-example gradients clipped to the (c+1)-th smallest and largest of the batch, then averaged.

    ``clip``: c, or the name of a swept axis that holds each member's c. c = 0 is the plain average. Raises ValueError
    unless 0 <= 2 c < batch, or for networks with buffers.
    """

    def objective(nets: Stack, batch: Batch) -> Tensor:
        c = nets.setting(clip) if isinstance(clip, str) else torch.full((nets.members,), clip, device=nets.device)
        size = batch.x.shape[1]
        if int(c.min()) < 0 or 2 * int(c.max()) >= size:
            raise ValueError(f"clip = {c.tolist()}: a batch of {size} allows 0 to {(size - 1) // 2}")
        gradients, values = example_gradients(nets, loss, batch.x, batch.y)
        return _with_gradient(nets, values, {n: _winsorised_mean(g, c) for n, g in gradients.items()})

    return objective


def median_of_parts(loss: Loss, parts: int = 3) -> Objective:
    """Per coordinate, the median of the gradients of ``parts`` equal parts of the batch (M3 with three).

    Raises ValueError where the batch does not divide into ``parts``.
    """

    def objective(nets: Stack, batch: Batch) -> Tensor:
        if batch.x.shape[1] % parts:
            raise ValueError(f"parts = {parts}: a batch of {batch.x.shape[1]} does not divide into them")
        pieces = zip(batch.x.chunk(parts, 1), batch.y.chunk(parts, 1), strict=True)
        values, gradients = zip(*(_batch_gradient(nets, loss, *piece) for piece in pieces), strict=True)
        return _with_gradient(nets, torch.stack(values).mean(0), _median(gradients))

    return objective


def rolling_median(loss: Loss, window: int = 3) -> Objective:
    """Per coordinate, the median of the last ``window`` minibatch gradients (RM3 with three); fewer at the start.

    Needs no per-example gradients. Make a new one for every run.
    """
    history: list[dict[str, Tensor]] = []

    def objective(nets: Stack, batch: Batch) -> Tensor:
        if batch.step == 0:  # the next chunk of members
            history.clear()
        value, gradient = _batch_gradient(nets, loss, batch.x, batch.y)
        history.append(gradient)
        del history[:-window]
        return _with_gradient(nets, value, _median(history))

    return objective


def example_gradients(nets: Stack, loss: Loss, x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Gradients of every example of [M, B, ...] by parameter name, examples last: [M, *shape, B]; and the loss [M].

    ``loss``: outputs [M, B, ...], targets [M, B, ...] -> [M], a mean over examples. Raises ValueError for networks with
    buffers, whose examples are not independent in training.
    """
    if nets.buffers:
        raise ValueError(f"buffer {next(iter(nets.buffers))!r}: per-example gradients need networks without buffers")
    found = _outer_products(nets, loss, x, y)
    return found if found is not None else _mapped_gradients(nets, loss, x, y)


def _outer_products(nets: Stack, loss: Loss, x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], Tensor] | None:
    """From the inputs and errors of linear layers, each called once on [M, B, features]; None for other networks.

    Some three times as fast as the general way, and the examples come out last, as sorting wants them.
    """
    layers = {n.replace("/", "."): m for n, m in nets.net.named_modules() if isinstance(m, Linear)}
    owned = {f"{n}.{p}" if n else p for n, layer in layers.items() for p, _ in layer.named_parameters()}
    if owned != set(nets.params):
        return None
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}
    hooks = [
        layer.register_forward_hook(lambda _, inputs, out, name=name: calls[name].append((inputs[0].detach(), out)))
        for name, layer in layers.items()
    ]
    try:
        values = loss(nets(x), y)
    finally:
        for hook in hooks:
            hook.remove()
    if any(len(seen) != 1 or seen[0][1].dim() != 3 for seen in calls.values()):
        return None
    errors = torch.autograd.grad(values.sum(), [seen[0][1] for seen in calls.values()])
    gradients = {}
    for (name, seen), error in zip(calls.items(), errors, strict=True):
        inputs = seen[0][0].mT.contiguous()
        delta = x.shape[1] * error.mT.contiguous()  # of one example's loss, not of its share in the mean
        gradients[f"{name}.weight" if name else "weight"] = delta[:, :, None] * inputs[:, None]
        if layers[name].bias is not None:
            gradients[f"{name}.bias" if name else "bias"] = delta
    return gradients, values


def _mapped_gradients(nets: Stack, loss: Loss, x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """The general way: ``vmap`` over members and examples."""

    def one(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(functional_call(nets.template, params, (x[None],))[None], y[None, None])[0]

    def member(params: dict[str, Tensor], _: dict[str, Tensor], x: Tensor, y: Tensor):
        return vmap(grad_and_value(one), (None, 0, 0))(params, x, y)

    with torch.no_grad():
        gradients, values = nets.each(member, x, y)
    return {name: g.movedim(1, -1) for name, g in gradients.items()}, values.mean(1)


def _winsorised_mean(gradients: Tensor, c: Tensor) -> Tensor:
    """[M, *shape, B], clip counts [M] -> [M, *shape]."""
    members, size = gradients.shape[0], gradients.shape[-1]
    ordered = _sorted(gradients.flatten(1, -2))  # [M, P, B]
    rank = torch.arange(size, device=c.device).expand(members, size)
    clipped = torch.maximum(torch.minimum(rank, size - 1 - c[:, None]), c[:, None])  # the rank that stands in
    weights = torch.zeros_like(ordered[:, 0]).scatter_add(1, clipped, torch.ones_like(ordered[:, 0])) / size
    return (ordered @ weights[..., None])[..., 0].view(gradients.shape[:-1])


def _sorted(values: Tensor) -> Tensor:
    """Ascending along the last axis; on the CPU by NumPy, whose vectorised sort is several times faster."""
    if values.device.type != "cpu":
        return values.sort(-1).values
    import numpy as np

    return torch.from_numpy(np.sort(values.contiguous().numpy(), axis=-1))


def _median(gradients: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The coordinate-wise median, the mean of the middle two for an even number."""
    count = len(gradients)
    found = {}
    for name in gradients[0]:
        ordered = torch.stack([g[name] for g in gradients]).sort(0).values
        found[name] = 0.5 * (ordered[(count - 1) // 2] + ordered[count // 2])
    return found


def _batch_gradient(nets: Stack, loss: Loss, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    values = loss(nets(x), y)
    names, params = zip(*_trained(nets).items(), strict=True)
    gradients = torch.autograd.grad(values.sum(), params, materialize_grads=True)
    return values.detach(), dict(zip(names, gradients, strict=True))


def _with_gradient(nets: Stack, values: Tensor, gradients: Mapping[str, Tensor]) -> Tensor:
    """A loss [M] of the given ``values`` whose gradient is ``gradients`` [M, *shape] by name."""
    linear = sum((p * gradients[name]).flatten(1).sum(1) for name, p in _trained(nets).items())
    return values.detach() + (linear - linear.detach())


def _trained(nets: Stack) -> dict[str, Tensor]:
    return {n.replace("/", "."): p for n, p in nets.net.named_parameters() if p.requires_grad}
