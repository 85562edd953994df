from __future__ import annotations

import math

import numpy as np
import pytest

from repro.evidence import (
    EvidenceError,
    Interval,
    above,
    below,
    between,
    every,
    exactly,
    ordered,
    share,
    versions,
    within,
)
from repro.evidence.criteria import Region

TIGHT = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])  # around 0, interval well inside +-0.1
WIDE = 50 * TIGHT


@pytest.mark.parametrize(
    ("criterion", "low", "high", "verdict"),
    [
        (above(1), 1.01, 2, "reproduced"),
        (above(1), 1.0, 2, "inconclusive"),
        (above(1), 0.0, 1, "not reproduced"),
        (below(1), 0.0, 0.99, "reproduced"),
        (below(1), 0.0, 1.0, "inconclusive"),
        (below(1), 1.0, 2, "not reproduced"),
        (between(0, 1), 0.0, 1.0, "reproduced"),
        (between(0, 1), -0.1, 0.5, "inconclusive"),
        (between(0, 1), -1, 2, "inconclusive"),
        (between(0, 1), 1.1, 2, "not reproduced"),
        (within(0.5, 0.5), 0.2, 0.9, "reproduced"),
        (within(0.5, 0.5), -3, -0.1, "not reproduced"),
        (above(0), math.nan, math.nan, "inconclusive"),
    ],
)
def test_the_whole_interval_decides(criterion: Region, low: float, high: float, verdict: str) -> None:
    assert criterion.judge(Interval((low + high) / 2, low, high, 8)).verdict == verdict


@pytest.mark.parametrize("criterion", [above(0), below(0), between(-1, 1), within(0, 1), ordered()])
def test_every_criterion_can_fail(criterion: Region) -> None:
    far = {"above 0": -10, "below 0": 10}.get(criterion.text, 10) + TIGHT
    effects = np.stack([far + 1, far], axis=1) if criterion == ordered() else far
    assert criterion.judge(effects).verdict == "not reproduced"


@pytest.mark.parametrize("make", [lambda: between(1, 1), lambda: within(0, -1), lambda: between(2, 1)])
def test_a_criterion_that_nothing_can_meet_is_refused(make) -> None:
    with pytest.raises(EvidenceError, match="can never be met"):
        make()


def test_a_diverged_unit_keeps_a_claim_from_being_reproduced_but_not_from_being_missed() -> None:
    assert above(-1).judge(TIGHT).verdict == "reproduced"
    finding = above(-1).judge([*TIGHT, math.nan])
    assert finding.verdict == "inconclusive" and finding.notes == ("1 of 6 units diverged",)
    assert above(1).judge([*TIGHT, math.nan]).verdict == "not reproduced"


def test_a_given_interval_over_one_unit_is_refused() -> None:
    with pytest.raises(EvidenceError, match="1 unit gives no interval"):
        above(0).judge(Interval(1, 0.5, 2, 1))


def test_a_share_needs_enough_units_to_be_shown() -> None:
    assert share(at_least=0.9).judge([True] * 8).verdict == "inconclusive"
    assert share(at_least=0.9).judge([True] * 36).verdict == "reproduced"
    assert share(at_least=0.9).judge([False] * 8).verdict == "not reproduced"
    assert share(at_most=0.5).judge([False] * 8).verdict == "reproduced"


def test_a_diverged_unit_counts_against_a_share_in_either_direction() -> None:
    for criterion, good in ((share(at_least=0.5), 1.0), (share(at_most=0.5), 0.0)):
        fine = criterion.judge([good] * 8)
        hurt = criterion.judge([good] * 7 + [math.nan])
        assert (fine.verdict, hurt.verdict) == ("reproduced", "inconclusive")
        assert abs(hurt.interval.estimate - good) == pytest.approx(1 / 8)
        assert hurt.interval.diverged == 1 and "count against" in hurt.notes[0]


@pytest.mark.parametrize("bounds", [{}, {"at_least": 0.2, "at_most": 0.4}, {"at_least": 1.0}, {"at_most": 0.0}])
def test_a_share_takes_one_bound_that_can_be_missed(bounds: dict[str, float]) -> None:
    with pytest.raises(EvidenceError, match="one of at_least and at_most"):
        share(**bounds)


def test_an_identity_is_decided_by_its_worst_value_without_an_interval() -> None:
    finding = exactly(math.log(2), 1e-9).judge([math.log(2), math.log(2) + 1e-12])
    assert finding.verdict == "reproduced" and finding.exact and finding.interval.n == 1
    missed = exactly(0, 1e-9).judge(np.array([[0, 0], [0, 1e-3]]))
    assert missed.verdict == "not reproduced" and missed.interval.estimate == 1e-3
    assert exactly(2.0).judge(2).verdict == "reproduced"


def test_an_identity_with_a_broken_value_is_not_reproduced() -> None:
    assert exactly(0, 1).judge([0.0, math.nan]).verdict == "inconclusive"
    with pytest.raises(EvidenceError, match="no finite value"):
        exactly(0, 1).judge(math.nan)


def test_every_part_must_hold_and_the_weakest_lends_its_interval() -> None:
    both = every(up=above(0), down=below(0))
    finding = both.judge({"up": TIGHT + 1, "down": TIGHT - 0.1})
    assert finding.verdict == "reproduced" and finding.deciding == "down"
    assert finding.interval.estimate == pytest.approx(-0.1)
    assert both.judge({"up": TIGHT + 1, "down": TIGHT}).verdict == "inconclusive"
    missed = both.judge({"up": TIGHT, "down": TIGHT + 1})
    assert missed.verdict == "not reproduced" and missed.deciding == "down"


def test_parts_may_differ_in_kind_unit_count_and_interval() -> None:
    mixed = every(mean=above(0), share=share(at_least=0.3), identity=exactly(0, 1e-9))
    effects = {"mean": TIGHT + 1, "share": [True] * 12, "identity": 0.0}
    finding = mixed.judge(effects, {"mean": "bca", "share": "wilson"})
    methods = {name: part.interval.method for name, part in finding.parts.items()}
    assert finding.verdict == "reproduced"
    assert methods == {"mean": "bca", "share": "wilson", "identity": "exact"}


def test_effects_for_other_parts_than_declared_are_refused() -> None:
    with pytest.raises(EvidenceError, match="the parts a, b; got parts a"):
        every(a=above(0), b=above(0)).judge({"a": TIGHT})
    with pytest.raises(EvidenceError, match="part b: 1 unit"):
        every(a=above(0), b=above(0)).judge({"a": TIGHT, "b": [1.0]})
    with pytest.raises(EvidenceError, match="not parts a"):
        above(0).judge({"a": TIGHT})


def test_an_order_asks_every_step_and_is_paired_within_units() -> None:
    base = np.random.default_rng(0).normal(size=(8, 1)) * 100  # levels differ little beside the units
    rising = base + np.array([0, 1, 2]) + np.random.default_rng(1).normal(size=(8, 3)) * 0.05
    assert ordered().judge(rising).verdict == "reproduced"
    finding = ordered().judge(rising[:, [0, 2, 1]])
    assert finding.verdict == "not reproduced" and finding.deciding == "2 to 3"


def test_an_order_of_one_level_or_of_a_plain_list_is_refused() -> None:
    for effects, message in ((np.zeros((5, 1)), "at least 2 levels"), (TIGHT, r"\[units, levels\]")):
        with pytest.raises(EvidenceError, match=message):
            ordered().judge(effects)


def test_contradicting_versions_are_told_apart() -> None:
    sign = versions({"v1": above(0), "later version": below(0)})
    assert sign.judge(TIGHT + 1).verdict == "supports v1"
    assert sign.judge(TIGHT - 1).verdict == "supports later version"
    assert sign.judge(TIGHT).verdict == "inconclusive"
    assert sign.judge([*TIGHT - 1, math.nan]).verdict == "inconclusive"
    apart = versions({"v1": above(1), "v2": below(-1)})
    assert apart.judge(TIGHT).verdict == "supports neither" and not apart.judge(TIGHT).met


def test_versions_that_overlap_are_not_told_apart_by_what_meets_both() -> None:
    assert versions({"v1": above(0), "v2": above(1)}).judge(TIGHT + 5).verdict == "inconclusive"


def test_versions_may_have_parts_but_parts_no_versions() -> None:
    sign = versions({"v1": every(a=above(0), b=above(0)), "v2": every(a=below(0), b=below(0))})
    assert sign.judge({"a": TIGHT - 1, "b": TIGHT - 2}).verdict == "supports v2"
    with pytest.raises(EvidenceError, match="cannot be a part"):
        every(a=sign, b=above(0))


def test_criteria_say_what_they_ask() -> None:
    assert every(a=within(1, 0.1), b=exactly(0, 1e-6)).text == "a within 0.1 of 1; b equals 0 to within 1e-06"
    assert versions({"v1": above(0), "v2": below(0)}).text == "v1: above 0 | v2: below 0"


def test_a_met_identity_does_not_decide_over_a_measured_part_that_is_met_too() -> None:
    """Its n = 1 would stand for the whole claim, which was measured over many units."""
    both = every(identity=exactly(1.0, 1e-9), measured=above(0))
    finding = both.judge({"identity": 1.0, "measured": [5.0, 5.1, 4.9, 5.2, 5.0, 5.1]})
    assert finding.verdict == "reproduced" and finding.deciding == "measured" and finding.interval.n == 6
    missed = both.judge({"identity": 2.0, "measured": [5.0, 5.1, 4.9, 5.2, 5.0, 5.1]})
    assert missed.verdict == "not reproduced" and missed.deciding == "identity"
