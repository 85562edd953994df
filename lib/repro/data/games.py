"""Games of two players who may talk before they act: random payoff matrices, one-sided information, a private bit each.

Draws come from the members' own streams: members with the same seed play the same games.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from repro.rng import Streams


class Games(NamedTuple):
    """A batch of B games for each of M members.

    ``payoffs`` [M, 2, B, A, A]: what player 0 and player 1 get for actions (a of player 0, b of player 1).
    ``views`` [M, 2, B, d]: what each player sees of the game.
    """

    payoffs: Tensor
    views: Tensor


def matrix_games(streams: Streams, batch: int, actions: int, conflict: float = 0.0, blind: bool = False) -> Games:
    """Payoff matrices with entries 3 N(0, 1), new in every game (Lowe et al. 2019, section 4); d = 2 A^2.

    ``conflict`` c turns the draws R_0, R_1 into R_0 - c R_1 and R_1 - c R_0: 1 makes the game zero-sum, -1 gives both
    players the same payoff. Both players see both matrices; with ``blind``, player 1 sees zeros. Raises ValueError for
    fewer than two actions or no game.
    """
    if actions < 2 or batch < 1:
        raise ValueError(f"actions = {actions}, batch = {batch}: give at least 2 actions and 1 game")
    drawn = 3 * streams.normal(2, batch, actions, actions)
    payoffs = drawn - conflict * drawn.flip(1) if conflict else drawn
    seen = payoffs.movedim(1, 2).flatten(2).unsqueeze(1)  # [M, 1, B, 2 A^2]
    return Games(payoffs, torch.cat([seen, torch.zeros_like(seen)], 1) if blind else seen.expand(-1, 2, -1, -1))


def xor_games(streams: Streams, batch: int, reward: float = 3.0) -> Games:
    """Player 0 holds a fair bit x, player 1 a fair bit y; both get ``reward`` if player 1 plays x xor y and -``reward``
    if not, whatever player 0 does: A = 2, d = 2, each bit shown one-hot.

    Player 1 needs x, yet a truthful message and its best action are statistically independent.
    """
    bits = streams.integers(2, 2, batch)  # [M, player, B]
    right = one_hot(bits.sum(1) % 2, 2) * 2.0 - 1.0  # [M, B, b]
    payoffs = reward * right[:, None, :, None, :].expand(-1, 2, -1, 2, -1)
    return Games(payoffs, one_hot(bits, 2).float())


def rewards(payoffs: Tensor, actions: Tensor) -> Tensor:
    """What both players get, [..., 2, B], for ``payoffs`` [..., 2, B, A, A] and ``actions`` [..., 2, B]."""
    cell = actions[..., :1, :] * payoffs.shape[-1] + actions[..., 1:, :]
    return payoffs.flatten(-2).gather(-1, cell.expand_as(actions).unsqueeze(-1)).squeeze(-1)
