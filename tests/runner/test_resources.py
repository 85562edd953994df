"""What a notebook may ask for in its metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from projects import REPOSITORY, go, project, write

from repro.resources import DEFAULTS, ResourceError, Resources, resources


def asking(tmp_path: Path, asked: Any) -> Path:
    return write(tmp_path / "x.ipynb", "1", metadata={"repro": asked})


def test_what_is_not_told_keeps_its_default(tmp_path: Path) -> None:
    assert resources(write(tmp_path / "plain.ipynb", "1"), "full") == DEFAULTS["full"]
    notebook = asking(tmp_path, {"full": {"gpu": 0, "minutes": 2.5}})
    assert resources(notebook, "full") == Resources(gpu=0, memory_gb=DEFAULTS["full"].memory_gb, minutes=2.5)
    assert resources(notebook, "small") == DEFAULTS["small"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"medium": {}}, "metadata.repro has 'medium'; allowed: small, full"),
        ({"full": {"gpus": 1}}, "metadata.repro.full has 'gpus'; allowed: gpu, memory_gb, minutes"),
        ({"full": {"gpu": 0.5}}, "metadata.repro.full.gpu is 0.5; allowed: a whole number in [0, 16]"),
        ({"full": {"gpu": True}}, "metadata.repro.full.gpu is True; allowed: a whole number in [0, 16]"),
        ({"small": {"minutes": "5"}}, "metadata.repro.small.minutes is '5'; allowed: a number in [0.05, 10080]"),
        ({"small": {"memory_gb": 0}}, "metadata.repro.small.memory_gb is 0; allowed: a number in [0.5, 4096]"),
        ({"small": 5}, "metadata.repro.small is 5, not a mapping like {'gpu': 0, 'memory_gb': 4, 'minutes': 5}"),
        ([1], "metadata.repro is [1], not a mapping of scales"),
    ],
)
def test_an_unknown_or_ill_typed_entry_is_named_in_one_line(tmp_path: Path, asked: Any, message: str) -> None:
    notebook = asking(tmp_path, asked)
    with pytest.raises(ResourceError) as raised:
        resources(notebook, "small")
    assert str(raised.value) == f"{notebook}: {message}"


def test_a_notebook_that_cannot_be_read_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.ipynb").write_text("{")
    with pytest.raises(ResourceError, match=r"x\.ipynb is not a readable notebook"):
        resources(tmp_path / "x.ipynb", "small")


def test_a_run_over_a_notebook_that_asks_wrongly_does_not_start(tmp_path: Path) -> None:
    write(project(tmp_path) / "notebooks/theory/x.ipynb", "1", metadata={"repro": {"full": {"gpus": 1}}})
    done = go(tmp_path, "small")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "notebooks/theory/x.ipynb: metadata.repro.full has 'gpus'" in done.stderr


def test_every_notebook_of_the_book_asks_for_what_can_be_had() -> None:
    for notebook in (REPOSITORY / "notebooks").glob("*/*.ipynb"):
        for scale in DEFAULTS:
            resources(notebook, scale)
