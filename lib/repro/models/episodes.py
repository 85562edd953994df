"""Episodes of two speakers: they talk in turn, then act at the same time. Learning from one costs one backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from repro.models.speakers import Pair, sample


class Moment(NamedTuple):
    """What both agents chose [M, 2, B], the logits [M, 2, B, K] it was drawn from, and the values [M, 2, B]."""

    chosen: Tensor
    logits: Tensor
    values: Tensor


class Episode(NamedTuple):
    """Speaking (K messages), acting (K actions), what had arrived when they acted, one-hot ``slots`` [M, 2, B,
    messages], and the ``record`` that :func:`reinforce` learns from. Nothing here carries gradients.
    """

    speaking: Moment
    acting: Moment
    slots: Tensor
    record: _Record


@torch.no_grad()
def episode(
    pairs: Pair, views: Tensor, uniform: tuple[Tensor, Tensor], hear: Callable[[Tensor], Tensor] = lambda said: said
) -> Episode:
    """One batch of games: in its first half agent 0 speaks first, in the second half agent 1, the other speaks having
    heard it, then both act.

    ``pairs``: the stacked twin of a pair (``Stack.net``); ``views`` [M, 2, B, d]; ``uniform``: numbers in [0, 1), twice
    [M, 2, B], that decide what is said and done. ``hear`` maps messages as spoken [M, 2, B] to those that arrive.
    Raises ValueError for an odd batch.
    """
    games = views.shape[-2]
    if games % 2:
        raise ValueError(f"batch is {games}: an even number lets both agents speak first equally often")
    record = _Record(pairs, views, hear, *uniform)
    message, action, value = record.heads
    return Episode(Moment(record.said, message.mT, value[..., 0, :]), Moment(record.done, action.mT, value[..., 1, :]),
                   record.slots[:, 0, :, games:].unflatten(1, (2, -1)).mT, record)  # fmt: skip


def reinforce(
    played: Episode, r: Tensor, message: float = 1.0, speaking: Tensor | float = 1.0, error: float = 0.1,
    entropy: float = 0.01,
) -> Tensor:  # fmt: skip
    """REINFORCE with the value V as baseline, for rewards r [M, 2, B]: losses [M], whose gradient is written by hand.

    At each moment -w (r - V) ln p(chosen) + ``error`` (r - V)^2 - ``entropy`` H, the first V held fixed; w is 1 for
    acting and ``message`` for speaking. Summed over both agents and moments, averaged over games; ``speaking`` (a number, or
    [M]) weighs all that is learnt at the moment of speaking.
    """
    loss, slopes = torch.zeros(len(r), dtype=r.dtype, device=r.device), []
    share = torch.as_tensor(speaking, dtype=r.dtype, device=r.device).expand(len(r))
    for moment, w, each in ((played.speaking, message, share), (played.acting, 1.0, torch.ones_like(share))):
        log_p, chosen = moment.logits.mT.log_softmax(-2), moment.chosen.unsqueeze(-2)
        p, ahead = log_p.exp(), r - moment.values
        unsure = -(p * log_p).sum(-2)
        each_game = error * ahead.square() - entropy * unsure - w * ahead * log_p.gather(-2, chosen).squeeze(-2)
        loss = loss + each * each_game.mean(-1).sum(-1)
        per_game = (each / r.shape[-1])[:, None, None]
        push = (w * per_game * ahead).unsqueeze(-2)
        slope = (log_p + unsure.unsqueeze(-2)).mul_((entropy * per_game).unsqueeze(-2)).add_(push).mul_(p)
        slopes += [slope.scatter_add_(-2, chosen, -push), -2 * error * per_game * ahead]
    of_value = torch.stack([slopes[1], slopes[3]], 2)
    return _Known.apply(loss, played.record, (slopes[0], slopes[2], of_value), *played.record.params)


class _Trace:
    """A stack of perceptrons with two hidden layers, and what it computed at the moments of an episode, in turn.

    The moments of a game differ only in what was heard, so what the view adds to the first layer is computed once.
    """

    def __init__(self, features: nn.Module, readout: nn.Module, view: Tensor) -> None:
        first, _, second, _ = features
        self.layers = [first, second, readout]
        self.params = [p for layer in self.layers for p in (layer.weight, layer.bias)]
        self.view, self.width = view, view.shape[-1]
        self.seen = _affine(first, view.mT, first.weight[..., : self.width])
        self.moments: dict[int, tuple[Tensor, Tensor, Tensor]] = {}  # by first column

    def read(self, games: slice, column: int, slots: Tensor | None = None) -> Tensor:
        """Read-outs [M, K, games] of these games, having heard ``slots`` [M, 2 messages, games]; ``column`` is where
        the moment stands among all.
        """
        one = self.seen[..., games]
        if slots is None:
            one = one.clamp(min=0)
        else:
            one = torch.baddbmm(one, self.layers[0].weight[..., self.width :], slots).clamp_(min=0)
        two = _affine(self.layers[1], one).clamp_(min=0)
        self.moments[column] = one, two, _affine(self.layers[2], two)
        return self.moments[column][2]

    def all(self, layer: int) -> Tensor:
        """What a layer (0, 1, or 2 for the read-out) computed at all moments, [M, features, columns]."""
        return torch.cat([self.moments[column][layer] for column in sorted(self.moments)], -1)

    def gradients(self, of_out: Tensor, slots: Tensor) -> list[Tensor]:
        """Gradients of weights and biases, first to last layer, given those of the read-outs [M, K, columns]."""
        one, two = self.all(0), self.all(1)
        games = self.seen.shape[-1]
        of_two = _rectified(torch.bmm(self.layers[2].weight.mT, of_out), two)
        of_one = _rectified(torch.bmm(self.layers[1].weight.mT, of_two), one)
        of_seen = of_one[..., :games] + of_one[..., games:] if one.shape[-1] > games else of_one
        first = torch.cat([torch.bmm(of_seen, self.view), torch.bmm(of_one, slots.mT)], -1)
        return [first, of_seen.sum(-1), torch.bmm(of_two, one.mT), of_two.sum(-1), torch.bmm(of_out, two.mT),
                of_out.sum(-1)]  # fmt: skip


class _Record:
    """An episode as it was played, with everything that its gradient needs. Columns: B of speaking, B of acting."""

    def __init__(self, pairs: Pair, views: Tensor, hear: Callable[[Tensor], Tensor], say: Tensor, do: Tensor) -> None:
        games, self.kinds, self.actions = views.shape[-2], pairs.messages, pairs.actions
        self.own = pairs.agents[0].message is not None
        both = list(zip(pairs.agents, views.unbind(1), strict=True))
        self.main = [_Trace(agent.features, agent.heads, view) for agent, view in both]
        self.talking = self.main
        if self.own:
            self.talking = [_Trace(agent.message_features, agent.message, view) for agent, view in both]
        traces = self.main + self.talking if self.own else self.main
        self.params = [p for trace in traces for p in trace.params]
        halves = [slice(0, games // 2), slice(games // 2, games)]
        kinds = torch.arange(self.kinds, device=views.device).unsqueeze(-1)
        self.slots = views.new_zeros(len(views), 2, 2 * self.kinds, 2 * games)  # as either agent has heard them
        said = [torch.zeros_like(say[..., halves[0]], dtype=torch.long)] * 2
        for turn in (0, 1):
            outs = []
            for i, at in enumerate(halves if turn == 0 else halves[::-1]):
                slots = self.slots[:, i, :, at] if turn else None
                outs.append(self.talking[i].read(at, at.start, slots)[:, : self.kinds])
                if self.own:
                    self.main[i].read(at, at.start, slots)
            uniform = torch.stack([say[:, i, halves[i ^ turn]] for i in (0, 1)], 1)
            said[turn] = sample(torch.stack(outs, 1).mT, uniform)
            self.said = torch.stack([torch.cat([said[i][:, i], said[1 - i][:, i]], -1) for i in (0, 1)], 1)
            arrived = (hear(self.said).unsqueeze(-2) == kinds).to(views.dtype)  # [M, 2, messages, B]
            if turn == 0:
                self.slots[:, 1, : self.kinds, halves[0]] = arrived[:, 0, :, halves[0]]
                self.slots[:, 0, self.kinds :, halves[1]] = arrived[:, 1, :, halves[1]]
        self.slots[..., games:] = arrived.flatten(1, 2).unsqueeze(1)
        for i, trace in enumerate(self.main):
            trace.read(slice(0, games), games, self.slots[:, i, :, games:])
        out = torch.stack([trace.all(2) for trace in self.main], 1)  # [M, 2, K, columns]
        spoken = torch.stack([trace.all(2) for trace in self.talking], 1) if self.own else out
        self.heads = (spoken[:, :, : self.kinds, :games], out[:, :, -self.actions - 1 : -1, games:],
                      out[:, :, -1].unflatten(-1, (2, -1)))  # fmt: skip
        self.done = sample(self.heads[1].mT, do)

    def gradients(self, message: Tensor, action: Tensor, value: Tensor) -> list[Tensor]:
        """Gradients of ``params``, given those of ``heads``."""
        games, a, found = self.said.shape[-1], self.actions, []
        of_out = message.new_zeros(len(message), 2, self.main[0].params[-1].shape[-1], 2 * games)
        if not self.own:
            of_out[:, :, : self.kinds, :games] = message
        of_out[:, :, -a - 1 : -1, games:] = action
        of_out[:, :, -1] = value.flatten(2)
        for i, trace in enumerate(self.main):
            found += trace.gradients(of_out[:, i], self.slots[:, i])
        if self.own:
            for i, trace in enumerate(self.talking):
                found += trace.gradients(message[:, i], self.slots[:, i, :, :games])
        return found


class _Known(torch.autograd.Function):
    """A loss [M] with the gradients of a record's heads, which are taken on to its parameters."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, record: _Record, slopes: tuple[Tensor, ...], *params: Tensor) -> Tensor:
        ctx.record, ctx.slopes = record, slopes
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        up = upstream[0][:, None, None, None]
        return None, None, None, *ctx.record.gradients(*(up * slope for slope in ctx.slopes))


def _affine(layer: nn.Module, x: Tensor, weight: Tensor | None = None) -> Tensor:
    return torch.baddbmm(layer.bias.unsqueeze(-1), layer.weight if weight is None else weight, x)


def _rectified(gradient: Tensor, after: Tensor) -> Tensor:
    """The gradient before a ReLU, in place, given the one behind it and the ReLU's values."""
    return torch.ops.aten.threshold_backward(gradient, after, 0, grad_input=gradient)
