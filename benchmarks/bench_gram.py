"""Inner products of 1,000 per-example gradients (the Gram matrix), against BackPACK and Opacus: seconds and memory.

    pip install -c constraints.txt -e '.[bench]' && python benchmarks/bench_gram.py [--threads 2]

The others hold all gradients, [N, P], and multiply; this library works from layer inputs and errors, forms gradients
of convolutions alone, and multiplies each pair of examples once. Each route runs in a process of its own, so that its peak
memory is its own. The run fails where the matrices differ.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings

N = 1000
NETWORKS = ("MLP 784-120-60-10", "convnet 16, 32 on 14x14")


def problem(network: str):
    """Module, inputs [N, ...], labels [N]."""
    import torch

    from repro.models import MLP, ConvNet

    torch.manual_seed(0)
    mlp = network.startswith("MLP")
    x = torch.randn(N, 784) if mlp else torch.randn(N, 1, 14, 14)
    module = MLP((784, 120, 60, 10)) if mlp else ConvNet(channels=(16, 32), image=(1, 14, 14))
    return module, x, torch.randint(10, (N,))


def here(module, x, y):
    from repro.measure.coherence import stack_gram
    from repro.train import Stack, cross_entropy

    return stack_gram(Stack.of([module]), cross_entropy, x, y).products[0]


def backpack(module, x, y):
    import torch
    from backpack import backpack as extended
    from backpack import extend
    from backpack.extensions import BatchGrad

    layers = flattened(module)
    if x.dim() > 2:
        layers.insert(-1, torch.nn.Flatten())  # the module's own forward flattens before the head
    plain = torch.nn.Sequential(*layers)
    extend(plain)
    loss = extend(torch.nn.CrossEntropyLoss(reduction="sum"))(plain(x), y)
    with extended(BatchGrad()):
        loss.backward()
    rows = torch.cat([p.grad_batch.flatten(1) for p in plain.parameters()], 1)
    return rows @ rows.T


def opacus(module, x, y):
    import torch
    from opacus.grad_sample import GradSampleModule

    wrapped = GradSampleModule(module, loss_reduction="sum").train()  # it records in training mode only
    torch.nn.functional.cross_entropy(wrapped(x), y, reduction="sum").backward()
    rows = torch.cat([p.grad_sample.flatten(1) for p in module.parameters()], 1)
    return rows @ rows.T


ROUTES = {"this library": here, "BackPACK": backpack, "Opacus": opacus}


def flattened(module):
    """The layers of a chain in order, for BackPACK, which knows ``Sequential`` only."""
    children = list(module.children())
    import torch

    empty = isinstance(module, torch.nn.ModuleList) and not children
    return [] if empty else [layer for child in children for layer in flattened(child)] if children else [module]


def measure(route: str, network: str, threads: int) -> dict[str, object]:
    """Seconds, memory above what was there before (MiB), and some entries of the matrix; in a process of its own."""
    import torch

    warnings.filterwarnings("ignore")
    torch.set_num_threads(threads)
    module, x, y = problem(network)
    module.eval()
    ROUTES[route](module, x[:8], y[:8])
    times, before = [], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        module, x, y = problem(network)
        module.eval()
        start = time.perf_counter()
        gram = ROUTES[route](module, x, y)
        times.append(time.perf_counter() - start)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": min(times), "mib": peak, "probe": gram[::97, ::89].double().flatten().tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--route", choices=ROUTES)
    parser.add_argument("--network", choices=NETWORKS)
    options = parser.parse_args()
    if options.route:
        print(json.dumps(measure(options.route, options.network, options.threads)))
        return
    print(f"Gram matrix of {N} per-example gradients, float32, {options.threads} threads")
    print(f"{'network':26}{'route':14}{'seconds':>9}{'peak MiB':>10}{'this is':>10}{'differs':>10}")
    good = True
    for network in NETWORKS:
        results = {}
        for route in ROUTES:
            command = [sys.executable, __file__, "--threads", str(options.threads)]
            command += ["--route", route, "--network", network]
            results[route] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        own = results["this library"]
        for route, r in results.items():
            scale = max(map(abs, own["probe"]))
            differs = max(abs(a - b) for a, b in zip(r["probe"], own["probe"], strict=True)) / scale
            good &= differs < 1e-4
            times = f"{r['seconds'] / own['seconds']:8.1f} x"
            print(f"{network:26}{route:14}{r['seconds']:9.3f}{r['mib']:10.0f}{times}{differs:10.1e}")
    if not good:
        sys.exit("the matrices differ by more than 1e-4: the times say nothing")


if __name__ == "__main__":
    main()
