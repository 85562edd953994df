"""A rerun beside the published page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from repro.compare import main
from repro.evidence import MIME


def claim(name: str = "c1", verdict: str = "reproduced", estimate: float | None = 0.31, **more: Any) -> dict[str, Any]:
    ends = (None, None) if estimate is None else (estimate - 0.06, estimate + 0.06)
    return {"id": name, "verdict": verdict, "estimate": estimate, "low": ends[0], "high": ends[1], "n": 8,
            "unit": "cosine", **more}  # fmt: skip


def executed(path: Path, *claims: dict[str, Any], slug: str = "demo", **parameters: Any) -> str:
    record = {"slug": slug, "claims": list(claims), "parameters": {"seed": 2026, **parameters}}
    cell = {"cell_type": "code", "source": "", "outputs": [{"output_type": "display_data", "data": {MIME: record}}]}
    path.write_text(json.dumps({"cells": [cell], "metadata": {}}))
    return str(path)


def test_the_same_verdicts_pass_and_every_estimate_is_placed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    published = executed(tmp_path / "old.ipynb", claim(), claim("c2"))
    rerun = executed(tmp_path / "new.ipynb", claim(estimate=0.33), claim("c2", estimate=0.45), seed=7)
    assert main([rerun, published]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "other parameters: seed 7 (published 2026)",
        "c1: reproduced, 0.33 [0.27, 0.39] cosine, n 8; inside the published 0.31 [0.25, 0.37] cosine",
        "c2: reproduced, 0.45 [0.39, 0.51] cosine, n 8; OUTSIDE the published 0.31 [0.25, 0.37] cosine",
        "1 of 2 estimates inside the published interval; no verdict changed",
    ]


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ([claim(verdict="inconclusive"), claim("c2")], "; VERDICT CHANGED from reproduced"),
        ([claim()], "c2: VERDICT CHANGED: published as reproduced, absent from this run"),
        ([claim(), claim("c2"), claim("c3")], "VERDICT CHANGED: the published page has no such claim"),
    ],
)
def test_a_changed_verdict_fails_even_inside_the_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture, new: list[dict], message: str
) -> None:
    published = executed(tmp_path / "old.ipynb", claim(), claim("c2"))
    assert main([executed(tmp_path / "new.ipynb", *new), published]) == 1
    out = capsys.readouterr().out
    assert message in out and "; verdict changed: c" in out


def test_claims_without_an_interval_are_compared_as_far_as_they_can_be(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    exact = claim("c1", estimate=2.0, exact=True) | {"low": None, "high": None}
    untested = claim("c2", "not tested here", None)
    published = executed(tmp_path / "old.ipynb", exact, untested)
    assert main([executed(tmp_path / "new.ipynb", exact, untested), published]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.endswith("; inside the published 2 cosine (exact)")
    assert second.endswith("; not comparable with the published –")
    assert last == "1 of 1 estimates inside the published interval; no verdict changed"


def test_without_a_published_page_the_claims_are_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([executed(tmp_path / "new.ipynb", claim())]) == 0
    assert capsys.readouterr().out == "c1: reproduced, 0.31 [0.25, 0.37] cosine, n 8\n"


def test_what_cannot_be_compared_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rerun, other = executed(tmp_path / "new.ipynb", claim()), executed(tmp_path / "b.ipynb", claim(), slug="cka")
    (tmp_path / "raw.ipynb").write_text('{"cells": [], "metadata": {}}')
    for published, message in [(other, "the run is of the page 'demo', the published one of 'cka'"),
                               (tmp_path / "raw.ipynb", "holds no evidence record"),
                               (tmp_path / "gone.ipynb", "cannot read")]:  # fmt: skip
        assert main([rerun, str(published)]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
