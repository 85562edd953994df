from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
import torch

from repro import parameters
from repro.parameters import Current, ParameterError, check_parameters, declared, declared_in, scale, validate
from repro.parameters.live import require_device

SOURCE = """\
# What can be changed
seed: int = 2026  # base seed in [0, 1000000000]
threads: int = 1  # CPU threads in [1, 64]
lr: float = 0.1  # step size, in (0, inf)
widths: list[int] = [8, 16]  # units a layer, in [1, 4096]
noise: float = 0.0  # share of flipped labels in [0, 1)
activation: str = "relu"  # one of relu, tanh
heavy: bool = False  # also the slow part
names: list[str] = ["a"]  # one of a, b
"""


@pytest.fixture
def page() -> dict[str, parameters.Parameter]:
    return declared_in(SOURCE)


def write(path: Path, *cells: str, tagged: int = 0) -> Path:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.cells[tagged].metadata["tags"] = ["parameters"]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)
    return path


def test_a_declaration_gives_name_type_default_help_and_range(page) -> None:
    assert list(page) == ["seed", "threads", "lr", "widths", "noise", "activation", "heavy", "names"]
    lr = page["lr"]
    assert (lr.type, lr.default, lr.help, lr.allowed.text) == ("float", 0.1, "step size, in (0, inf)", "(0, inf)")
    assert page["activation"].allowed == ("relu", "tanh") and page["heavy"].allowed is None


def test_the_tagged_cell_of_a_notebook_is_the_one_that_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ipynb", "import os", SOURCE, "x: int = 1", tagged=1)
    assert list(declared(path)) == list(declared_in(SOURCE))
    assert list(declared(nbformat.read(path, 4))) == list(declared_in(SOURCE))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"sed": 1}, "unknown parameter 'sed' (did you mean 'seed'?); allowed: seed, threads, lr"),
        ({"zzz": 1}, "unknown parameter 'zzz'; allowed: seed"),
        ({"seed": 1.0}, "seed: 1.0 is not of type int"),
        ({"seed": True}, "seed: True is not of type int"),
        ({"seed": -1}, "seed: -1 is not in [0, 1000000000]"),
        ({"lr": "1e-3"}, "lr: '1e-3' is not of type float but a string: write 0.001"),
        ({"lr": 0}, "lr: 0.0 is not in (0, inf)"),
        ({"lr": float("inf")}, "lr: inf is not in (0, inf)"),
        ({"lr": float("nan")}, "lr: nan is not in (0, inf)"),
        ({"lr": False}, "lr: False is not of type float"),
        ({"noise": 1.0}, "noise: 1.0 is not in [0, 1)"),
        ({"widths": []}, "widths: the list is empty; give at least one int"),
        ({"widths": [8, 0]}, "widths: 0 is not in [1, 4096]"),
        ({"widths": 8}, "widths: 8 is not a list[int]"),
        ({"widths": "8"}, "widths: '8' is not a list[int]"),
        ({"activation": "selu"}, "activation: 'selu' is not one of relu, tanh"),
        ({"activation": 3}, "activation: 3 is not of type str"),
        ({"heavy": 1}, "heavy: 1 is not of type bool"),
        ({"names": ["a", "c"]}, "names: 'c' is not one of a, b"),
    ],
)
def test_a_misfit_is_named_in_one_line_with_what_is_allowed(page, overrides: dict, message: str) -> None:
    with pytest.raises(ParameterError) as error:
        validate(page, overrides)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_what_fits_is_returned_and_whole_numbers_do_for_floats(page) -> None:
    values = validate(page, {"lr": 1, "noise": 0, "widths": [3, 3], "activation": "tanh", "threads": 64})
    assert values == {"lr": 1.0, "noise": 0.0, "widths": [3, 3], "activation": "tanh", "threads": 64}
    assert isinstance(values["lr"], float)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lr", "1e-3", 1e-3),
        ("seed", "7", 7),
        ("heavy", "true", True),
        ("heavy", "False", False),
        ("widths", "[3, 4]", [3, 4]),
        ("widths", "3,4", [3, 4]),
        ("names", "['a', b]", ["a", "b"]),
        ("activation", "tanh", "tanh"),
    ],
)
def test_the_command_line_is_read_by_the_declared_type(page, name: str, text: str, value: object) -> None:
    assert page[name].parse(text) == value and type(page[name].parse(text)) is type(value)


@pytest.mark.parametrize(("name", "text"), [("seed", "7.5"), ("heavy", "yes"), ("lr", "fast"), ("widths", "")])
def test_the_command_line_is_checked_like_any_other_source(page, name: str, text: str) -> None:
    with pytest.raises(ParameterError, match=f"^{name}: "):
        page[name].parse(text)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a = 1", "is not of the form 'name: type = default'"),
        ("a: int | None = 1", "a: type int | None is not one of int, float"),
        ("a: int = 5  # in [1, 4]", r"a: 5 is not in \[1, 4\]"),
        ("a: int = 5  # in [8, 4]", r"a: the range \[8, 4\] is empty"),
        ("a: int = 5  # in [1, many]", "a: cannot read the range"),
        ("a: int = 5  # a = 5", "papermill overlook"),
        ("a: int = b", "a: default b is not a plain value"),
        ("a: str = 'x'  # in [1, 2]", "a: a str has no range"),
        ("a: int = 1\na: int = 2", "a: declared twice"),
        ("a: int = ", "does not parse"),
        ("", "declares nothing"),
    ],
)
def test_a_bad_declaration_is_an_error_of_the_page(source: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message.replace("|", r"\|")):
        declared_in(source)


def test_notebooks_that_declare_nothing_or_are_none_are_named(tmp_path: Path) -> None:
    bare = tmp_path / "bare.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), bare)
    (tmp_path / "text.ipynb").write_text("{")
    messages = {"bare": "no cell tagged", "text": "not a readable notebook", "gone": "no such notebook"}
    for name, message in messages.items():
        with pytest.raises(ParameterError, match=f"{name}.ipynb.*{message}"):
            declared(tmp_path / f"{name}.ipynb")


class Shell:
    """A kernel that has run `cells`."""

    def __init__(self, *cells: str) -> None:
        self.user_ns: dict = {"In": ["", *cells, "check_parameters()"]}
        for cell in cells:
            if not cell.startswith("%"):
                exec(cell, self.user_ns)


@pytest.fixture
def kernel(monkeypatch):
    threads, environment = torch.get_num_threads(), dict(os.environ)
    monkeypatch.setattr("repro.parameters.live._current", None)
    yield lambda *cells: monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: Shell(*cells))
    parameters.set_threads(threads)
    os.environ.clear()
    os.environ.update(environment)


def test_inside_a_notebook_the_values_are_checked_remembered_and_the_threads_set(kernel) -> None:
    kernel("%matplotlib inline", "import math", SOURCE, "# Parameters\nthreads = 2\nlr = 0.5\n")
    check_parameters()
    assert parameters.current().values["lr"] == 0.5
    assert torch.get_num_threads() == 2 and os.environ["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    ("injected", "message"),
    [
        ("# Parameters\nlearning_rate = 0.5\n", "unknown parameter 'learning_rate'"),
        ("# Parameters\nlr = '1e-3'\n", "lr: '1e-3' is not of type float"),
        ("# Parameters\nnoise = 2.0\n", r"noise: 2.0 is not in \[0, 1\)"),
    ],
)
def test_inside_a_notebook_a_misfit_stops_the_run(kernel, injected: str, message: str) -> None:
    kernel(SOURCE, injected)
    with pytest.raises(ParameterError, match=message) as error:
        check_parameters()
    assert len(error.value._render_traceback_()) == 1
    assert parameters.current() is None


def test_the_parameters_cell_that_ran_last_counts(kernel) -> None:
    kernel(SOURCE, "# Parameters\nold = 1\n", SOURCE.replace("0.1", "0.7"), "x: int = 3")
    check_parameters()
    assert parameters.current().values["lr"] == 0.7


def test_without_a_parameters_cell_or_a_kernel_the_error_says_what_to_do(kernel, monkeypatch) -> None:
    kernel("x = 1")
    with pytest.raises(ParameterError, match="run the cell that declares"):
        check_parameters()
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: None)
    with pytest.raises(ParameterError, match="inside a notebook"):
        check_parameters()


@pytest.fixture
def book(tmp_path: Path) -> Path:
    folder = tmp_path / "notebooks" / "theory"
    write(folder / "demo.ipynb", SOURCE)
    (folder / "demo.full.yml").write_text("lr: 0.01\nwidths: [512]\n")
    return folder


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "small"),
        ({"seed": 7, "threads": 2}, "small"),
        ({"lr": 0.01, "widths": [512]}, "full"),
        ({"lr": 0.01, "widths": [512], "seed": 3}, "full"),
        ({"lr": 0.01}, "custom"),
        ({"noise": 0.2}, "custom"),
    ],
)
def test_the_scale_is_read_off_the_values(book: Path, page, values: dict, expected: str) -> None:
    now = Current(page, {name: p.default for name, p in page.items()} | values)
    for start in (book, book.parent.parent):  # the page's own folder, the repository's
        assert scale(now, "demo", "theory", start) == expected


def test_an_edited_parameters_cell_is_another_scale_than_the_one_on_disk(book: Path) -> None:
    edited = declared_in(SOURCE.replace("lr: float = 0.1", "lr: float = 0.2"))
    now = Current(edited, {name: p.default for name, p in edited.items()})
    assert scale(now, "demo", "theory", book) == "custom"


def test_unchecked_parameters_have_no_scale(book: Path) -> None:
    assert scale(None, "demo", "theory", book) == "custom"


def test_a_device_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(
        ParameterError, match=r"^device = 'tpu' is not available on this machine; available: cpu[^\n]*$"
    ):
        require_device("tpu")
    require_device("cpu")
