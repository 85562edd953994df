"""How many members may be trained at once before memory runs out."""

from __future__ import annotations

import torch
from torch import Tensor

from repro.train.batches import Along
from repro.train.stack import Stack

# bytes; far below what a machine has, because tensors above 32 MiB go back to the system after every use, and fetching
# their pages anew costs more than the arithmetic on them
CPU_BUDGET = 0.1 * 2**30


def budget(device: torch.device) -> float:
    """Bytes that training may use: a fixed share on the CPU, 70 % of what is free on a GPU."""
    return 0.7 * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else CPU_BUDGET


def bytes_saved(nets: Stack, x: Tensor) -> int:
    """Bytes that one forward pass of one member on ``x`` [B, ...] keeps for the backward pass."""
    one, seen = nets.take([0], {"member": [0]}), {}

    def note(tensor: Tensor) -> Tensor:
        seen[tensor.data_ptr()] = (
            tensor.numel() * tensor.element_size()
        )  # not its storage: it may be a view of all data
        return tensor

    one.net.eval()  # dropout has no streams here; its mask adds little
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        one(x[None]).sum()
    return sum(seen.values())


def members_that_fit(nets: Stack, x: Tensor | Along | None, batch: int | None) -> int:
    """Members whose parameters, gradients, optimizer state and twice their saved activations fit into the budget."""
    if x is None:
        return nets.members
    example = x.flat()[0] if isinstance(x, Along) else x
    part = example[: batch or len(example)].to(nets.device)
    state = sum(p.numel() * p.element_size() for p in nets.params.values()) / nets.members
    return max(1, min(nets.members, int(budget(nets.device) / (4 * state + 2 * bytes_saved(nets, part)))))
