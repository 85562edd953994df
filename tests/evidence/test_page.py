from __future__ import annotations

import json
import math
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from repro.evidence import (
    MIME,
    EvidenceError,
    Page,
    above,
    below,
    every,
    exactly,
    ordered,
    render,
    validate_record,
    versions,
)
from repro.evidence.record import commit
from repro.evidence.schema import SCHEMA

HIGH = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0]  # clearly above 0
NOISE = [-1.0, 1.1, -0.9, 1.05, -0.95, 0.6]  # around 0
LOW = [-x for x in HIGH]


@pytest.fixture
def page() -> Page:
    page = Page("stiffness", part="landscape", title="Stiffness", arxiv="1901.09491", key="fort2019stiffness")
    page.claim("c1", "Stiffness is higher within a class", reported="qualitative", criterion=above(0), unit="cosine")
    return page


def claim(page: Page, id: str = "c1") -> dict:
    return next(claim for claim in page.record()["claims"] if claim["id"] == id)


@pytest.mark.parametrize(
    ("effects", "verdict"), [(HIGH, "reproduced"), (NOISE, "inconclusive"), (LOW, "not reproduced")]
)
def test_a_verdict_is_computed_from_the_effects(page: Page, effects: list[float], verdict: str, capsys) -> None:
    page.judge("c1", effects)
    page.verdicts()
    assert capsys.readouterr().out == f"c1: {verdict}\n"


def test_a_control_that_does_not_meet_the_criterion_leaves_the_verdict_alone(page: Page) -> None:
    page.judge("c1", HIGH, control=("classes permuted", NOISE))
    control = claim(page)["control"]
    assert claim(page)["verdict"] == "reproduced"
    assert (control["what"], control["verdict"], control["n"]) == ("classes permuted", "inconclusive", 6)


def test_a_control_that_meets_the_criterion_caps_the_claim_at_inconclusive(page: Page) -> None:
    page.judge("c1", HIGH, control=("classes permuted", HIGH))
    assert claim(page)["verdict"] == "inconclusive"
    assert claim(page)["note"] == "the negative control meets the criterion too"


def test_a_control_never_lifts_a_claim_that_missed(page: Page) -> None:
    page.judge("c1", LOW, control=("classes permuted", HIGH))
    assert claim(page)["verdict"] == "not reproduced"


def test_a_control_that_supports_a_version_caps_a_version_verdict(page: Page) -> None:
    page.claim("c2", "Learning rate", reported="v1 and v2 differ", criterion=versions({"v1": above(0), "v2": below(0)}))
    page.judge("c1", HIGH)
    page.judge("c2", HIGH, control=("permuted", LOW))
    assert claim(page, "c2")["verdict"] == "inconclusive"


def test_a_control_may_concern_some_parts_only(page: Page) -> None:
    page.claim("c2", "Both", reported="q", criterion=every(a=above(0), b=below(5)))
    page.claim("c3", "Both", reported="q", criterion=every(a=above(0), b=below(5)))
    page.judge("c1", HIGH)
    page.judge("c2", {"a": HIGH, "b": HIGH}, control=("permuted", {"a": NOISE}))
    page.judge("c3", {"a": HIGH, "b": HIGH}, control=("permuted", {"a": HIGH}))
    assert [claim(page, id)["verdict"] for id in ("c2", "c3")] == ["reproduced", "inconclusive"]


def test_a_control_with_effects_for_no_part_is_an_error(page: Page) -> None:
    page.claim("c2", "Both", reported="q", criterion=every(a=above(0), b=below(5)))
    with pytest.raises(EvidenceError, match=r"c2: negative control: .* got parts z"):
        page.judge("c2", {"a": HIGH, "b": HIGH}, control=("permuted", {"z": NOISE}))


def test_without_its_precondition_a_claim_is_not_judged_but_its_estimate_is_kept(page: Page) -> None:
    page.judge("c1", HIGH, precondition=("the noise was memorised", NOISE, above(0.5)))
    assert claim(page)["verdict"] == "precondition failed"
    assert claim(page)["note"] == "precondition not met: the noise was memorised (above 0.5)"
    assert claim(page)["estimate"] == pytest.approx(1.0)
    assert claim(page)["precondition"]["verdict"] != "reproduced"


def test_a_met_precondition_changes_nothing(page: Page) -> None:
    page.judge("c1", HIGH, precondition=("the noise was memorised", HIGH, above(0.5)))
    assert claim(page)["verdict"] == "reproduced"


def test_a_diverged_unit_is_counted_kept_and_stops_reproduced(page: Page) -> None:
    page.judge("c1", [*HIGH, math.nan])
    found = claim(page)
    assert (found["verdict"], found["diverged"], found["n"]) == ("inconclusive", 1, 7)
    assert found["values"][-1] is None and "1 of 7 units diverged" in found["note"]


def test_a_claim_left_to_another_scale_says_why(page: Page, capsys) -> None:
    page.untested("c1", "only the full scale can test it")
    page.verdicts()
    assert capsys.readouterr().out == "c1: not tested here\n"
    found = claim(page)
    assert (found["n"], found["estimate"], found["note"]) == (0, None, "only the full scale can test it")


def test_a_single_seed_is_an_error_that_names_the_claim(page: Page) -> None:
    with pytest.raises(EvidenceError) as error:
        page.judge("c1", [0.3])
    assert str(error.value) == "c1: 1 unit gives no interval; give at least 2 seeds"
    page.judge("c1", HIGH)  # the failed attempt left nothing behind


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda p: p.judge("c9", HIGH), "c9: not a declared claim; declared: c1"),
        (lambda p: (p.judge("c1", HIGH), p.judge("c1", HIGH)), "c1: judged twice"),
        (lambda p: (p.judge("c1", HIGH), p.untested("c1", "no")), "c1: judged twice"),
        (lambda p: p.claim("c1", "again", "q", above(0)), "c1: declared twice"),
        (lambda p: (p.judge("c1", HIGH), p.claim("c2", "x", "q", above(0))), "c2: declared after a claim was judged"),
        (lambda p: (p.untested("c1", "no"), p.claim("c2", "x", "q", above(0))), "c2: declared after a claim was"),
        (lambda p: p.evidence(), "not judged: c1"),
        (lambda p: p.verdicts(), "not judged: c1"),
        (lambda p: p.claim("C 2", "x", "q", above(0)), "claim id 'C 2' is not a lower-case word"),
        (lambda p: p.claim("c2", "x", "", above(0)), "c2: say what the claim is"),
        (lambda p: p.claim("c2", "x", "q", 0.1), "c2: criterion 0.1 is none"),
        (lambda p: p.untested("c1", ""), "c1: say why"),
        (lambda p: p.judge("c1", HIGH, interval="bogus"), "c1: interval 'bogus' is not one of"),
        (lambda p: p.judge("c1", HIGH, precondition=("w", [1.0], above(0))), "c1: precondition: 1 unit"),
        (lambda p: Page("x", part="nowhere", title="t", key="k"), "part 'nowhere' is not one of landscape"),
        (lambda p: Page("x", part="theory", title="t", key="k").claims(), "page x states no claim"),
    ],
)
def test_misuse_is_one_clear_line(page: Page, mistake, message: str) -> None:
    with pytest.raises(EvidenceError, match=message) as error:
        mistake(page)
    assert "\n" not in str(error.value)
    assert error.value._render_traceback_() == [f"EvidenceError: {error.value}"]


def everything() -> Page:
    page = Page("demo", part="theory", title="T <b>", key="k")
    page.claim("c1", "a < b", reported="0.5 & more", criterion=above(0), unit="nats")
    page.claim("c2", "parts", reported="q", criterion=every(a=above(0), b=exactly(0, 1e-9)), unit={"a": "cosine"})
    page.claim("c3", "versions", reported="q", criterion=versions({"v1": above(0), "later": below(0)}))
    page.claim("c4", "identity", reported="q", criterion=exactly(1, 1e-9))
    page.claim("c5", "order", reported="q", criterion=ordered())
    page.claim("c6", "elsewhere", reported="q", criterion=above(0))
    page.judge("c1", [*HIGH, math.inf], control=("x", NOISE), precondition=("y", HIGH, above(0)), interval="bca")
    page.judge("c2", {"a": HIGH, "b": 0.0})
    page.judge("c3", [0.123456789 + x for x in LOW])
    page.judge("c4", 1.0)
    page.judge("c5", np.stack([LOW, HIGH], axis=1))
    page.untested("c6", "no data")
    return page


def test_a_record_holds_every_kind_of_claim_and_is_strict_json() -> None:
    record = everything().record()
    validate_record(json.loads(json.dumps(record, allow_nan=False)))
    c1, c2, c3, c4, c5, c6 = record["claims"]
    assert (c1["interval"], c1["unit"], c1["threshold_low"], c1["threshold_high"]) == ("bca", "nats", 0, None)
    assert [part["name"] for part in c2["parts"]] == ["a", "b"] and c2["parts"][0]["unit"] == "cosine"
    assert c3["verdict"] == "supports later" and c3["parts"][0]["values"][0] == -0.876543
    assert c4["exact"] and c4["n"] == 1
    assert c5["deciding"] == "1 to 2"
    assert c6["verdict"] == "not tested here"


def test_the_record_says_where_and_with_what_it_was_made() -> None:
    environment = everything().record()["environment"]
    named = {"device", "threads", "torch", "python", "commit", "started", "seconds", "numpy", "processor"}
    assert set(environment) == named
    assert environment["started"].endswith("+00:00") and environment["device"] == "cpu"


def test_outside_git_the_commit_is_unknown_and_a_changed_checkout_is_dirty(tmp_path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", tmp_path, *arguments], check=True)

    assert commit(tmp_path) == "unknown"
    git("init", "-q")
    assert commit(tmp_path) == "unknown"  # no commit yet
    (tmp_path / "x").write_text("1")
    git("add", "x")
    git("commit", "-q", "-m", "x")
    clean = commit(tmp_path)
    (tmp_path / "x").write_text("2")
    assert len(clean) == 12 and commit(tmp_path) == f"{clean}-dirty"


@pytest.mark.parametrize(
    ("path", "value"),
    [(["scale"], "medium"), (["claims", 0, "verdict"], "confirmed"), (["claims", 0, "n"], "8"), (["claims"], [])],
)
def test_a_record_that_breaks_the_schema_is_refused_with_the_place(path: list, value: object) -> None:
    record = everything().record()
    target = record
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(EvidenceError, match=r"evidence record: \$\."):
        validate_record(record)


def test_a_record_without_a_required_key_is_refused() -> None:
    for key in SCHEMA["required"]:
        record = everything().record()
        del record[key]
        with pytest.raises(EvidenceError, match=key):
            validate_record(record)


def test_evidence_leaves_one_output_with_the_record_a_table_and_text(monkeypatch) -> None:
    outputs = []
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda data, raw: outputs.append(data))
    everything().evidence()
    assert len(outputs) == 1 and set(outputs[0]) == {MIME, "text/html", "text/plain"}
    validate_record(outputs[0][MIME])


class Tags(HTMLParser):
    """The tags of a piece of HTML: all `seen` with their attributes, and those left `open`."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_tables_are_accessible_and_escape_what_they_show() -> None:
    page = everything()
    tables = [render.evidence_html(page.record()), render.claims_html(page._stated())]
    for table in tables:
        tags = Tags(table)
        assert not tags.open
        assert any(tag == "caption" for tag, _ in tags.seen)
        assert all(attributes.get("scope") in ("row", "col") for tag, attributes in tags.seen if tag == "th")
        assert "a &lt; b" in table and "0.5 &amp; more" in table
    assert 'class="verdict verdict-reproduced"' in tables[0] and "verdict-supports" in tables[0]


def test_importing_evidence_loads_nothing_heavy() -> None:
    code = "import sys, repro.evidence, repro.parameters; print({'torch', 'scipy', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
