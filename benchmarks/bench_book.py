"""What the whole book costs, and how the cost grows: with notebooks, with jobs at a time, with seeds; and its overhead.

Runs in a temporary copy of the project, so that nothing in _build is touched. Prints tables, writes
_build/bench/book.json and book.png.
Run: python benchmarks/bench_book.py [--jobs 1 2] [--seeds 4 8 16 32] [--pages theory/self-normalizing ...]
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "_build" / "bench"
#: The page whose cost is measured against its number of seeds, with the parameters that hold all else fixed and small.
SEEDED = ("theory/benign-overfitting-xor", {"p": 200000, "few_seeds": 2, "map_n": "100", "map_p": "3000,10000"})
IMPORT_GOAL = 1.5  # CPU seconds on top of torch


def copy_project(folder: Path, pages: list[str]) -> None:
    """A project that holds only `pages`; workflow and library are the repository's."""
    for name in ("workflow", "lib"):
        os.symlink(ROOT / name, folder / name)
    for page in pages:
        target = folder / "notebooks" / f"{page}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "notebooks" / f"{page}.ipynb", target)


def book(pages: list[str], jobs: int) -> dict:
    """Wall seconds of the small scale of `pages`, `jobs` at a time, and each page's own seconds and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        copy_project(Path(folder), pages)
        start = time.perf_counter()
        command = [sys.executable, "workflow/go.py", "small", "default", "--jobs", str(jobs)]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        seconds = time.perf_counter() - start
        if done.returncode:
            sys.exit(f"{done.stdout}the book did not run to its end, so there is nothing to measure")
        costs = {page: cost(Path(folder) / f"_build/runs/small/{page}.ipynb") for page in pages}
    return {"notebooks": len(pages), "jobs": jobs, "seconds": seconds, "pages": costs}


def cost(executed: Path) -> dict[str, float]:
    """What the runner recorded: seconds and peak_memory_mb."""
    return json.loads(executed.read_text())["metadata"]["repro_run"]


def run(notebook: Path, parameters: dict[str, object]) -> dict[str, float]:
    """Cost of one run of a notebook."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.ipynb"
        pairs = [word for name, value in parameters.items() for word in ("-p", name, str(value))]
        subprocess.run([sys.executable, "-m", "repro.run", str(notebook), str(out), *pairs], check=True)
        return cost(out)


def kernel_start() -> float:
    """Seconds of a notebook that does nothing: papermill, kernel start and end; the fastest of three."""
    import nbformat

    with tempfile.TemporaryDirectory() as folder:
        cell = nbformat.v4.new_code_cell("threads: int = 1", metadata={"tags": ["parameters"]})
        nb = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": {"name": "python3", "display_name": "x"}})
        nbformat.write(nb, Path(folder) / "nothing.ipynb")
        return min(run(Path(folder) / "nothing.ipynb", {})["seconds"] for _ in range(3))


def imports(page: str) -> tuple[float, float]:
    """CPU seconds that torch, and then all else that the page imports at its cells' top level, take; fastest of three.

    Importing from a warm cache is all CPU, and unlike wall time it does not depend on what else the machine does.
    """
    cells = json.loads((ROOT / f"notebooks/{page}.ipynb").read_text())["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    needed = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    # names that no page imports something under
    code = "import time as _t\n_a = _t.process_time()\nimport torch\n_b = _t.process_time()\n"
    code += "\n".join(map(ast.unparse, needed)) + "\nprint(_b - _a, _t.process_time() - _b)"
    told = [subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
            for _ in range(3)]  # fmt: skip
    return min(float(torch) for torch, _ in told), min(float(rest) for _, rest in told)


def sizes(total: int) -> list[int]:
    """1, 2, 4 ... and all; without the last power where it is nearly all."""
    return [*(size for size in (2**k for k in range(20)) if size <= 2 * total / 3), total]


def report(result: dict) -> None:
    """Print the tables."""
    print(f"{'notebooks':>9} {'jobs':>5} {'wall s':>8} {'s a notebook':>13}")
    for row in result["book"]:
        each = row["seconds"] / row["notebooks"]
        print(f"{row['notebooks']:>9} {row['jobs']:>5} {row['seconds']:>8.1f} {each:>13.1f}")
    whole = min((row for row in result["book"] if row["notebooks"] == len(result["imports"])), key=lambda r: r["jobs"])
    print(f"\n{'page':<36} {'s':>6} {'peak MB':>8} {'import s':>10} {'over torch':>11} {'overhead':>9}")
    for page, found in whole["pages"].items():
        torch, rest = result["imports"][page]
        share = (result["kernel_start"] + torch + rest) / found["seconds"]
        late = "  over the goal" if rest > IMPORT_GOAL else ""
        print(f"{page:<36} {found['seconds']:>6.1f} {found['peak_memory_mb']:>8.0f} {torch + rest:>10.2f} "
              f"{rest:>11.2f} {share:>8.0%}{late}")  # fmt: skip
    print(f"overhead: imports and {result['kernel_start']:.1f} s of papermill and kernel start, as a share of the page")
    print(f"\n{SEEDED[0]}\n{'seeds':>6} {'s':>7} {'peak MB':>8}")
    for seeds, found in result["seeds"].items():
        print(f"{seeds:>6} {found['seconds']:>7.1f} {found['peak_memory_mb']:>8.0f}")


def draw(result: dict) -> None:
    """How wall time grows, with notebooks on the left and with seeds on the right."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    from repro.figures import use_style

    use_style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    for jobs in sorted({row["jobs"] for row in result["book"]}):
        mine = [row for row in result["book"] if row["jobs"] == jobs]
        left.plot([row["notebooks"] for row in mine], [row["seconds"] for row in mine], "o-", label=f"{jobs} at a time")
    left.set(xlabel="notebooks", ylabel="wall time (s)", title="Whole book, small scale", ylim=(0, None))
    left.legend()
    right.plot(list(result["seeds"]), [found["seconds"] for found in result["seeds"].values()], "o-")
    right.set(xlabel="seeds", ylabel="time (s)", title=SEEDED[0], ylim=(0, None))
    figure.savefig(OUT / "book.png")


def main() -> None:
    every = sorted(str(p.relative_to(ROOT / "notebooks").with_suffix("")) for p in ROOT.glob("notebooks/*/*.ipynb"))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--pages", nargs="+", default=every, choices=every)
    options = parser.parse_args()
    notebook, fixed = ROOT / f"notebooks/{SEEDED[0]}.ipynb", SEEDED[1]
    result = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "kernel_start": kernel_start(),
        "imports": {page: imports(page) for page in options.pages},
        "seeds": {seeds: run(notebook, {**fixed, "n_seeds": seeds}) for seeds in options.seeds},
        "book": [book(options.pages[:size], jobs) for jobs in options.jobs for size in sizes(len(options.pages))],
    }
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "book.json").write_text(json.dumps(result, indent=1))
    report(result)
    draw(result)
    print(f"\nThe plot is {OUT / 'book.png'}")


if __name__ == "__main__":
    main()
