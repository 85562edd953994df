"""A real browser and two built sites: the book from the committed notebooks, and a made-up one with every odd case."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "site"))
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--no-first-run"]  # fmt: skip


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path. Without one the tests fail in CI and are skipped by name elsewhere."""
    names = (os.environ.get("REPRO_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found:
        return found
    message = "no Chromium found: install it (apt-get install chromium) or set REPRO_CHROMIUM to its path"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield running
        running.close()


def build(root: Path, out: Path) -> tuple[int, str]:
    """Render the book of the project at ``root`` from its notebooks as they are; exit status and all output."""
    runs = root / "_build" / "runs" if root != REPOSITORY else out / "no-runs"
    command = [sys.executable, "-m", "repro.site", "build", "--root", str(root), "--runs", str(runs), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def specimen_build(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    import specimen

    out = tmp_path_factory.mktemp("specimen")
    return (out / "_build" / "html", *build(specimen.project(out), out))


@pytest.fixture(scope="module")
def book_build(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    out = tmp_path_factory.mktemp("book")
    return (out / "_build" / "html", *build(REPOSITORY, out))


class Quiet(SimpleHTTPRequestHandler):
    """Serves without a line per request."""

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module", params=["specimen", "book"])
def site(request: pytest.FixtureRequest) -> Iterator[tuple[Path, str]]:
    """Folder and address of a built site, served from this machine."""
    folder, _, output = request.getfixturevalue(f"{request.param}_build")
    assert (folder / "index.html").exists(), output
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
