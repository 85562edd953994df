"""Linear CKA of two tall representations: by features, as the library does it, against n x n Gram matrices.

Each route runs in its own process, so that its peak memory is its own;
both compute in float64 on the same float32 activations.
Run: python benchmarks/bench_cka.py [--n 10000] [--p 512] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time


def activations(n: int, p: int):
    """Two related representations [n, p], float32."""
    import torch

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, p, generator=generator)
    return x, x @ torch.randn(p, p, generator=generator) / p**0.5 + torch.randn(n, p, generator=generator)


def by_features(x, y) -> float:
    """What the library does."""
    from repro.measure.representation import Representation
    from repro.measure.similarity import linear_cka

    return linear_cka(Representation(x), Representation(y))


def by_grams(x, y) -> float:
    """The textbook's route: Gram matrices, centred, then their inner products. In place where it can be."""
    import torch

    def gram(a):
        a = a.to(torch.float64)
        k = a @ a.T
        rows = k.mean(0)
        return k.sub_(rows).sub_(rows[:, None]).add_(rows.mean())

    k, l = gram(x), gram(y)  # noqa: E741
    return float(torch.dot(k.flatten(), l.flatten()) / (k.norm() * l.norm()))


ROUTES = {"features": by_features, "grams": by_grams}


def measure(route: str, n: int, p: int, threads: int) -> dict[str, float]:
    """Value, seconds and memory above what the inputs need (MiB) of one route; called in a process of its own."""
    import torch

    torch.set_num_threads(threads)
    warm = activations(64, 8)
    ROUTES[route](*warm)
    x, y = activations(n, p)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    value = ROUTES[route](x, y)
    seconds = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"value": value, "seconds": seconds, "mib": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--p", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--route", choices=ROUTES)
    options = parser.parse_args()
    if options.route:
        print(json.dumps(measure(options.route, options.n, options.p, options.threads)))
        return
    results = {}
    for route in ROUTES:
        command = [sys.executable, __file__, *sys.argv[1:], "--route", route]
        results[route] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"linear CKA, n = {options.n}, p = {options.p}, float64, {options.threads} threads")
    print(f"{'route':<10}{'value':>14}{'seconds':>10}{'peak MiB':>10}")
    for route, r in results.items():
        print(f"{route:<10}{r['value']:>14.10f}{r['seconds']:>10.3f}{r['mib']:>10.0f}")
    features, grams = results["features"], results["grams"]
    print(f"features are {grams['seconds'] / features['seconds']:.1f} times as fast")
    difference = abs(features["value"] - grams["value"])
    if difference > 1e-6:
        sys.exit(f"the routes differ by {difference:.1e}: more than 1e-6")


if __name__ == "__main__":
    main()
