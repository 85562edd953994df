"""Newton's method, its saddle-free variant, and the search for critical points, on small networks or any function.

A step is written in an eigenbasis of the Hessian (``values`` [M, k], rows ``vectors`` [M, k, P]): all of it, or the
Ritz pairs of a Krylov space, outside of which nothing moves (Dauphin et al. 2014).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from repro.measure.curvature import Loss, hessian, loss_and_gradient, spread
from repro.measure.flat import at, unflatten
from repro.measure.lanczos import lanczos
from repro.measure.operators import Operator
from repro.measure.paths import losses_at
from repro.train.batches import Along, Batches, along
from repro.train.per_member import per_member
from repro.train.second_derivatives import second_derivatives
from repro.train.stack import Stack

DAMPINGS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
Derivatives = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Eigenbasis(NamedTuple):
    """``values`` [M, k] and orthonormal rows ``vectors`` [M, k, P]."""

    values: Tensor
    vectors: Tensor


class Descent(NamedTuple):
    """``final`` networks, ``losses`` [M, steps + 1] on the whole set (penalty included) and the ``dampings`` chosen
    [M, steps].
    """

    final: Stack
    losses: Tensor
    dampings: Tensor


class CriticalPoints(NamedTuple):
    """Where a search ended: ``points`` [B, P], ``gradient_norms`` [B], ``values`` of the Hessian [B, P] ascending, and
    ``found`` [B]: whether the gradient has vanished there. Only these are evidence.
    """

    points: Tensor
    gradient_norms: Tensor
    values: Tensor
    found: Tensor


def eigenbasis(matrices: Tensor) -> Eigenbasis:
    """The full eigenbasis of symmetric [M, P, P], ascending; NaN values for a matrix that is not finite."""
    finite = matrices.isfinite().flatten(1).all(1)
    values, vectors = torch.linalg.eigh(torch.where(finite[:, None, None], matrices, 0.0))
    return Eigenbasis(torch.where(finite[:, None], values, torch.nan), vectors.mT)


def krylov_basis(op: Operator, gradient: Tensor, dimension: int) -> Eigenbasis:
    """Ritz pairs on span{g, Hg, ..., H^(dimension-1) g} for ``gradient`` g [M, P]."""
    space = lanczos(op, gradient, dimension)
    values, vectors = torch.linalg.eigh(space.projected)
    return Eigenbasis(values, vectors.mT @ space.basis)


def saddle_free_step(gradient: Tensor, basis: Eigenbasis, damping: float | Tensor = 0.0) -> Tensor:
    """-(|H| + μ)^-1 g with |H| = sum |λ| e e': rescaled as Newton's step, but always downhill: [M, P]."""
    return _step(gradient, basis, basis.values.abs() + damping)


def newton_step(gradient: Tensor, basis: Eigenbasis, damping: float | Tensor = 0.0) -> Tensor:
    """-(H + μ)^-1 g, towards the nearest critical point, saddles included: [M, P]."""
    return _step(gradient, basis, basis.values + damping)


STEPS = {"saddle-free": saddle_free_step, "newton": newton_step}


def descend(
    nets: Stack, loss: Loss, x: Tensor | Along, y: Tensor | Along, *, steps: int, rule: str = "saddle-free",
    krylov: int | None = None, dampings: Sequence[float] = DAMPINGS, batch: int | None = None, l2: float = 0.0,
) -> Descent:  # fmt: skip
    """Second-order descent; each member takes, at every step, the damping with the lowest loss on the same batch.

    Args:
        nets: start, left as it is. Second derivatives in float32 are noisy: float64 for saddles.
        rule: ``saddle-free`` or ``newton``. ``krylov``: dimension of the Krylov space of the gradient that the step is
            confined to; by default the dense Hessian.
        batch: examples of a step (gradient, Hessian and damping alike; their order is ``fit``'s, which needs an axis
            ``seed``), by default all. ``l2``: adds l2 / 2 |θ|^2.
    """
    if rule not in STEPS:
        raise ValueError(f"rule = {rule!r}: allowed are {', '.join(STEPS)}")
    if not dampings or min(dampings) < 0:
        raise ValueError(f"dampings = {list(dampings)}: give at least one, none negative")

    def whole(nets: Stack) -> Tensor:
        return _losses(nets, [nets.flat()], loss, x, y, l2)[:, 0]

    nets, losses, chosen = nets.copy(), [], []
    parts = ((x, y) for _ in range(steps)) if batch is None else _minibatches(nets, x, y, batch, steps)
    for part_x, part_y in parts:
        losses.append(whole(nets))
        if krylov:
            _, gradient = loss_and_gradient(nets, loss, part_x, part_y, l2=l2)
            basis = krylov_basis(hessian(nets, loss, part_x, part_y, l2=l2), gradient, krylov)
        else:
            _, gradient, matrices = second_derivatives(nets, loss, part_x, part_y, l2=l2)
            basis = eigenbasis(matrices)
        tried = [nets.flat() + STEPS[rule](gradient, basis, mu) for mu in dampings]
        values = _losses(nets, tried, loss, part_x, part_y, l2).nan_to_num(torch.inf)
        best = values.argmin(1)
        rows = torch.arange(nets.members, device=nets.device)
        nets.load(unflatten(nets, torch.stack(tried, 1)[rows, best]))
        chosen.append(torch.tensor(dampings, device=best.device)[best])
    losses.append(whole(nets))
    return Descent(nets, torch.stack(losses, 1), torch.stack(chosen, 1))


def network_derivatives(nets: Stack, loss: Loss, x: Tensor | Along, y: Tensor | Along, l2: float = 0.0) -> Derivatives:
    """Gradient and dense Hessian of the losses of the members ``rows`` [B] at ``points`` [B, P]."""

    data = [spread(nets, values) for values in (x, y)]

    def derivatives(points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        part = at(nets.take(rows.tolist(), {"member": rows.tolist()}), points)
        return second_derivatives(part, loss, *(along("member", values[rows]) for values in data), l2=l2)[1:]

    return derivatives


def find_critical_points(
    derivatives: Derivatives, start: Tensor, *, steps: int = 60, clip: float = 0.5, floor: float = 1e-4,
    tol: float = 1e-6, retract: Callable[[Tensor], Tensor] | None = None,
) -> CriticalPoints:  # fmt: skip
    """Newton's method from each row of ``start`` [B, P], verified.

    Args:
        derivatives: points [B', P] and of which rows of ``start`` they are [B'], ascending -> gradients [B', P] and
            Hessians [B', P, P].
        clip: longest step. ``floor``: eigenvalues nearer to 0 are moved to ± this, so that flat directions do not
            explode the step.
        tol: a critical point is one whose gradient norm is below. A point rests once it is below a ten-thousandth of it.
        retract: puts points back onto a manifold after each step (then derivatives are the Riemannian ones).
    Raises:
        ValueError: float32, which cannot certify a vanishing gradient.
    """
    if start.dtype != torch.float64:
        raise ValueError(f"start is {start.dtype}: a vanishing gradient can be certified in float64 only")
    points, everyone = start.clone(), torch.arange(len(start), device=start.device)
    rows = everyone
    for _ in range(steps):
        gradient, matrices = derivatives(points[rows], rows)
        moving = gradient.norm(dim=1) > 1e-4 * tol  # false also where a point has diverged
        rows, gradient = rows[moving], gradient[moving]
        if not len(rows):
            break
        values, vectors = eigenbasis(matrices[moving])
        guarded = torch.where(values < 0, values.clamp(max=-floor), values.clamp(min=floor))
        step = newton_step(gradient, Eigenbasis(guarded, vectors))
        moved = points[rows] + step * (clip / step.norm(dim=1, keepdim=True)).clamp(max=1)
        points[rows] = moved if retract is None else retract(moved)
    gradient, matrices = derivatives(points, everyone)
    norms = gradient.norm(dim=1)
    return CriticalPoints(points, norms, eigenbasis(matrices).values, norms < tol)


def distinct(signatures: Tensor, tol: float = 1e-6) -> Tensor:
    """Which rows of ``signatures`` [B, q] (loss, index ...) differ from all earlier ones by more than ``tol`` somewhere:
    [B] bool. Permuted copies of one critical point agree in every invariant and count once.
    """
    near = (signatures[:, None] - signatures[None]).abs().amax(2) <= tol
    return ~near.tril(-1).any(1)


def _step(gradient: Tensor, basis: Eigenbasis, curvature: Tensor) -> Tensor:
    inside = (basis.vectors @ gradient[..., None])[..., 0] / curvature
    return -(basis.vectors.mT @ inside[..., None])[..., 0]


def _losses(nets: Stack, points: Sequence[Tensor], loss: Loss, x, y, l2: float) -> Tensor:
    penalty = 0.5 * l2 * torch.stack([p.square().sum(1) for p in points], 1)
    return losses_at(nets, points, loss, x, y) + penalty


def _minibatches(nets: Stack, x: Tensor | Along, y: Tensor | Along, batch: int, steps: int):
    for part in Batches(nets, x, y, batch).draw(steps):
        yield per_member(nets, part.x), per_member(nets, part.y)
