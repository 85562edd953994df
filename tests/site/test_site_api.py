"""The library's reference: its pages, and docstrings as Sphinx must get them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from docutils.core import publish_doctree
from specimen import REPOSITORY

from repro.site import api
from repro.site.docstrings import convert
from repro.site.stage import stage


@pytest.fixture(scope="module")
def staged(root: Path) -> Path:
    stage(root, root / "_build/runs", root / "_build/book")
    return root / "_build/book"


def test_every_module_of_the_library_has_a_page_in_the_contents() -> None:
    names = {module.name for module in api.modules(REPOSITORY / "lib")}
    files = {path for path in (REPOSITORY / "lib/repro").rglob("*.py") if path.name != "__main__.py"}
    assert len(names) == len(files) and {"repro", "repro.measure", "repro.measure.stiffness"} <= names


def test_packages_stand_above_their_modules(staged: Path) -> None:
    reference = yaml.safe_load((staged / "_toc.yml").read_text())["parts"][-1]["chapters"][-1]
    (measure,) = reference["sections"]
    assert reference["file"] == "api/repro" and measure["file"] == "api/repro.measure"
    assert [one["file"] for one in measure["sections"]] == ["api/repro.measure.stiffness"]


def test_a_modules_page_names_the_papers_that_use_it(staged: Path) -> None:
    assert "(/notebooks/landscape/stiffness.ipynb)" in (staged / "api/repro.measure.stiffness.md").read_text()


def test_a_module_without_a_docstring_is_named(tmp_path: Path) -> None:
    (tmp_path / "repro").mkdir()
    (tmp_path / "repro/__init__.py").write_text("x = 1")
    with pytest.raises(ValueError, match=r"repro/__init__\.py has no docstring"):
        api.modules(tmp_path)


def read(docstring: str) -> str:
    """The text a reader sees, Sphinx's warnings being errors."""
    lines = docstring.split("\n")
    convert(lines)
    return publish_doctree("\n".join(lines), settings_overrides={"halt_level": 2, "report_level": 2}).astext()


@pytest.mark.parametrize(
    "plain",
    ["||Y'X||_F^2 / (n - 1)", "weights W_ and |x| for *args and a * b", r"a \ b", "an odd ` tick", "ends in x_"],
)
def test_marks_of_plain_text_mean_themselves(plain: str) -> None:
    assert read(plain) == plain


def test_code_is_code_also_beside_letters_and_across_lines() -> None:
    assert read("Two ``Module``s, `fit`\nand ``a\nb``; see :func:`fit`.") == "Two Modules, fit and a b; see fit."


def test_hanging_indents_lists_and_literal_blocks_are_no_errors() -> None:
    text = "Args:\n    x: one\n        and more\n    y: two\n\nList:\n- a\n  goes on\n- b\n\nCode::\n\n    x_ = |y|\n\nEnd."
    assert read(text).split("\n\n") == [
        "Args:", "x: one and more", "y: two", "List:", "a goes on", "b", "Code:", "x_ = |y|", "End."]  # fmt: skip
