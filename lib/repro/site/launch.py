"""Where a page's source notebook can be opened: links that follow from the one repository address of pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from html import escape
from pathlib import Path

BRANCH = "main"


def repository(root: Path) -> str | None:
    """``owner/name`` of ``[project.urls] Repository`` in the project's pyproject.toml; None while it is not set.

    Raises ValueError where it is set to anything but a GitHub repository, since neither service below opens others.
    """
    path = root / "pyproject.toml"
    if not path.exists():
        return None
    address = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {}).get("urls", {}).get("Repository")
    if not address:
        return None
    match = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", address)
    if not match:
        raise ValueError(f"{path}: Repository = {address!r}; write it as https://github.com/owner/name")
    return match[1]


def links(name: str | None, notebook: str) -> str:
    """HTML links that open ``notebook`` (its path in the repository); empty where there is no repository."""
    if not name:
        return ""
    places = {
        "Binder": f"https://mybinder.org/v2/gh/{name}/{BRANCH}?labpath={notebook.replace('/', '%2F')}",
        "Colab": f"https://colab.research.google.com/github/{name}/blob/{BRANCH}/{notebook}",
        "GitHub": f"https://github.com/{name}/blob/{BRANCH}/{notebook}",
    }
    shown = " · ".join(f'<a href="{escape(address)}">{place}</a>' for place, address in places.items())
    install = f"<code>%pip install git+https://github.com/{escape(name)}</code>"
    return f"Open the source notebook on {shown} (on Colab run {install} first)"


def commit(name: str | None, revision: str) -> str:
    """A commit as HTML, linked where there is a repository and the working tree was clean."""
    if not name or not re.fullmatch(r"[0-9a-f]{7,40}", revision):
        return escape(revision)
    return f'<a href="https://github.com/{name}/commit/{revision}">{revision}</a>'
