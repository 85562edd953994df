"""Per-example gradients and their inner products, by ``torch.func``.

A network is given as a module (its structure) with the tensors to run it on; tensors with a leading member axis
describe a stack of networks of one structure. The module is run in eval mode, so that an example's gradient does not
depend on the examples around it (no batch statistics, no dropout).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

Loss = Callable[[Tensor, Tensor], Tensor]
Tensors = Mapping[str, Tensor]


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
    _check_lengths(x, y)
    with _eval_mode(module):
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
    _check_lengths(*first)
    _check_lengths(*(second or first))

    def rows(data: tuple[Tensor, Tensor], at: slice) -> Tensor:
        return _example_gradients(module, dict(params), dict(buffers), data[0][at], data[1][at], loss, None)

    with _eval_mode(module):
        if second is None:
            return _self_gram(lambda at: rows(first, at), _slices(len(first[0]), chunk))
        return _cross_gram(
            lambda at: rows(first, at),
            _slices(len(first[0]), chunk),
            lambda at: rows(second, at),
            _slices(len(second[0]), chunk),
        )


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


def _self_gram(rows: Callable[[slice], Tensor], slices: list[slice]) -> Gram:
    blocks: dict[tuple[int, int], Tensor] = {}
    for i, at in enumerate(slices):
        left = rows(at)
        for j in range(i, len(slices)):
            right = left if i == j else rows(slices[j])
            blocks[i, j] = left @ right.T
            blocks[j, i] = blocks[i, j].T
    order = range(len(slices))
    products = torch.cat([torch.cat([blocks[i, j] for j in order], dim=1) for i in order])
    norms = products.diagonal().sqrt()
    return Gram(products, norms, norms)


def _cross_gram(
    rows1: Callable[[slice], Tensor], slices1: list[slice], rows2: Callable[[slice], Tensor], slices2: list[slice]
) -> Gram:
    products, norms1 = [], []
    for at in slices1:
        left, row, norms2 = rows1(at), [], []
        for other in slices2:
            right = rows2(other)
            row.append(left @ right.T)
            norms2.append(right.norm(dim=1))
        products.append(torch.cat(row, dim=1))
        norms1.append(left.norm(dim=1))
    return Gram(torch.cat(products), torch.cat(norms1), torch.cat(norms2))


def _slices(length: int, chunk: int) -> list[slice]:
    return [slice(start, start + chunk) for start in range(0, length, chunk)]


def _check_lengths(x: Tensor, y: Tensor) -> None:
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(
            f"x has {len(x)} examples and y has {len(y)}: give as many targets as inputs, and at least one"
        )


@contextlib.contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode for the whole tree, each submodule's own flag put back after."""
    flags = {m: m.training for m in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for m, training in flags.items():
            m.training = training
