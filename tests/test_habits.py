"""Habits of the project that a machine can check: style, quiet notebooks, pre-commit, CI, citation, guides."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted([*(ROOT / "notebooks").glob("*/*.ipynb"), *(ROOT / "results").rglob("*.ipynb")])
HOOKS = {hook["id"]: hook for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
         for hook in repo["hooks"]}  # fmt: skip


def hook(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a pre-commit hook's command with this Python's tools."""
    program, *rest = shlex.split(HOOKS[name]["entry"])
    command = [str(Path(sys.executable).with_name(Path(program).name)), *rest, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["ruff-check", "ruff-format"])
def test_code_and_notebooks_follow_the_style(name: str) -> None:
    done = hook(name, ".")
    assert done.returncode == 0, done.stdout


def test_notebooks_carry_no_timings_or_machine_names_outside_the_record() -> None:
    done = hook("notebook-metadata", "--verify", *map(str, NOTEBOOKS))
    assert done.returncode == 0, f"pre-commit run notebook-metadata --all-files:\n{done.stdout}{done.stderr}"


def test_quieting_a_notebook_leaves_cells_ids_tags_counts_and_outputs_as_they_are(tmp_path: Path) -> None:
    """On a page with the timings that a run leaves."""
    before = nbformat.read(NOTEBOOKS[0], as_version=4)
    before.metadata.papermill = {"duration": 1.0}
    for cell in before.cells:
        cell.metadata.papermill = cell.metadata.execution = {"start_time": "now"}
    nbformat.write(before, tmp_path / "page.ipynb")
    assert hook("notebook-metadata", str(tmp_path / "page.ipynb")).returncode == 0
    after = nbformat.read(tmp_path / "page.ipynb", as_version=4)
    assert [_kept(cell) for cell in after.cells] == [_kept(cell) for cell in before.cells]
    assert "start_time" not in nbformat.writes(after) and "papermill" not in after.metadata
    assert after.metadata.kernelspec == before.metadata.kernelspec


def _kept(cell: Any) -> Any:
    return cell.id, cell.source, cell.metadata.get("tags"), cell.get("execution_count"), cell.get("outputs")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[str(path.relative_to(ROOT)) for path in NOTEBOOKS])
def test_cell_ids_are_names_that_no_editor_drew(path: Path) -> None:
    ids = [cell.id for cell in nbformat.read(path, as_version=4).cells]
    drawn = [one for one in ids if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]+)?|injected-parameters-\w+", one)]
    assert drawn == [] and len(set(ids)) == len(ids)


def test_ci_runs_the_readmes_two_commands_and_publishes_what_they_render() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/book.yml").read_text())["jobs"]
    run = [step["run"] for job in jobs.values() for step in job["steps"] if step.get("run", "").startswith("make ")]
    promised = re.findall(r"^(make \w+)  +#", (ROOT / "README.md").read_text().split("```")[1], re.M)
    assert sorted(run) == sorted(promised) == ["make book", "make test"]
    uploads = [step["with"]["path"] for step in jobs["book"]["steps"] if "upload-pages" in step.get("uses", "")]
    assert uploads == ["_build/html"] and set(jobs["publish"]["needs"]) == {"test", "book"}


def test_the_citation_names_the_version_and_licence_of_the_package() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")


def test_contributing_gives_the_anatomy_in_the_order_that_the_tests_check() -> None:
    anatomy = (ROOT / "CONTRIBUTING.md").read_text().split("## Anatomy of a page")[1].split("\n## ")[0].lower()
    places = [anatomy.find(word) for word in ("title", "**claims**", "**parameters**", "**the idea**", "experiment,",
                                              "**evidence**", "**what differs")]  # fmt: skip
    assert -1 not in places and places == sorted(places)


def test_every_pinned_requirement_of_the_project_is_in_the_constraints() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    pinned = {
        line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    names = {re.match(r"[\w.-]+", one)[0].lower().replace("_", "-") for one in wanted}
    assert names - pinned == set()
