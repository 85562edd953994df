"""A small project on disk with made-up executed notebooks: what the site's tests stage, build and look at."""

from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

REPOSITORY = Path(__file__).resolve().parents[2]
MIME = "application/vnd.repro.evidence+json"
KEYS = {"stiffness": "fort2019stiffness", "cka": "kornblith2019similarity", "self-normalizing": "klambauer2017self"}
TITLES = {
    "stiffness": "Stiffness: A New Perspective on Generalization in Neural Networks",
    "cka": "Similarity of Neural Network Representations Revisited",
    "self-normalizing": "Self-Normalizing Neural Networks",
}


def claim(id: str, verdict: str, estimate: float | None = 0.31, **more: Any) -> dict[str, Any]:
    """One judged claim of a record."""
    low, high = (None, None) if estimate is None else (estimate - 0.06, estimate + 0.06)
    return {
        "id": id, "statement": f"Statement {id}: the effect is larger within < between & so on",
        "reported": "0.3 (Table 2)",
        "criterion": "> 0.1", "n": 0 if estimate is None else 8, "estimate": estimate, "low": low, "high": high,
        "unit": "cosine", "verdict": verdict, "note": "", "threshold_low": 0.1, "threshold_high": None,
        "values": [] if estimate is None else [estimate - 0.05, estimate, estimate + 0.05],
        "control": {"what": "labels permuted", "n": 8, "estimate": 0.01, "low": -0.02, "high": 0.04,
                    "verdict": "not reproduced"},
    }  # fmt: skip


def compound(id: str, verdict: str) -> dict[str, Any]:
    """A claim of two parts, the second of which decides."""
    part = {"n": 8, "estimate": 0.3, "low": 0.2, "high": 0.4, "criterion": "> 0.1", "verdict": "reproduced",
            "threshold_low": 0.1, "threshold_high": None, "values": [0.2, 0.4], "unit": "cosine"}  # fmt: skip
    parts = [{**part, "name": "near"}, {**part, "name": "far", "estimate": 0.0, "low": -0.1, "high": 0.05}]
    return claim(id, verdict) | {"parts": parts, "deciding": "far"}


def record(part: str, slug: str, scale: str, claims: list[dict[str, Any]]) -> dict[str, Any]:
    """An evidence record as design.md, section 5, has it."""
    environment = {"device": "cpu", "threads": 1, "torch": "2.13.0", "numpy": "2.3.0", "python": "3.11.7",
                   "processor": "a processor", "commit": "0123456789ab", "started": "2026-01-01T00:00:00+00:00",
                   "seconds": 12.3}  # fmt: skip
    paper = {"title": TITLES[slug], "arxiv": "1234.56789", "key": KEYS[slug]}
    return {"schema": 1, "slug": slug, "part": part, "paper": paper, "scale": scale, "claims": claims,
            "parameters": FULL if scale == "full" else SMALL, "environment": environment}  # fmt: skip


def figure(text: str) -> str:
    """A PNG, base64-encoded, that shows ``text``."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(5, 3), dpi=80)
    drawing.subplots().set_title(text)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


SMALL = {"seed": 2026, "threads": 1, "width": 64}
FULL = {"seed": 2026, "threads": 4, "width": 512}


def notebook(part: str, slug: str, scale: str, claims: list[dict[str, Any]]) -> nbformat.NotebookNode:
    """An executed page with maths, a cover figure, a second figure, an evidence record and verdict lines."""
    table = '<div class="evidence"><table class="evidence-table"><tr><th scope="col">claim</th></tr></table></div>'
    shown = {"image/png": figure(slug), "text/plain": "<Figure>"}
    caption = "The angle $\\theta$ over *steps*."
    told = {"repro": {"alt": f'Cover of {slug}:\na "line" # that [falls] by 5 \\% | so', "caption": caption}}
    cells = [
        new_markdown_cell(f"# {TITLES[slug]}\n\nWhat the paper says {{cite}}`{KEYS[slug]}`, with $x^2$ in it."),
        new_markdown_cell("## Claims"),
        _code("page.claims()", [new_output("display_data", {"text/html": table, "text/plain": "claims"})]),
        _code("seed: int = 2026  # base seed in [0, 1000000000]\nthreads: int = 1  # CPU threads in [1, 64]\n"
              "width: int = 64  # hidden units in [1, 4096]", [], ["parameters"]),
        new_markdown_cell("## The idea\n\n$$ g = \\nabla_W L $$ (eq-" + slug + ")\n\nSee {eq}`eq-" + slug + "`."),
        _code("import repro.evidence\nfrom repro.measure.stiffness import by_class", [], ["hide-input"]),
        _code("show(figure)", [new_output("display_data", shown, metadata=told)], ["cover"]),
        _code("show(one); show(two)", [new_output("display_data", shown, metadata=told)] * 2),
        new_markdown_cell("## Evidence"),
        _code("page.evidence()", [new_output("display_data", {
            "text/html": table, "text/plain": "evidence", MIME: record(part, slug, scale, claims)})]),
        _code("page.verdicts()", [new_output("stream", name="stdout", text="c1: reproduced\n")],
              ["nbval-check-output"]),
    ]  # fmt: skip
    if scale == "full":  # as papermill leaves it
        cells.insert(4, _code("# Parameters\nthreads = 4\nwidth = 512\n", [], ["injected-parameters"]))
    for number, cell in enumerate((cell for cell in cells if cell.cell_type == "code"), 1):
        cell.execution_count = number
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


def broken(part: str, slug: str) -> nbformat.NotebookNode:
    """What the runner leaves of a run that raised: a traceback and no record."""
    nb = notebook(part, slug, "small", [])
    error = new_output("error", ename="ZeroDivisionError", evalue="division by zero",
                       traceback=["\x1b[31mZeroDivisionError\x1b[0m: division by zero"])  # fmt: skip
    nb.cells[6].outputs = [error]
    nb.cells = nb.cells[:7]
    return nb


def project(root: Path) -> Path:
    """A project at ``root``: three papers in three parts, one with a full run, one whose small run failed."""
    for name in ("book", "sweeps"):
        shutil.copytree(REPOSITORY / name, root / name)
    for prose in (root / "book").rglob("*.md"):  # links papers that this has not
        text = prose.read_text(encoding="utf-8").replace("<!-- comparison -->", "")
        prose.write_text(re.sub(r"\[([^]]+)\]\((?:\.\./)*notebooks/[^)]+\)", r"\1", text))
    for name in ("__init__.py", "measure/__init__.py", "measure/stiffness.py"):
        (root / "lib/repro" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "lib/repro" / name, root / "lib/repro" / name)
    _write(
        root,
        "notebooks/landscape/stiffness",
        notebook(
            "landscape",
            "stiffness",
            "small",
            [
                claim("c1", "reproduced"),
                claim("c2", "not reproduced", 0.01),
                compound("c3", "supports v1"),
                claim("c4", "not tested here", None),
            ],
        ),
    )
    (root / "notebooks/landscape/stiffness.full.yml").write_text("width: 512\n")
    _write(
        root,
        "results/full/landscape/stiffness",
        notebook("landscape", "stiffness", "full", [claim("c1", "reproduced", 0.4), claim("c2", "inconclusive", 0.09)]),
    )
    _write(
        root,
        "notebooks/representation/cka",
        notebook("representation", "cka", "small", [claim("c1", "reproduced"), claim("c2", "precondition failed")]),
    )
    _write(
        root,
        "notebooks/theory/self-normalizing",
        notebook("theory", "self-normalizing", "small", [claim("c1", "reproduced")]),
    )
    _write(root, "_build/runs/small/theory/self-normalizing", broken("theory", "self-normalizing"), ".failed.ipynb")
    return root  # fmt: skip


def _code(source: str, outputs: list[Any], tags: list[str] | None = None) -> nbformat.NotebookNode:
    return new_code_cell(source, outputs=outputs, metadata={"tags": tags} if tags else {})


def _write(root: Path, name: str, nb: nbformat.NotebookNode, suffix: str = ".ipynb") -> None:
    path = root / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, path)
