"""Top-20 Hessian eigenvalues and spectral density of a 100,000-parameter MLP, against PyHessian and curvlinops.

    pip install -c constraints.txt -e '.[bench]' && python benchmarks/bench_curvature.py [--threads 2]

Eigenvalues: every library gets the loosest tolerance on a ladder with which all twenty come within 1e-4 (relative) of a
reference in float64 (ARPACK on curvlinops' operator), and the time with that one is its time. Density: stochastic
Lanczos quadrature with the same probe vectors, handed to each library through its random generator, and as many steps;
the smoothed densities must agree. The run fails where the values do not.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.measure.curvature import hessian
from repro.measure.lanczos import top_eigenpairs
from repro.measure.stochastic import SpectralDensity, slq
from repro.models import MLP
from repro.rng import Streams
from repro.train import Stack, cross_entropy, fit

WIDTHS, N, TOP, PROBES, STEPS, ACCURACY = (784, 120, 60, 10), 1000, 20, 4, 100, 1e-4
LADDER = {
    "this library": [1e-1, 1e-2, 1e-3, 1e-4, 1e-5],
    "PyHessian": [1e-3, 1e-4, 1e-5, 1e-6, 1e-7],
    "curvlinops": [1e-1, 1e-2, 1e-3, 1e-4, 1e-5],
}


def problem() -> tuple[Stack, Tensor, Tensor]:
    """A trained MLP on ten noisy clusters in 784 dimensions."""
    g = torch.Generator().manual_seed(0)
    y = torch.randint(10, (N,), generator=g)
    x = 0.3 * torch.randn(10, 784, generator=g)[y] + torch.randn(N, 784, generator=g)
    x = x / x.std() * 0.5
    return fit(lambda: MLP(WIDTHS), x, y, seeds=[1], steps=60, batch=64, lr=0.1).final, x, y


# -- routes ----------------------------------------------------------------------------------------------------------


def eigenvalues_here(nets: Stack, x: Tensor, y: Tensor, tol: float) -> np.ndarray:
    return top_eigenpairs(hessian(nets, cross_entropy, x, y), TOP, tol=tol, max_products=2000).values[0].numpy()


def density_here(nets: Stack, x: Tensor, y: Tensor) -> SpectralDensity:
    return slq(hessian(nets, cross_entropy, x, y), Streams([0], "probes"), PROBES, STEPS)


def with_pyhessian(nets: Stack, x: Tensor, y: Tensor):
    from pyhessian import hessian as pyhessian

    return pyhessian(nets.member(0), nn.CrossEntropyLoss(), data=(x, y), cuda=False)


def eigenvalues_pyhessian(nets: Stack, x: Tensor, y: Tensor, tol: float) -> np.ndarray:
    torch.manual_seed(0)
    values, _ = with_pyhessian(nets, x, y).eigenvalues(maxIter=2000, tol=tol, top_n=TOP)
    return np.sort(values)[::-1]


def density_pyhessian(nets: Stack, x: Tensor, y: Tensor) -> SpectralDensity:
    given = iter([part for probe in signs(nets) for part in split(probe, nets)])

    def eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:  # gone from torch, still called
        values, vectors = torch.linalg.eigh(matrix)
        return values[:, None], vectors

    with patch("torch.randint_like", lambda *_, **__: next(given).clone()), patch("torch.eig", eig, create=True):
        nodes, weights = with_pyhessian(nets, x, y).density(iter=STEPS, n_v=PROBES)
    return SpectralDensity(torch.tensor(np.ravel(nodes))[None], torch.tensor(np.ravel(weights))[None] / PROBES)


def with_curvlinops(nets: Stack, x: Tensor, y: Tensor):
    from curvlinops import HessianLinearOperator

    module = nets.member(0)
    params = list(module.parameters())
    return HessianLinearOperator(module, nn.CrossEntropyLoss(), params, [(x, y)], check_deterministic=False)


def eigenvalues_curvlinops(nets: Stack, x: Tensor, y: Tensor, tol: float) -> np.ndarray:
    from scipy.sparse.linalg import eigsh

    operator = with_curvlinops(nets, x, y)
    precision = next(iter(nets.params.values())).numpy().dtype
    start = np.random.default_rng(0).standard_normal(operator.shape[0]).astype(precision)
    found = eigsh(operator.to_scipy(dtype=precision), TOP, which="LA", tol=tol, v0=start, return_eigenvectors=False)
    return np.sort(found)[::-1]


def density_curvlinops(nets: Stack, x: Tensor, y: Tensor) -> SpectralDensity:
    from curvlinops.papyan2020traces import spectrum

    operator, given = with_curvlinops(nets, x, y), iter(signs(nets))
    with patch.object(spectrum, "randn", lambda *_, **__: next(given).clone()):
        runs = [spectrum.fast_lanczos(operator, STEPS) for _ in range(PROBES)]
    nodes, weights = (torch.cat(part)[None] for part in zip(*((v, e[0].square()) for v, e in runs), strict=True))
    return SpectralDensity(nodes, weights / PROBES)


def signs(nets: Stack) -> Tensor:
    """The probes of :func:`density_here`, [PROBES, P]."""
    return torch.where(Streams([0], "probes").uniform(PROBES, nets.flat().shape[1])[0] < 0.5, -1.0, 1.0)


def split(vector: Tensor, nets: Stack) -> list[Tensor]:
    shapes = [p.shape[1:] for p in nets.params.values()]
    return [part.view(s) for part, s in zip(vector.split([s.numel() for s in shapes]), shapes, strict=True)]


# -- the table -------------------------------------------------------------------------------------------------------


def seconds(run: Callable[[], object]) -> float:
    """The best of up to three runs, no further one after ten seconds."""
    times: list[float] = []
    while len(times) < 3 and sum(times) < 10:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    nets, x, y = problem()
    size, train_loss = nets.flat().shape[1], float(F.cross_entropy(nets.predict(x)[0], y))
    reference = eigenvalues_curvlinops(nets.copy().to(dtype=torch.float64), x.double(), y, 1e-10)
    print(f"{size:,} parameters, {N} examples, loss {train_loss:.3f}, {options.threads} threads, float32")
    print(f"eigenvalues 1, 10, 20: {reference[0]:.4g}, {reference[9]:.4g}, {reference[19]:.4g}\n")
    print(f"top {TOP} eigenvalues{'':14}{'tolerance':>10}{'error':>10}{'seconds':>9}{'this is':>10}")
    routes = {
        "this library": eigenvalues_here, "PyHessian": eigenvalues_pyhessian, "curvlinops": eigenvalues_curvlinops,
    }  # fmt: skip
    times, good = {}, True
    for name, route in routes.items():
        for tol in LADDER[name]:
            error = float(np.abs(route(nets, x, y, tol) / reference - 1).max())
            if error <= ACCURACY:
                break
        reached = "" if error <= ACCURACY else "  (not reached)"
        good &= name != "this library" or not reached
        times[name] = seconds(lambda: route(nets, x, y, tol))  # noqa: B023
        print(line(name, f"{tol:10.0e}", error, times[name], times["this library"]) + reached)
    print(f"\ndensity, {PROBES} probes x {STEPS} steps{'':7}{'':10}{'differs':>10}{'seconds':>9}{'this is':>10}")
    routes = {"this library": density_here, "PyHessian": density_pyhessian, "curvlinops": density_curvlinops}
    grid = torch.linspace(-0.2, 1.1, 1000) * float(reference[0])
    both = dict(times)
    for name, route in routes.items():
        density = route(nets, x, y)
        curve = density.on(grid, 0.01 * float(reference[0]))
        if name == "this library":
            own = curve
        differs = float((curve - own).abs().max() / own.max())
        good &= differs < 1e-3
        times[name] = seconds(lambda: route(nets, x, y))  # noqa: B023
        both[name] += times[name]
        print(line(name, f"{'':10}", differs, times[name], times["this library"]))
    print(f"\nboth{'':49}{'seconds':>9}{'this is':>10}")
    for name, total in both.items():
        print(f"{name:53}{total:9.2f}{total / both['this library']:8.1f} x")
    if not good:
        sys.exit("the values differ by more than is allowed: the times say nothing")


def line(name: str, setting: str, error: float, taken: float, here: float) -> str:
    return f"{name:34}{setting}{error:10.1e}{taken:9.2f}{taken / here:8.1f} x"


if __name__ == "__main__":
    main()
