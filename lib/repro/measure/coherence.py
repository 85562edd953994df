"""Coherence of per-example gradients, and how the gradients of single logits cluster.

Coherence (Chatterjee and Zielinski 2022): α = |E g|^2 / E|g|^2 = E[g.g'] / E[g.g] in [0, 1] over a sample of m
examples. Orthogonal gradients give 1/m, so m α counts the examples that a step on one example helps.
Logit cosines (Fort and Ganguli 2019): gradients of one logit point alike on different examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from repro.measure import gradients
from repro.measure.curvature import spread
from repro.measure.factored import factored_gram, gradient_factors, held_slices
from repro.measure.gradients import Gram, member, per_example_gradients
from repro.measure.logit_factors import examples_at_once, logit_factors

if TYPE_CHECKING:
    from repro.train import Along, Stack

Loss = Callable[[Tensor, Tensor], Tensor]


class Coherence(NamedTuple):
    """``alpha`` [M] over ``examples`` examples, and ``layers``: layer name -> its own alpha [M]. The network's alpha is
    the average of its layers' weighted by their mean squared gradient norms.
    """

    alpha: Tensor
    layers: dict[str, Tensor]
    examples: int

    @property
    def scaled(self) -> Tensor:
        """m α, [M]: 1 for orthogonal gradients, m for equal ones."""
        return self.examples * self.alpha


class LogitCosines(NamedTuple):
    """Mean cosines between logit gradients on two different examples, each [...]: ``same_logit``, of these the pairs
    of one class ``same_logit_same_class``, and ``different_logit``.
    """

    same_logit_same_class: Tensor
    same_logit: Tensor
    different_logit: Tensor


def coherence(nets: Stack, loss: Loss, x: Tensor | Along, y: Tensor | Along, chunk: int | None = None) -> Coherence:
    """Coherence of each member's per-example gradients over (x, y), in memory O(chunk P), never N P.

    ``loss``: outputs [M, N, ...], targets [M, N, ...] -> [M]; x, y shared or ``along(...)``, all as for ``fit``.
    Evaluation mode. Networks of linear layers, convolutions and batch norms need no gradient of each example. ``chunk``:
    examples at once, by default up to 256 in such networks and 64 in others.
    """
    means: list[dict[str, Tensor]] = []
    squares: list[dict[str, Tensor]] = []
    members = list(_members(nets, loss, x, y))
    parts = _parts(*members[0], chunk)
    for one in members:
        mean, square = _moments(*one, chunk, parts)
        means.append({layer: g.square().sum() for layer, g in mean.items()})
        squares.append(square)
    up, down = ({layer: torch.stack([m[layer] for m in ms]) for layer in ms[0]} for ms in (means, squares))
    return Coherence(sum(up.values()) / sum(down.values()), {n: up[n] / down[n] for n in up}, len(members[0][3]))


def stack_gram(
    nets: Stack,
    loss: Loss,
    x: Tensor | Along,
    y: Tensor | Along,
    chunk: int | None = None,
    factored: bool | None = None,
) -> Gram:
    """Inner products of every two examples' gradients for each member: products [M, N, N], norms [M, N] (twice).

    Arguments as for :func:`coherence`. ``factored``: from layers' inputs and errors (networks of linear layers,
    convolutions and batch norms only), or from the gradients in chunks; by default the first where it is possible.
    ``chunk``: examples at once, by default up to 256 in the first way and 128 in the second.
    """
    grams = [_gram(*one, chunk, factored) for one in _members(nets, loss, x, y)]
    if len(grams) == 1:  # no copy of the largest thing there is
        return Gram(*(part.unsqueeze(0) for part in grams[0]))
    return Gram(*(torch.stack(part) for part in zip(*grams, strict=True)))


def coherence_of_groups(products: Tensor, groups: Tensor) -> Tensor:
    """α within each group of examples, from ``products`` [..., N, N] and group numbers [N] (0 ... G-1): [..., G].

    Compare groups of one size, or m α: α of orthogonal gradients is 1 / m.
    """
    belongs = one_hot(groups).to(products)  # [N, G]
    counts = belongs.sum(0)
    within = (belongs * (products @ belongs)).sum(-2) / counts**2
    return within / (products.diagonal(dim1=-2, dim2=-1) @ belongs / counts)


def logit_gram(nets: Stack, x: Tensor | Along, classes: int, chunk: int | None = None) -> Gram:
    """Inner products of the gradients of every two (example, logit) pairs, the logit running fastest: [M, N K, N K].

    Equals that of :func:`repro.measure.logit_clusters.logit_jacobian` without forming it; ``x`` is shared or each
    member's own. ``chunk``: pairs at once, member by member; by default all members of networks of linear layers are
    passed together where their errors fit memory.
    """
    whole = spread(nets, x)
    examples = whole.shape[1]
    at_once = chunk is None and examples <= examples_at_once(nets, classes)
    layers = logit_factors(nets, whole, classes) if at_once else None
    if layers is None:
        logits = torch.arange(classes, device=nets.device).repeat(examples)
        return stack_gram(nets, _picked, _repeated(x, classes), logits, chunk)
    products = layers[0].a.new_zeros(nets.members, examples * classes, examples * classes)
    for layer in layers:
        layer.add_products(products)
    norms = products.diagonal(dim1=1, dim2=2).sqrt()
    return Gram(products, norms, norms)


def logit_cosines(gram: Gram, labels: Tensor, classes: int) -> LogitCosines:
    """Mean cosines out of a :func:`logit_gram` of examples with ``labels`` [N], or each member's own [M, N]; pairs of an
    example with itself are left out.
    """
    n, k = labels.shape[-1], classes
    cosine = (gram.products / gram.norms1.unsqueeze(-1) / gram.norms2.unsqueeze(-2)).unflatten(-1, (n, k))
    cosine = cosine.unflatten(-3, (n, k)).movedim(-3, -2)  # [..., N, N, K, K]
    same = cosine.diagonal(dim1=-2, dim2=-1).mean(-1)  # [..., N, N]
    other = (cosine.sum((-2, -1)) - k * same) / (k * (k - 1))
    apart = ~torch.eye(n, dtype=torch.bool, device=labels.device)
    alike = apart & (labels.unsqueeze(-1) == labels.unsqueeze(-2))

    def mean(values: Tensor, pairs: Tensor) -> Tensor:
        return values.where(pairs, 0.0).sum((-2, -1)) / pairs.sum((-2, -1))

    return LogitCosines(mean(same, alike), mean(same, apart), mean(other, apart))


# -- how -----------------------------------------------------------------------------------------------------------


def _picked(outputs: Tensor, logit: Tensor) -> Tensor:
    """The chosen logit as a loss: [M, B, K], [M, B] -> [M]."""
    return outputs.gather(-1, logit.unsqueeze(-1)).flatten(1).mean(1)


def _repeated(x: Tensor | Along, times: int) -> Tensor | Along:
    """Every example ``times`` in a row."""
    if isinstance(x, Tensor):
        return x.repeat_interleave(times, 0)
    return replace(x, values=x.values.repeat_interleave(times, len(x.dims)))


def _members(nets: Stack, loss: Loss, x: Tensor | Along, y: Tensor | Along) -> Iterator[tuple]:
    """For each member: module, params, buffers, x, y and the loss of one plain network."""

    def plain(outputs: Tensor, targets: Tensor) -> Tensor:
        return loss(outputs[None], targets[None])[0]

    own = [not isinstance(data, Tensor) for data in (x, y)]
    values = [data.of(nets) if each else data.to(nets.device) for data, each in zip((x, y), own, strict=True)]
    for m in range(nets.members):
        one = [data[m] if each else data for data, each in zip(values, own, strict=True)]
        yield nets.template, member(nets.params, m), member(nets.buffers, m), *one, plain


def _parts(module, params, buffers, x, y, loss, chunk: int | None) -> list[slice] | None:
    """Slices of examples whose factors are held at once, the same for all members; None where layers have no factors."""
    try:
        return held_slices(module, params, buffers, x, y, loss, chunk)
    except ValueError:
        return None


def _moments(
    module, params, buffers, x, y, loss, chunk: int | None, parts: list[slice] | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """By layer, in the order of the parameters: the mean gradient (flat) and the mean squared gradient norm."""
    if parts is None:
        return _chunked_moments(module, params, buffers, x, y, loss, chunk or 64)
    order = list(dict.fromkeys(name.rpartition(".")[0] for name in params))
    means, squares = dict.fromkeys(order, 0), dict.fromkeys(order, 0)
    for at in parts:
        for layer, held in gradient_factors(module, params, buffers, x[at], y[at], loss, chunk).items():
            for part in held:
                means[layer] = means[layer] + part.total() / len(x)
                squares[layer] = squares[layer] + part.squares().sum() / len(x)
    return means, squares


def _chunked_moments(module, params, buffers, x, y, loss, chunk: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    layer_of = [name.rpartition(".")[0] for name in params]
    sizes = [p.numel() for p in params.values()]
    total = torch.zeros(sum(sizes), dtype=next(iter(params.values())).dtype, device=x.device)
    square = torch.zeros_like(total)
    for part_x, part_y in zip(x.split(chunk), y.split(chunk), strict=True):
        rows = per_example_gradients(module, params, buffers, part_x, part_y, loss)
        total += rows.sum(0)
        square += rows.square().sum(0)
    means: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}
    for layer, mean, norm in zip(layer_of, (total / len(x)).split(sizes), square.split(sizes), strict=True):
        means[layer] = torch.cat([means[layer], mean]) if layer in means else mean
        squares[layer] = squares.get(layer, 0) + norm.sum() / len(x)
    return means, squares


def _gram(module, params, buffers, x, y, loss, chunk: int | None, factored: bool | None) -> Gram:
    if factored is not False:
        try:
            return factored_gram(module, params, buffers, (x, y), None, loss, chunk)
        except ValueError:
            if factored:
                raise
    return gradients.gram(module, params, buffers, (x, y), None, loss, chunk or 128)
