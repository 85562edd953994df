"""The notebook that a new page begins with: the anatomy's sections around a small experiment that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from repro.new import Paper

TITLE = """# {title}

TODO: what the paper says and why it matters, in a paragraph {{cite}}`{key}`{link}."""

IMPORTS = """import matplotlib.pyplot as plt
import torch

from repro import data, figures
from repro.evidence import Page, above
from repro.models import MLP
from repro.parameters import check_parameters
from repro.rng import generator, seeds
from repro.train import accuracy, along, fit

page = Page("{slug}", part="{part}", title="{title}",
            arxiv={arxiv}, key="{key}")  # fmt: skip
figures.use_style()"""

CLAIMS_TEXT = """## Claims

Stated before anything runs. TODO: what a seed draws, and what one effect is."""

CLAIMS = """page.claim("c1", "TODO: the claim in a sentence; here: a perceptron learns to tell digits apart",
           "TODO: what the paper reports: number, data set, table",
           criterion=above(0.5), unit="test accuracy")  # fmt: skip
page.claims()"""

PARAMETERS = """seed: int = 2026  # base seed in [0, 1000000000]
threads: int = 1  # CPU threads in [1, 64]
device: str = "cpu"  # where to train, one of cpu, cuda, mps
n_seeds: int = 8  # independent units in [5, 64]
n_train: int = 500  # training examples in [100, 1000]
width: int = 32  # units of the hidden layer in [4, 4096]
lr: float = 0.1  # learning rate in (0, 10]
steps: int = 100  # updates in [1, 100000]"""

CHECK = """check_parameters()
page.device = device
S = seeds(seed, n_seeds)"""

IDEA = """## The idea

TODO: the paper's argument, in the symbols that the code then uses: a network $f_W$ trained on the loss

$$L(W)=\\frac1n\\sum_{i=1}^n\\ell(f_W(x_i),y_i).$$"""

EXPERIMENT = """## TODO: the experiment's name

TODO: what is varied, what is compared, and why at this moment of training."""

TRAIN = """sets = [data.load("digits", train=n_train, test=500, seed=s) for s in S]
names = ("x_train", "y_train", "x_test", "y_test")
x, y, x_test, y_test = (torch.stack([getattr(d, k) for d in sets]).to(device) for k in names)  # [seeds, examples, ...]

def test_accuracy(labels):
    run = fit(lambda: MLP((x.shape[-1], width, 10)), along("seed", x), along("seed", labels), seeds=S, lr=lr,
              steps=steps, device=device)  # fmt: skip
    return accuracy(run.final.predict(x_test, each=True), y_test).cpu()  # [seeds]"""

JUDGE = """orders = [torch.randperm(n_train, generator=generator(s, "labels")) for s in S]
shuffled = torch.stack([labels[order] for labels, order in zip(y.cpu(), orders)]).to(device)
reached, by_chance = test_accuracy(y), test_accuracy(shuffled)
page.judge("c1", reached, control=("training labels shuffled", by_chance))"""

FIGURE = """fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.plot(["labels"] * len(S) + ["shuffled"] * len(S), torch.cat([reached, by_chance]), "o", alpha=0.6)
ax.set(ylabel="test accuracy", ylim=(0, 1))
figures.show(fig, caption="TODO: what the figure shows, and over how many seeds.",
             alt="TODO: the figure in words, for those who cannot see it.")  # fmt: skip"""

DIFFERS = """## What differs from the paper, and what would change the verdicts

- TODO: data, networks and protocol that are not the paper's.
- TODO: which parameter would turn which verdict.

**Try:** TODO: parameter changes worth making, such as `width=128`."""


def notebook(paper: Paper) -> str:
    """The notebook as JSON, not executed; every cell has a name for its id."""
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    link = f" ([arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv}))" if paper.arxiv else ""
    title = paper.title or "TODO: the paper's title"
    arxiv = f'"{paper.arxiv}"' if paper.arxiv else "None"
    cells = [
        new_markdown_cell(TITLE.format(title=title, key=paper.key, link=link), id="title"),
        _code(IMPORTS.format(slug=paper.slug, part=paper.part, title=title, arxiv=arxiv, key=paper.key), "imports"),
        new_markdown_cell(CLAIMS_TEXT, id="claims-text"),
        _code(CLAIMS, "claims"),
        new_markdown_cell("## Parameters", id="parameters-text"),
        new_code_cell(PARAMETERS, id="parameters", metadata={"tags": ["parameters"]}),
        _code(CHECK, "check"),
        new_markdown_cell(IDEA, id="idea"),
        new_markdown_cell(EXPERIMENT, id="experiment-text"),
        new_code_cell(TRAIN, id="train"),
        new_code_cell(JUDGE, id="judge"),
        new_code_cell(FIGURE, id="figure", metadata={"tags": ["cover", "hide-input"]}),
        new_markdown_cell("## Evidence", id="evidence-text"),
        new_code_cell("page.evidence()", id="evidence", metadata={"tags": ["full-width"]}),
        new_code_cell("page.verdicts()", id="verdicts", metadata={"tags": ["nbval-check-output"]}),
        new_markdown_cell(DIFFERS, id="reading"),
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return nbformat.writes(new_notebook(cells=cells, metadata=kernel)) + "\n"


def full_scale(paper: Paper) -> str:
    """The parameters of the full scale, with one that the test of the full scale does not cut."""
    return (f"# TODO: the full scale of {paper.part}/{paper.slug}: the paper's data and protocol as far as they can be "
            "had.\nn_seeds: 16\nwidth: 128\nsteps: 1000\n")  # fmt: skip


def _code(source: str, name: str) -> object:
    from nbformat.v4 import new_code_cell

    return new_code_cell(source, id=name, metadata={"tags": ["hide-input"]})
