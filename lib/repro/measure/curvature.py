"""Hessians and Gauss-Newton matrices of a stack of networks as operators: all members in one product, nothing formed.

Members never mix, so the gradient of the sum of their losses holds every member's gradient and a second backward pass
through it holds every member's Hessian-vector product (Pearlmutter 1994). The graph of the gradient is built once and
kept, so a product costs one backward pass. Networks run in evaluation mode.

The loss Hessian splits into H = G + R with the Gauss-Newton matrix G = mean J' (d2 loss / d outputs2) J >= 0 and the
rest R, which carries the curvature of the outputs (Schraudolph 2002): R is ``hessian(...) - gauss_newton(...)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call

from repro.measure.flat import unflatten
from repro.measure.operators import Operator

if TYPE_CHECKING:
    from repro.train import Along, Stack

Loss = Callable[[Tensor, Tensor], Tensor]
Product = Callable[[list[Tensor]], list[Tensor]]


def hessian(
    nets: Stack, loss: Loss, x: Tensor | Along, y: Tensor | Along, *, batch: int | None = None, l2: float = 0.0
) -> Operator:
    """The Hessian of each member's mean loss over (x, y), in all parameters (also frozen ones), as an operator.

    Args:
        nets: the stack, at whose present parameters the Hessian stands; later changes of ``nets`` do not touch it.
        loss: outputs [M, N, ...], targets [M, N, ...] -> [M], a mean over examples, as for ``repro.train.fit``.
        x, y: [N, ...] shared by the members, or ``along(...)`` where they differ, as for ``fit``.
        batch: examples differentiated at once: memory O(batch), and the gradient's graph is rebuilt for every block of
            vectors. By default all at once, with the graph kept for as long as the operator lives.
        l2: adds l2 / 2 |params|^2 to the loss, hence ``l2`` times the identity.
    Raises:
        ValueError: x and y of different lengths, or no examples.
    """

    nets = nets.copy()

    def graph(x: Tensor, y: Tensor) -> Product:
        params, gradients, _ = _differentiate(nets, loss, x, y, create_graph=True)
        return lambda v: _grad(gradients, params, v)

    return _mean(nets, graph, x, y, batch, l2)


def gauss_newton(
    nets: Stack, loss: Loss, x: Tensor | Along, y: Tensor | Along, *, batch: int | None = None
) -> Operator:
    """The generalised Gauss-Newton matrix of each member's mean loss; arguments as for :func:`hessian`.

    A product J' A J v takes two backward passes: J v by differentiating u -> J' u, then back with A J v.
    """

    nets = nets.copy()

    def graph(x: Tensor, y: Tensor) -> Product:
        params = _leaves(nets)
        outputs = _outputs(nets, params, x)
        leaf = outputs.detach().requires_grad_()
        slope = torch.autograd.grad(loss(leaf, y).sum(), leaf, create_graph=True)
        dummy = torch.zeros_like(outputs, requires_grad=True)
        pulled = _grad([outputs], params, [dummy], create_graph=True)

        def product(v: list[Tensor]) -> list[Tensor]:
            pushed = _grad(pulled, [dummy], v)  # J v
            return _grad([outputs], params, _grad(list(slope), [leaf], pushed))

        return product

    return _mean(nets, graph, x, y, batch, 0.0)


def loss_and_gradient(
    nets: Stack, loss: Loss, x: Tensor | Along, y: Tensor | Along, *, batch: int | None = None, l2: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Each member's mean loss [M] and its gradient [M, P] in the order of ``nets.flat()``; arguments as for
    :func:`hessian`.
    """
    point = nets.flat()
    total, gradient = 0.5 * l2 * point.square().sum(1), l2 * point
    for part_x, part_y, share in _parts(nets, x, y, batch):
        _, gradients, values = _differentiate(nets, loss, part_x, part_y, create_graph=False)
        total = total + share * values.detach()
        gradient = gradient + share * torch.cat([g.flatten(1) for g in gradients], 1)
    return total, gradient


# -- how -----------------------------------------------------------------------------------------------------------


def _mean(
    nets: Stack, graph: Callable[[Tensor, Tensor], Product], x: Tensor | Along, y: Tensor | Along, batch: int | None,
    l2: float,
) -> Operator:  # fmt: skip
    """The mean over parts of the data of the operators that ``graph`` builds."""
    parts = list(_parts(nets, x, y, batch))
    kept = [graph(*parts[0][:2])] if len(parts) == 1 else None

    def product(v: Tensor) -> Tensor:
        rows = [list(unflatten(nets, row).values()) for row in v.unbind(1)]
        out = l2 * v
        for i, (part_x, part_y, share) in enumerate(parts):
            multiply = kept[i] if kept else graph(part_x, part_y)
            found = [torch.cat([t.flatten(1) for t in multiply(row)], 1) for row in rows]
            out = out + share * torch.stack(found, 1)
        return out

    point = nets.flat()
    return Operator(product, nets.members, point.shape[1], point.dtype, point.device)


def _parts(
    nets: Stack, x: Tensor | Along, y: Tensor | Along, batch: int | None
) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Parts of the data [M, B, ...] with their shares of the examples."""
    x, y = (spread(nets, data) for data in (x, y))
    n = x.shape[1]
    if y.shape[1] != n or n == 0 or (batch is not None and batch < 1):
        raise ValueError(f"{n} inputs, {y.shape[1]} targets, batch = {batch}: need equally many, and at least one")
    for part_x, part_y in zip(x.split(batch or n, 1), y.split(batch or n, 1), strict=True):
        yield part_x, part_y, part_x.shape[1] / n


def spread(nets: Stack, data: Tensor | Along) -> Tensor:
    """Data as every member sees them, [M, N, ...]: shared ones repeated (a view), ``along`` ones each member's own."""
    if isinstance(data, Tensor):
        return data.to(nets.device).expand(nets.members, *data.shape)
    return data.of(nets)


def _leaves(nets: Stack) -> list[Tensor]:
    return [p.detach().clone().requires_grad_() for p in nets.net.parameters()]


def _outputs(nets: Stack, params: list[Tensor], x: Tensor) -> Tensor:
    names = [name for name, _ in nets.net.named_parameters()]
    was = nets.net.training
    nets.net.eval()
    try:
        with torch.enable_grad():
            return functional_call(nets.net, dict(zip(names, params, strict=True)), (x,))
    finally:
        nets.net.train(was)


def _differentiate(
    nets: Stack, loss: Loss, x: Tensor, y: Tensor, create_graph: bool
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Leaves, the gradient in them, and each member's loss."""
    params = _leaves(nets)
    with torch.enable_grad():
        values = loss(_outputs(nets, params, x), y)
    return params, _grad([values], params, [torch.ones_like(values)], create_graph), values


def _grad(outputs: list[Tensor], inputs: list[Tensor], v: list[Tensor], create_graph: bool = False) -> list[Tensor]:
    """Vector-Jacobian product on a kept graph; what an input has no part in is 0."""
    live = [(o, u) for o, u in zip(outputs, v, strict=True) if o.requires_grad]
    if not live:
        return [torch.zeros_like(i) for i in inputs]
    with torch.enable_grad():
        # of the vectors themselves as ``grad_outputs`` torch compares the shapes, and imports sympy to do so
        product = sum((o * u).sum() for o, u in live)
        found = torch.autograd.grad(
            product, inputs, retain_graph=True, create_graph=create_graph, materialize_grads=True
        )
    return list(found)
