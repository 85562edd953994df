"""Links that open the source notebook: none while no repository is named, and real ones where one is."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
import specimen

from repro.site.launch import commit, links, repository
from repro.site.stage import stage


def named(root: Path, address: str) -> Path:
    (root / "pyproject.toml").write_text(f'[project.urls]\nRepository = "{address}"\n')
    return root


@pytest.mark.parametrize("address", ["https://github.com/a/b", "https://github.com/a/b.git", "https://github.com/a/b/"])
def test_the_repository_is_read_from_pyproject(tmp_path: Path, address: str) -> None:
    assert repository(tmp_path) is None
    assert repository(named(tmp_path, address)) == "a/b"


def test_an_address_that_cannot_be_opened_is_one_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pyproject.toml: Repository = 'https://example.org/x'; write it as https://"):
        repository(named(tmp_path, "https://example.org/x"))


def test_every_link_ends_at_the_source_notebook() -> None:
    found = re.findall(r'href="([^"]+)"', links("a/b", "notebooks/landscape/stiffness.ipynb"))
    assert len(found) == 3
    assert all(unquote(link).endswith("notebooks/landscape/stiffness.ipynb") and "a/b" in link for link in found)


def test_a_commit_is_linked_only_where_it_can_be_looked_up() -> None:
    assert commit("a/b", "0123456789ab") == '<a href="https://github.com/a/b/commit/0123456789ab">0123456789ab</a>'
    assert commit("a/b", "0123456789ab-dirty") == "0123456789ab-dirty"
    assert commit(None, "0123456789ab") == "0123456789ab"


@pytest.mark.parametrize("address", [None, "https://github.com/a/b"])
def test_pages_offer_links_exactly_where_a_repository_is_named(tmp_path: Path, address: str | None) -> None:
    root = specimen.project(tmp_path)
    if address:
        named(root, address)
    stage(root, root / "none", root / "_build/book")
    for page in ("notebooks/landscape/stiffness", "results/full/landscape/stiffness"):
        card = nbformat.read(root / f"_build/book/{page}.ipynb", as_version=4).cells[0].source
        assert ("mybinder.org" in card) == ("colab" in card) == ("/commit/" in card) == bool(address)
    if address:  # also the full page's links lead to the source, which is the file that exists
        path = re.search(r"github.com/a/b/blob/main/([^\"]+)", card)[1]
        assert (root / path).exists()
