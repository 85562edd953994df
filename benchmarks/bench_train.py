"""Sixteen networks in a stack against sixteen runs of the plain PyTorch loop: same data, same batches, one process.

    python benchmarks/bench_train.py

The floor is the time of torch's matrix products and grouped convolutions by themselves, without which nothing can be
trained in float32: where the plain loop's own time is mostly arithmetic, no speed-up exceeds the last column. Runs with
the settings of a page's kernel (``repro.run.set_environment``).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.models import MLP, ConvNet
from repro.rng import Streams
from repro.run import set_environment
from repro.train import fit

MEMBERS, STEPS, BATCH, N = 16, 300, 64, 1024


def plain_loop(build: Callable[[], nn.Module], x: Tensor, y: Tensor, steps: int) -> None:
    """What one would write for one network; run once, its time is multiplied by the number of members."""
    net, order = build(), Streams([0], "batches")
    opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    per_epoch = N // BATCH
    for step in range(steps):
        if step % per_epoch == 0:
            epoch = order.permutation(N)[0]
        index = epoch[step % per_epoch * BATCH : (step % per_epoch + 1) * BATCH]
        opt.zero_grad()
        F.cross_entropy(net(x[index]), y[index]).backward()
        opt.step()


def vmap_loop(build: Callable[[], nn.Module], x: Tensor, y: Tensor, steps: int) -> None:
    """The textbook ensemble: vmap of grad over stacked parameters, momentum by hand."""
    from torch.func import functional_call, grad, stack_module_state, vmap

    modules = [build() for _ in range(MEMBERS)]
    params, buffers = stack_module_state(modules)
    velocity = {name: torch.zeros_like(p) for name, p in params.items()}

    def loss(p: dict, b: dict, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(modules[0], (p, b), (x,)), y)

    gradient, order = vmap(grad(loss)), Streams(range(MEMBERS), "batches")
    per_epoch = N // BATCH
    for step in range(steps):
        if step % per_epoch == 0:
            epoch = order.permutation(N)
        index = epoch[:, step % per_epoch * BATCH : (step % per_epoch + 1) * BATCH]
        with torch.no_grad():
            for name, g in gradient(params, buffers, x[index], y[index]).items():
                velocity[name].mul_(0.9).add_(g)
                params[name].sub_(velocity[name], alpha=0.05)


def seconds(run: Callable[[], object]) -> float:
    run()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def floor(build: Callable[[], nn.Module], x: Tensor) -> float:
    """Seconds that the products and convolutions of STEPS steps of all members take by themselves, on memory that lies
    as they like it best: forward, weight gradient and, behind the first layer, input gradient.
    """
    net, kernels = build(), []
    layers = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for layer in layers:
        calls = linear_kernels if isinstance(layer, nn.Linear) else conv_kernels
        layer.register_forward_hook(
            lambda m, a, out, calls=calls: kernels.extend(calls(m, a[0].shape, out.shape, m is layers[0]))
        )
    net(x[:BATCH])
    return sum(seconds(lambda k=k: [k() for _ in range(20)]) / 20 for k in kernels) * STEPS


def linear_kernels(layer: nn.Linear, inputs: torch.Size, outputs: torch.Size, first: bool) -> list[Callable]:
    a, d = (torch.randn(MEMBERS, shape[-1], BATCH) for shape in (inputs, outputs))
    w = torch.randn(MEMBERS, layer.out_features, layer.in_features)
    return [lambda: w @ a, lambda: d @ a.mT, *([] if first else [lambda: w.mT @ d])]


def conv_kernels(layer: nn.Conv2d, inputs: torch.Size, outputs: torch.Size, first: bool) -> list[Callable]:
    a, d = (
        torch.randn(BATCH, MEMBERS * c, *space).contiguous(memory_format=torch.channels_last)
        for _, c, *space in (inputs, outputs)
    )
    w = torch.randn(MEMBERS * layer.out_channels, layer.in_channels, *layer.kernel_size)
    options = (layer.stride, layer.padding, layer.dilation)
    back = torch.ops.aten.convolution_backward
    return [
        lambda: F.conv2d(a, w, None, *options, MEMBERS),
        lambda: back(d, a, w, None, *options, False, (0, 0), MEMBERS, (not first, True, False)),
    ]


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(N, 64, generator=generator)
    y = (flat @ torch.randn(64, 10, generator=generator)).argmax(1)
    cases = {
        "MLP 64-128-128-10": (lambda: MLP((64, 128, 128, 10)), flat),
        "convnet 16, 32 on 8x8": (lambda: ConvNet(channels=(16, 32)), flat.view(N, 1, 8, 8)),
    }
    print(f"{MEMBERS} members, batch {BATCH}, momentum; seconds per 1,000 steps of all members")
    print(
        f"{'network':24}{'threads':>8}{'plain':>9}{'vmap':>9}{'stacked':>9}{'speed-up':>10}{'floor':>9}{'at most':>10}"
    )
    for name, (build, x) in cases.items():
        for threads in (1, 2):
            torch.set_num_threads(threads)
            plain = MEMBERS * seconds(lambda: plain_loop(build, x, y, STEPS))  # noqa: B023
            mapped = seconds(lambda: vmap_loop(build, x, y, STEPS // 3)) * 3  # noqa: B023
            stacked = seconds(lambda: fit(build, x, y, seeds=range(MEMBERS), steps=STEPS, lr=0.05, momentum=0.9))  # noqa: B023
            least = floor(build, x)
            scaled = [t * 1000 / STEPS for t in (plain, mapped, stacked)]
            print(
                f"{name:24}{threads:8}" + "".join(f"{t:9.2f}" for t in scaled)
                + f"{plain / stacked:9.1f}x{least * 1000 / STEPS:9.2f}{plain / least:9.1f}x"
            )  # fmt: skip


if __name__ == "__main__":
    if "GLIBC_TUNABLES" not in os.environ:  # read when a process starts
        set_environment(threads=2)
        os.execv(sys.executable, [sys.executable, *sys.argv])
    main()
