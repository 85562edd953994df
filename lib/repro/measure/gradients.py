"""Per-example gradients and their inner products, by ``torch.func``.

A network is given as a module (its structure) with the tensors to run it on; tensors with a leading member axis
describe a stack of networks of one structure. The module is run in eval mode, so that an example's gradient does not
depend on the examples around it (no batch statistics, no dropout).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

Loss = Callable[[Tensor, Tensor], Tensor]
Tensors = Mapping[str, Tensor]
T = TypeVar("T")


class Gram(NamedTuple):
    """Inner products of two sets of gradients: ``products`` [N1, N2], ``norms1`` [N1], ``norms2`` [N2]."""

    products: Tensor
    norms1: Tensor
    norms2: Tensor


def per_example_gradients(
    module: nn.Module, params: Tensors, buffers: Tensors, x: Tensor, y: Tensor, loss: Loss, chunk: int | None = None
) -> Tensor:
    """Gradient of each example's loss with respect to all of ``params``, flattened in their order: [N, P].

    ``loss(outputs, targets)`` receives one example at a time as a batch of one, so a mean and a sum over the batch mean
    the same. ``chunk`` bounds the number of examples differentiated at once (memory, not result). Raises ValueError
    where x and y disagree in length.
    """
    check_lengths(x, y)
    with eval_mode(module):
        return _example_gradients(module, dict(params), dict(buffers), x, y, loss, chunk)


def stacked_gradients(
    module: nn.Module,
    params: Tensors,
    buffers: Tensors,
    x: Tensor,
    y: Tensor,
    loss: Loss,
    chunk: int | None = None,
    in_dims: tuple[int | None, int | None] = (None, None),
) -> Tensor:
    """Per-example gradients of M networks, whose ``params`` and ``buffers`` carry a leading member axis: [M, N, P].

    ``in_dims`` says, as in ``torch.vmap``, whether x and y are shared by the members (None) or carry a leading member
    axis too (0). Members are differentiated one after the other: memory is one member's, beside the result.
    """
    members = next(iter(params.values())).shape[0]
    rows = []
    for m in range(members):
        one = [data if dim is None else data[m] for data, dim in zip((x, y), in_dims, strict=True)]
        rows.append(per_example_gradients(module, member(params, m), member(buffers, m), *one, loss, chunk))
    return torch.stack(rows)


def gram(
    module: nn.Module,
    params: Tensors,
    buffers: Tensors,
    first: tuple[Tensor, Tensor],
    second: tuple[Tensor, Tensor] | None,
    loss: Loss,
    chunk: int = 128,
) -> Gram:
    """Inner products between the gradients of two sets of examples ``(x, y)``, holding 2 x ``chunk`` gradients at a
    time, never N x P.

    With ``second=None`` the first set is compared with itself, each pair of chunks once. Costs about N1/``chunk``
    passes over the second set.
    """
    check_lengths(*first)
    check_lengths(*(second or first))

    def rows(data: tuple[Tensor, Tensor]) -> Callable[[slice], Tensor]:
        given = dict(params), dict(buffers)
        return lambda at: _example_gradients(module, *given, data[0][at], data[1][at], loss, None)

    sides = [(rows(data), slices(len(data[0]), chunk)) for data in (first, second) if data]
    like = next(iter(params.values()))
    with eval_mode(module):
        if second is None:
            return self_gram(like, *sides[0], _add_products)
        return cross_gram(like, *sides[0], *sides[1], _add_products, lambda part: part.norm(dim=1))


def member(tensors: Tensors, index: int) -> dict[str, Tensor]:
    """One network's tensors out of a stack."""
    return {name: tensor[index] for name, tensor in tensors.items()}


def _example_gradients(
    module: nn.Module,
    params: dict[str, Tensor],
    buffers: dict[str, Tensor],
    x: Tensor,
    y: Tensor,
    loss: Loss,
    chunk: int | None,
) -> Tensor:
    def example_loss(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        outputs = functional_call(module, (params, buffers), (x.unsqueeze(0),))
        return loss(outputs, y.unsqueeze(0))

    params = {name: tensor.detach() for name, tensor in params.items()}
    gradients = vmap(grad(example_loss), in_dims=(None, 0, 0), chunk_size=chunk)(params, x, y)
    return torch.cat([g.flatten(1) for g in gradients.values()], dim=1)


def _add_products(out: Tensor, left: Tensor, right: Tensor) -> None:
    out.addmm_(left, right.T)


def self_gram(
    like: Tensor, held: Callable[[slice], T], parts: list[slice], add_products: Callable[[Tensor, T, T], None]
) -> Gram:
    """Products within a set of examples, from what ``held(part)`` keeps of each part's gradients.

    ``add_products(out, left, right)`` adds the products [N1, N2] to zeros in ``out``, of ``like``'s type and device.
    Each pair of parts is visited once.
    """
    products = like.new_zeros(parts[-1].stop, parts[-1].stop)
    for i, at in enumerate(parts):
        left = held(at)
        add_products(products[at, at], left, left)
        for other in parts[i + 1 :]:
            add_products(products[at, other], left, held(other))
            products[other, at] = products[at, other].T
    norms = products.diagonal().sqrt()
    return Gram(products, norms, norms)


def cross_gram(
    like: Tensor,
    held1: Callable[[slice], T],
    parts1: list[slice],
    held2: Callable[[slice], T],
    parts2: list[slice],
    add_products: Callable[[Tensor, T, T], None],
    norms: Callable[[T], Tensor],
) -> Gram:
    """Products between two sets, as :func:`self_gram`; ``norms`` gives a part's gradient norms."""
    products = like.new_zeros(parts1[-1].stop, parts2[-1].stop)
    norms1, norms2 = like.new_empty(len(products)), like.new_empty(products.shape[1])
    for i, at in enumerate(parts1):
        left = held1(at)
        norms1[at] = norms(left)
        for other in parts2:
            right = held2(other)
            add_products(products[at, other], left, right)
            if i == 0:
                norms2[other] = norms(right)
    return Gram(products, norms1, norms2)


def slices(length: int, chunk: int) -> list[slice]:
    """Parts of at most ``chunk`` examples."""
    return [slice(start, min(start + chunk, length)) for start in range(0, length, chunk)]


def check_lengths(x: Tensor, y: Tensor) -> None:
    """Raises ValueError where there is no example, or x and y disagree in length."""
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(
            f"x has {len(x)} examples and y has {len(y)}: give as many targets as inputs, and at least one"
        )


@contextlib.contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode for the whole tree, each submodule's own flag put back after."""
    flags = {m: m.training for m in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for m, training in flags.items():
            m.training = training
