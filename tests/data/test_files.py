import csv
import functools
import hashlib
import http.server
import os
import threading
from pathlib import Path

import pytest
import torch

from repro import data
from repro.data import files

MIRROR = os.environ.get("REPRO_DATA") or str(Path(__file__).parents[3] / "shared" / "data")
needs_mirror = pytest.mark.skipif(not (Path(MIRROR) / "files").is_dir(), reason="needs the data mirror")
TEXT = b"one small file"


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A web server with one file, a registry that names it, an empty cache and no mirror."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "small.txt").write_bytes(TEXT)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "www")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/small.txt"
    monkeypatch.setattr(files, "registry", lambda: {"small.txt": (url, hashlib.sha256(TEXT).hexdigest())})
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
    monkeypatch.delenv("REPRO_DATA", raising=False)
    yield tmp_path, server
    server.shutdown()
    server.server_close()


def kept(root: Path) -> list[str]:
    return [str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()] if root.exists() else []


def test_a_file_is_downloaded_once_into_the_cache(served):
    root, server = served
    assert data.file("small.txt").read_bytes() == TEXT
    server.shutdown()
    assert data.file("small.txt") == root / "cache" / "small.txt"


def test_the_mirror_is_looked_at_first(served, monkeypatch, tmp_path):
    monkeypatch.setenv("REPRO_DATA", str(tmp_path / "mirror"))
    (tmp_path / "mirror" / "files").mkdir(parents=True)
    (tmp_path / "mirror" / "files" / "small.txt").write_bytes(TEXT)
    assert data.file("small.txt") == tmp_path / "mirror" / "files" / "small.txt"
    assert kept(tmp_path / "cache") == []


def test_a_corrupted_mirror_is_one_line_and_is_not_papered_over(served, monkeypatch, tmp_path):
    monkeypatch.setenv("REPRO_DATA", str(tmp_path / "mirror"))
    (tmp_path / "mirror" / "files").mkdir(parents=True)
    (tmp_path / "mirror" / "files" / "small.txt").write_bytes(TEXT[:-1])
    with pytest.raises(data.DataMissing, match=r"small.txt is corrupted: its SHA-256") as error:
        data.file("small.txt")
    assert "\n" not in str(error.value) and kept(tmp_path / "cache") == []


def test_a_corrupted_download_is_one_line_and_leaves_nothing_behind(served):
    root, _ = served
    (root / "www" / "small.txt").write_bytes(b"something else")
    with pytest.raises(data.DataMissing, match=r"small.txt is corrupted: what http") as error:
        data.file("small.txt")
    assert "\n" not in str(error.value) and kept(root / "cache") == []


def test_offline_is_one_line_that_says_what_how_and_where(served):
    root, server = served
    server.shutdown()
    server.server_close()
    with pytest.raises(data.DataMissing) as error:
        data.file("small.txt")
    message = str(error.value)
    assert "small.txt is missing" in message and str(root / "cache") in message and "REPRO_DATA" in message
    assert "\n" not in message and kept(root / "cache") == []


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"file is 'x.txt': give one of .*tinyshakespeare.txt"):
        data.file("x.txt")


def test_the_registry_names_a_url_and_a_hash_for_every_file():
    known = files.registry()
    assert len(known) == 26
    for url, sha256 in known.values():
        assert url.startswith("https://") and len(sha256) == 64 and int(sha256, 16)


@needs_mirror
def test_the_registry_is_the_mirrors_manifest():
    with open(Path(MIRROR) / "files" / "manifest.csv", encoding="utf-8") as lines:
        manifest = {row["file"]: (row["url"], row["sha256"]) for row in csv.DictReader(lines)}
    assert files.registry() == manifest


@needs_mirror
def test_human_labels_disagree_with_the_truth_as_often_as_published(monkeypatch):
    monkeypatch.setenv("REPRO_DATA", MIRROR)
    labels = data.human_labels()
    assert all(v.shape == (50_000,) and v.dtype == torch.int64 for v in labels.values())
    wrong = {name: float((v != labels["clean_label"]).float().mean()) for name, v in labels.items()}
    published = {"worse_label": 0.4021, "aggre_label": 0.0903, "random_label1": 0.1723, "random_label2": 0.1812}
    for name, rate in published.items():  # Wei et al. 2022, table 1
        assert wrong[name] == pytest.approx(rate, abs=5e-4)


def test_a_hub_set_that_cannot_be_had_is_one_line(monkeypatch, tmp_path):
    datasets = pytest.importorskip("datasets")

    def offline(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    with pytest.raises(data.DataMissing) as error:
        data.load("mnist")
    message = str(error.value)
    assert "mnist is missing" in message and "hub/ylecun/mnist" in message and "\n" not in message
