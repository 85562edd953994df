"""Two agents that talk in turn and then act at the same time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Heads(NamedTuple):
    """Logits of the message [..., messages] and of the action [..., actions], and the value [...]."""

    message: Tensor
    action: Tensor
    value: Tensor


class Speaker(nn.Module):
    """Perceptron with two hidden ReLU layers and linear read-outs of message, action and value, in torch's own
    initialisation (Lowe et al. 2019, section 4).

    With ``own_features`` the message is read off two hidden layers of its own, else off those of action and value.
    """

    stackable = True

    def __init__(self, inputs: int, hidden: int, messages: int, actions: int, own_features: bool = False) -> None:
        super().__init__()
        self.features = _features(inputs, hidden)
        self.message_features = _features(inputs, hidden) if own_features else None
        self.message = nn.Linear(hidden, messages) if own_features else None
        self.heads = nn.Linear(hidden, actions + 1 + (0 if own_features else messages))

    def forward(self, seen: Tensor) -> Tensor:
        """Message logits, action logits and value, [..., messages + actions + 1], for what is seen, [..., inputs]."""
        heads = self.heads(self.features(seen))
        if self.message is None or self.message_features is None:
            return heads
        return torch.cat([self.message(self.message_features(seen)).mT, heads.mT], -2).mT


class Pair(nn.Module):
    """Two speakers. What they see is their view of the game [d] and two slots [messages each] for what was said, player
    0's first; a slot is zero until its player has spoken.
    """

    stackable = True

    def __init__(self, view: int, hidden: int, messages: int, actions: int, own_features: bool = False) -> None:
        super().__init__()
        self.messages, self.actions = messages, actions
        inputs = view + 2 * messages
        self.agents = nn.ModuleList(Speaker(inputs, hidden, messages, actions, own_features) for _ in range(2))

    def forward(self, seen: Tensor) -> Heads:
        """Heads of both agents, an axis [2] before the batch, for what they see [..., 2, B, inputs]."""
        # transposed: the games of a batch stay next to each other in memory, as stacked linear layers leave them
        both = [agent(part).mT for agent, part in zip(self.agents, seen.unbind(-3), strict=True)]
        message, action, value = torch.stack(both, -3).mT.split([self.messages, self.actions, 1], -1)
        return Heads(message, action, value.squeeze(-1))


def sample(logits: Tensor, uniform: Tensor) -> Tensor:
    """Categorical draws [...] from ``logits`` [..., K] by inverting the distribution function at ``uniform`` [...]."""
    steps = logits.detach().movedim(-1, 0).softmax(0).cumsum(0)  # along the first axis: vectorised over the games
    return (steps[:-1] <= uniform).sum(0)


def seen(views: Tensor, slots: Tensor) -> Tensor:
    """What both agents see, [..., 2, B, d + 2·messages]: each its own of ``views`` [..., 2, B, d], and both slots
    ``slots`` [..., 2, B, messages].
    """
    said = torch.cat(slots.unbind(-3), -1).unsqueeze(-3)
    return torch.cat([views, said.expand(*views.shape[:-1], said.shape[-1])], -1)


def _features(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
