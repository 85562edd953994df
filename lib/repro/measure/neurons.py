"""What single neurons point at, and how much of a function is odd."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def alignment(weights: Tensor, directions: Tensor) -> Tensor:
    """Absolute cosine between each neuron's incoming weights [..., m, p] and each direction [..., k, p]: [..., m, k] in
    [0, 1].

    A neuron or direction of norm 0 is aligned with nothing: 0.
    """
    return (normalize(weights, dim=-1) @ normalize(directions, dim=-1).mT).abs().clamp(max=1)


def odd_energy(at_x: Tensor, at_minus_x: Tensor) -> Tensor:
    """Share of a function's energy that is odd, from its values [..., N] at points x and at -x: [...] in [0, 1].

    sum f_o^2 / sum (f_o^2 + f_e^2) with f_o(x) = (f(x) - f(-x)) / 2 and f_e(x) = (f(x) + f(-x)) / 2: 1 for a linear
    map, 0 for an even function, NaN for a function that vanishes on all points.
    """
    odd = ((at_x - at_minus_x) / 2).square().sum(-1)
    even = ((at_x + at_minus_x) / 2).square().sum(-1)
    return odd / (odd + even)


def sign_agreement(first: Tensor, second: Tensor) -> Tensor:
    """Share of points at which two real-valued classifiers [..., N] take the same side: [...]."""
    return (torch.sign(first) == torch.sign(second)).double().mean(-1)
