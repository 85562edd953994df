"""Single public files, verified by SHA-256: from the mirror that ``REPRO_DATA`` names, else from the cache, else
downloaded.
"""

from __future__ import annotations

import csv
import os
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from repro.data.base import DataMissing


def registry() -> dict[str, tuple[str, str]]:
    """Every known file's URL and SHA-256."""
    with resources.files("repro.data").joinpath("registry.csv").open(encoding="utf-8") as lines:
        return {row["file"]: (row["url"], row["sha256"]) for row in csv.DictReader(lines)}


def file(name: str) -> Path:
    """Path of a verified file of the registry.

    Raises ValueError for a name not in the registry and DataMissing, in one line, where the file cannot be had or is
    not the published one.
    """
    known = registry()
    if name not in known:
        raise ValueError(f"file is {name!r}: give one of {', '.join(sorted(known))}")
    url, sha256 = known[name]
    mirror = os.environ.get("REPRO_DATA")
    local = Path(mirror).expanduser() / "files" / name if mirror else None
    if local is not None and local.is_file():
        return _verified(local, sha256)
    return _downloaded(name, url, sha256)


def human_labels() -> dict[str, Tensor]:
    """CIFAR-10N (Wei et al. 2022): labels that people gave the 50,000 CIFAR-10 training images, in canonical order,
    int64 [50000] each.

    Keys: "clean_label", "worse_label", "aggre_label", "random_label1", "random_label2", "random_label3".
    """
    import numpy as np

    # The file holds numpy arrays; only what rebuilds an array is allowed, so that it cannot run anything else.
    allowed = [np._core.multiarray._reconstruct, np.ndarray, np.dtype, np.dtypes.Int64DType]
    with torch.serialization.safe_globals(
        [*allowed, (np._core.multiarray._reconstruct, "numpy.core.multiarray._reconstruct")]
    ):
        stored = torch.load(file("cifar10n.pt"), weights_only=True)
    return {name: torch.as_tensor(labels, dtype=torch.int64) for name, labels in stored.items()}


def _verified(path: Path, sha256: str) -> Path:
    import pooch

    if pooch.file_hash(str(path)) != sha256:
        raise DataMissing(
            f"{path} is corrupted: its SHA-256 is not the published {sha256[:12]}...; "
            "delete it or unset REPRO_DATA to download"
        )
    return path


def _downloaded(name: str, url: str, sha256: str) -> Path:
    import pooch

    cache = Path(pooch.os_cache("repro"))
    pooch.get_logger().setLevel("WARNING")
    try:  # pooch downloads to a temporary file and moves it only once its hash is right
        return Path(pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=name, path=cache))
    except ValueError:
        raise DataMissing(
            f"{name} is corrupted: what {url} served has another SHA-256 than published; nothing was kept in {cache}"
        ) from None
    except OSError as error:
        raise DataMissing(
            f"{name} is missing: {url} could not be read ({type(error).__name__}); go online (it goes to {cache}) "
            f"or set REPRO_DATA to a folder with files/{name}"
        ) from None
