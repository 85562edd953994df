"""Linear probes: what a linear classifier reads from a layer."""

from __future__ import annotations

import torch
from torch import Tensor


def probe_accuracy(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, ridge: float = 1e-3) -> float:
    """Test accuracy of a linear classifier on activations x [n, ...] with labels y [n], tested on x_test [m, ...].

    One-hot labels are regressed on the centred activations with a ridge penalty of ``ridge`` times the mean squared
    norm of an input, and the largest output decides. Solved in closed form over the n x n Gram matrix, since a
    convolution has more units than there are examples. Raises ValueError unless ``ridge`` is positive.
    """
    if not ridge > 0:
        raise ValueError(f"ridge is {ridge}: give a positive share of the inputs' mean squared norm")
    x, x_test = (a.detach().flatten(1).to(torch.float64) for a in (x, x_test))
    mean, targets = x.mean(0), torch.nn.functional.one_hot(y).to(torch.float64)
    x, x_test = x - mean, x_test - mean
    gram = x @ x.T
    penalty = ridge * gram.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
    weights = torch.linalg.solve(
        gram + penalty * torch.eye(len(x), dtype=x.dtype, device=x.device), targets - targets.mean(0)
    )
    outputs = x_test @ (x.T @ weights) + targets.mean(0)
    return float((outputs.argmax(1) == y_test).double().mean())
