"""Information between discrete variables, in nats: plug-in, bias-corrected, against a permutation null, and by
intervention.
"""

from __future__ import annotations

import torch
from torch import Tensor


def joint_counts(a: Tensor, b: Tensor, kinds_a: int, kinds_b: int) -> Tensor:
    """How often each pair of values occurs, for integer samples ``a`` and ``b`` [..., N]: [..., kinds_a, kinds_b] in
    float64.

    Raises ValueError where the samples differ in shape or leave 0 ... kinds - 1.
    """
    if a.shape != b.shape:
        raise ValueError(f"samples have shapes {tuple(a.shape)} and {tuple(b.shape)}: give pairs")
    for values, kinds in ((a, kinds_a), (b, kinds_b)):
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < kinds:
            raise ValueError(
                f"samples are in [{int(values.min())}, {int(values.max())}]: {kinds} kinds allow 0 to {kinds - 1}"
            )
    cells = (a * kinds_b + b).long()
    counts = torch.zeros(*a.shape[:-1], kinds_a * kinds_b, dtype=torch.float64, device=a.device)
    counts.scatter_add_(-1, cells, torch.ones_like(cells, dtype=torch.float64))
    return counts.unflatten(-1, (kinds_a, kinds_b))


def mutual_information(counts: Tensor) -> Tensor:
    """Plug-in mutual information sum p(a, b) ln p(a, b) / (p(a) p(b)) of a table of counts or probabilities [..., A,
    B]: [...], in nats.

    Never negative, and biased upwards: by about (A - 1)(B - 1) / 2N for independent variables.
    """
    joint = counts / counts.sum((-2, -1), keepdim=True)
    independent = joint.sum(-1, keepdim=True) * joint.sum(-2, keepdim=True)
    # xlogy makes 0 ln 0 = 0, and an empty cell's marginals may be empty too.
    terms = torch.xlogy(joint, joint) - torch.xlogy(joint, independent)
    return terms.sum((-2, -1)).clamp(min=0)


def miller_madow(counts: Tensor) -> Tensor:
    """``mutual_information`` less the first-order bias (A - 1)(B - 1) / 2N of a table of counts [..., A, B]: [...]; may
    be negative.

    A and B count the values that occur. This is the bias where every pair of them has positive probability (Miller
    1955); it corrects too much where one variable nearly determines the other, and too little where N is not well above
    A B.
    """
    rows = (counts.sum(-1) > 0).sum(-1)
    columns = (counts.sum(-2) > 0).sum(-1)
    return mutual_information(counts) - (rows - 1) * (columns - 1) / (2 * counts.sum((-2, -1)))


def permutation_null(
    a: Tensor, b: Tensor, kinds_a: int, kinds_b: int, permutations: int, generator: torch.Generator
) -> Tensor:
    """Plug-in information of samples [..., N] whose pairing is broken by shuffling ``a``: [permutations, ...].

    Its mean is the plug-in estimate's bias under independence with these very marginals, whatever N. All members share
    a shuffle.
    """
    nulls = []
    for _ in range(permutations):
        order = torch.randperm(a.shape[-1], generator=generator).to(a.device)
        nulls.append(mutual_information(joint_counts(a[..., order], b, kinds_a, kinds_b)))
    return torch.stack(nulls)


def causal_influence(actions: Tensor, messages: Tensor) -> Tensor:
    """Causal influence of communication (Lowe et al. 2019): information between a message that is *set* and the
    receiver's action.

    ``actions`` [..., C, A] holds p(a | do(m)), the receiver's policy with message m forced, and ``messages`` [..., C]
    the sender's p(m). CIC = sum_m p(m) sum_a p(a | do(m)) ln p(a | do(m)) / sum_m' p(m') p(a | do(m')): [...], in nats,
    between 0 and the entropy of p(m).
    """
    return mutual_information(messages.unsqueeze(-1).to(torch.float64) * actions.to(torch.float64))
