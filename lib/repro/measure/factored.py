"""Inner products of per-example gradients from layers' inputs and errors, for networks of linear layers,
convolutions and batch norms: one forward and one backward pass for all examples instead of a gradient each.

What is held of every layer, and how its inner products follow, is in :mod:`repro.measure.layer_gradients`. Held are at
most ``HELD`` numbers of each of the two sets (of more examples, parts in turn), beside one block of one layer's
gradients and the result: never N x P.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call, vmap

from repro.measure.gradients import Gram, Loss, Tensors, check_lengths, cross_gram, eval_mode, member, self_gram, slices
from repro.measure.layer_gradients import (
    BATCH_NORMS,
    CONVOLUTIONS,
    LinearFactors,
    Part,
    channels_at_once,
    conv_gradients,
    mirror,
    norm_gradients,
)

Held = dict[str, list[Part]]
HELD = 2**25  # numbers of one set's layers, 128 MiB in float32
PASSED = (32, 2**19, 256)  # examples passed at once: no fewer, inputs' numbers, no more
ELSE = "use repro.measure.gradients.gram"


class Seen(NamedTuple):
    """A layer's input [N, ...] (a batch norm's: normalised), and where its errors arrive in the backward pass."""

    a: Tensor
    edge: GradientEdge


def gradient_factors(
    module: nn.Module, params: Tensors, buffers: Tensors, x: Tensor, y: Tensor, loss: Loss, chunk: int | None = None
) -> Held:
    """What every example's gradient follows from, by layer: a part for each ``chunk`` of examples, passed at once (by
    default as many as ``PASSED`` allows).

    ``loss(outputs, targets)`` receives one example as a batch of one. Raises ValueError where a parameter belongs to
    something else than ``nn.Linear``, a convolution or a batch norm with running statistics, is used otherwise than by
    calling its layer once, on a batch with an example a row, or is left out of ``params``.
    """
    layers = _layers(module, params)

    def passes(layout: torch.memory_format) -> Held:
        given = {name: _laid_out(value, layout) for name, value in params.items()}
        chunks = slices(len(x), chunk or _at_once(x))
        parts = [_one_pass(module, layers, given, buffers, x[at], y[at], loss) for at in chunks]
        return {name: [part[name] for part in parts] for name in layers}

    # Maps follow the weights' layout: with channels last, pooling is ten times faster and patches are copied in runs.
    try:
        return passes(torch.channels_last)
    except RuntimeError:  # a module that takes a ``view`` of its maps needs them row by row
        return passes(torch.contiguous_format)


def held_slices(
    module: nn.Module, params: Tensors, buffers: Tensors, x: Tensor, y: Tensor, loss: Loss, chunk: int | None = None
) -> list[slice]:
    """Slices of examples whose factors are at most ``HELD`` numbers, or of ``chunk``; raises as the factors do."""
    one = gradient_factors(module, params, buffers, x[:1], y[:1], loss)
    return slices(len(x), max(chunk or _at_once(x), HELD // sum(part.numbers for (part,) in one.values())))


def factored_gram(
    module: nn.Module,
    params: Tensors,
    buffers: Tensors,
    first: tuple[Tensor, Tensor],
    second: tuple[Tensor, Tensor] | None,
    loss: Loss,
    chunk: int | None = None,
) -> Gram:
    """Inner products between the gradients of two sets of examples ``(x, y)``: what ``gradients.gram`` gives, faster.

    With ``second=None`` the first set is compared with itself, each pair once. ``chunk``: examples passed at once,
    as in :func:`gradient_factors`. Raises ValueError as :func:`gradient_factors` does.
    """
    check_lengths(*first)
    check_lengths(*(second or first))

    def held(data: tuple[Tensor, Tensor]) -> Callable[[slice], Held]:
        return lambda at: gradient_factors(module, params, buffers, data[0][at], data[1][at], loss, chunk)

    sides = [(held(data), held_slices(module, params, buffers, *data, loss, chunk)) for data in (first, second) if data]
    like = next(iter(params.values()))
    if second is None:
        return self_gram(like, *sides[0], _add_products)
    return cross_gram(like, *sides[0], *sides[1], _add_products, _norms)


def stacked_factored_gram(
    module: nn.Module,
    params: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    first: tuple[Tensor, Tensor],
    second: tuple[Tensor, Tensor],
    loss: Loss,
) -> Gram:
    """:func:`factored_gram` for M networks: tensors, inputs and targets all carry a leading member axis.

    Returns products [M, N1, N2] and norms [M, N1], [M, N2].
    """
    grams = [
        factored_gram(module, member(params, m), member(buffers, m), *((x[m], y[m]) for x, y in (first, second)), loss)
        for m in range(len(first[0]))
    ]
    return Gram(*(torch.stack(part) for part in zip(*grams, strict=True)))


# -- how -----------------------------------------------------------------------------------------------------------


def _at_once(x: Tensor) -> int:
    least, numbers, most = PASSED
    return min(most, max(least, numbers // max(1, x[0].numel())))


def _layers(module: nn.Module, params: Tensors) -> dict[str, nn.Module]:
    """The layers with parameters, by name. Raises ValueError where they do not own exactly ``params``."""
    known = (nn.Linear, *CONVOLUTIONS, *BATCH_NORMS)  # a subclass may compute something else
    layers = {
        name: layer
        for name, layer in module.named_modules()
        if type(layer) in known and any(True for _ in layer.parameters(recurse=False))
    }
    own = {f"{name}.{p}" if name else p for name, layer in layers.items() for p, _ in layer.named_parameters()}
    for name in sorted(set(params) - own):
        raise ValueError(f"parameter {name!r} is not a linear layer's, a convolution's or a batch norm's: {ELSE}")
    for name in sorted(own - set(params)):
        raise ValueError(f"parameter {name!r} is not among those that are given: {ELSE}")
    for name, layer in layers.items():
        if type(layer) in BATCH_NORMS and layer.running_mean is None:
            raise ValueError(f"batch norm {name!r} keeps no running statistics: {ELSE}")
    return layers


def _one_pass(
    module: nn.Module,
    layers: dict[str, nn.Module],
    given: Tensors,
    buffers: Tensors,
    x: Tensor,
    y: Tensor,
    loss: Loss,
) -> dict[str, Part]:
    seen: dict[str, Seen] = {}
    handles = [layer.register_forward_hook(_note(seen, name, len(x))) for name, layer in layers.items()]
    try:
        with torch.enable_grad(), eval_mode(module):
            outputs = functional_call(module, (dict(given), dict(buffers)), (x,))
            total = vmap(lambda o, t: loss(o.unsqueeze(0), t.unsqueeze(0)))(outputs, y).sum()
    finally:
        for handle in handles:
            handle.remove()
    used = uses(total)
    for name, value in given.items():
        if used[id(value)] != 1 or name.rpartition(".")[0] not in seen:
            raise ValueError(
                f"parameter {name!r} is used {used[id(value)]} times, or its layer not applied once: {ELSE}"
            )
    deltas = torch.autograd.grad(total, [s.edge for s in seen.values()])
    return {name: _factors(layers[name], s.a, delta) for (name, s), delta in zip(seen.items(), deltas, strict=True)}


def _note(seen: dict[str, Seen], name: str, examples: int) -> Callable[[nn.Module, tuple, Tensor], None]:
    """A hook that keeps a layer's input and the place of its errors: the edge, for the output may change in place."""

    def hook(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        space = len(layer.kernel_size) if type(layer) in CONVOLUTIONS else 0
        plain = type(layer) in BATCH_NORMS or output.dim() == 2 + space
        if name in seen or len(inputs) != 1 or not plain or len(output) != examples or not output.requires_grad:
            raise ValueError(f"layer {name!r} is not applied once, to a batch with an example a row: {ELSE}")
        a = inputs[0].detach()
        if type(layer) in BATCH_NORMS:
            a = F.batch_norm(a, layer.running_mean, layer.running_var, eps=layer.eps)
        seen[name] = Seen(a, get_gradient_edge(output))

    return hook


def uses(total: Tensor) -> Counter[int]:
    """How often each leaf (by ``id``) enters the graph that ``total`` was computed by."""
    found: Counter[int] = Counter()
    nodes, met = [total.grad_fn], {total.grad_fn}
    while nodes:
        for node, _ in nodes.pop().next_functions:
            if hasattr(node, "variable"):
                found[id(node.variable)] += 1
            elif node is not None and node not in met:
                met.add(node)
                nodes.append(node)
    return found


def _factors(layer: nn.Module, a: Tensor, delta: Tensor) -> Part:
    if isinstance(layer, nn.Linear):
        return LinearFactors(a, delta, int(layer.bias is not None))
    return conv_gradients(layer, a, delta) if isinstance(layer, CONVOLUTIONS) else norm_gradients(a, delta)


def _laid_out(value: Tensor, layout: torch.memory_format) -> Tensor:
    value = value.detach()
    return (value.to(memory_format=layout, copy=True) if value.dim() == 4 else value).requires_grad_()


def _add_products(out: Tensor, left: Held, right: Held) -> None:
    """Chunk by chunk; of a set with itself each pair of chunks once."""
    same = left is right
    rows, columns = (
        slices(n, len(next(iter(h.values()))[0][0])) for n, h in zip(out.shape, (left, right), strict=True)
    )
    pairs = [(i, j) for i in range(len(rows)) for j in range(i + 1 if same else len(columns))]
    for name in left:
        for ones, others in _blocks(left[name], right[name]):
            for i, j in pairs:
                ones[i].add_products(out[rows[i], columns[j]], others[j])
    for i, j in pairs if same else ():
        tile = out[rows[i], columns[j]]
        if i == j:
            mirror(tile)
        else:
            out[columns[j], rows[i]] = tile.T


def _blocks(left: list[Part], right: list[Part]) -> Iterator[tuple[tuple[Part, ...], tuple[Part, ...]]]:
    """What two sets' chunks of one layer form at once."""
    channels = min(channels_at_once(left), channels_at_once(right))
    ones, others = (zip(*(part.blocks(channels) for part in parts), strict=True) for parts in (left, right))
    return ((block, block) for block in ones) if left is right else zip(ones, others, strict=True)


def _norms(held: Held) -> Tensor:
    """Of every example's gradient, [N]."""
    return sum(torch.cat([part.squares() for part in parts]) for parts in held.values()).sqrt()
