"""The heart of the book: how often chance alone is called *reproduced*.

Effects are drawn with their mean exactly on the threshold, so every *reproduced* is false. `python
tests/evidence/test_calibration.py` prints the table for all rules, with the power each keeps for normal effects.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from repro.evidence import above, below, within
from repro.evidence.intervals import FEW, bca_limits, mean_interval, stretched_t_limits, t_limits

DRAWS = 40_000
ERROR = 3 * math.sqrt(0.05 * 0.95 / DRAWS)  # three standard errors of a simulated 5 %
NULLS = {
    "normal": lambda rng, size: rng.normal(size=size),
    "exponential": lambda rng, size: rng.exponential(size=size) - 1,
    "minus exponential": lambda rng, size: 1 - rng.exponential(size=size),
    "lognormal": lambda rng, size: rng.lognormal(size=size) - math.exp(0.5),
    "minus lognormal": lambda rng, size: math.exp(0.5) - rng.lognormal(size=size),
}


def null(name: str, n: int, draws: int = DRAWS, seed: int = 11) -> np.ndarray:
    """Effects [draws, n] with mean zero."""
    return NULLS[name](np.random.default_rng([seed, n]), (draws, n))


@pytest.mark.parametrize("name", NULLS)
@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 8, 11, 12, 16, 32])
def test_an_effect_exactly_at_the_threshold_is_reproduced_at_most_once_in_twenty(name: str, n: int) -> None:
    _, low, high = stretched_t_limits(null(name, n))
    assert np.mean(low > 0) <= 0.05 + ERROR  # above(0)
    assert np.mean(high < 0) <= 0.05 + ERROR  # below(0)


@pytest.mark.parametrize("name", NULLS)
@pytest.mark.parametrize("tolerance", [0.5, 2.0, 10.0])
def test_a_value_at_the_edge_of_the_tolerance_is_called_equal_at_most_once_in_twenty(
    name: str, tolerance: float
) -> None:
    for n in (5, 8, 16):
        _, low, high = stretched_t_limits(null(name, n))
        for edge in (-tolerance, tolerance):  # the true mean is `edge`, the centre 0
            inside = (-tolerance <= edge + low) & (edge + high <= tolerance)
            assert np.mean(inside) <= 0.05 + ERROR


@pytest.mark.parametrize("n", [5, 8, 16])
def test_the_interval_covers_the_mean_at_least_95_times_in_100(n: int) -> None:
    for name in NULLS:
        _, low, high = stretched_t_limits(null(name, n))
        assert np.mean((low <= 0) & (high >= 0)) >= 0.95 - ERROR


@pytest.mark.parametrize("name", NULLS)
def test_what_is_simulated_is_what_a_claim_is_judged_by(name: str) -> None:
    effects = null(name, 5, draws=400)
    _, low, high = stretched_t_limits(effects)
    for row, lower, upper in zip(effects, low, high, strict=True):
        interval = mean_interval(row)
        assert (interval.low, interval.high) == pytest.approx((lower, upper))
        assert (above(0).judge(row).verdict == "reproduced") == (lower > 0)
        assert (below(0).judge(row).verdict == "reproduced") == (upper < 0)
        assert (within(0, 1).judge(row).verdict == "reproduced") == (lower >= -1 and upper <= 1)


def test_plain_t_and_bca_do_not_hold_under_skew_which_is_why_they_are_not_the_default() -> None:
    assert np.mean(t_limits(null("minus lognormal", 8))[1] > 0) > 0.12
    assert np.mean(t_limits(null("minus exponential", 5))[1] > 0) > 0.08
    few = null("minus lognormal", 5, draws=300)
    assert np.mean([bca_limits(row)[1] > 0 for row in few]) > 0.12


def test_power_for_clear_normal_effects_is_kept() -> None:
    def power(n: int, effect: float) -> float:
        return float(np.mean(stretched_t_limits(null("normal", n) + effect)[1] > 0))

    assert power(8, 2.0) > 0.8 and power(8, 3.0) > 0.96
    assert power(16, 1.0) > 0.85


def test_the_default_never_is_narrower_than_t() -> None:
    for name in NULLS:
        effects = null(name, 7, draws=2000)
        _, t_low, t_high = t_limits(effects)
        _, low, high = stretched_t_limits(effects)
        assert np.all(low <= t_low) and np.all(t_high <= high)


def test_unskewed_effects_of_many_units_get_the_plain_t_interval() -> None:
    effects = np.linspace(-1, 1, 13)
    assert 13 not in FEW
    expected = stats.t.interval(0.95, 12, effects.mean(), stats.sem(effects))
    assert stretched_t_limits(effects)[1:] == pytest.approx(expected)


def _hull_of_t_and_johnson(x: np.ndarray) -> np.ndarray:
    """Whether 0 is left below by both t and Johnson's (1978) skewness-corrected t."""
    n = x.shape[-1]
    t = x.mean(-1) / (x.std(-1, ddof=1) / math.sqrt(n))
    johnson = t + stats.skew(x, axis=-1, bias=False) / (6 * math.sqrt(n)) * (1 + 2 * t**2)
    return np.minimum(t, johnson) > stats.t.ppf(0.975, n - 1)


def _table() -> None:
    rules = {
        "t": lambda x: t_limits(x)[1] > 0,
        "hull of t, Johnson": _hull_of_t_and_johnson,
        "bca": lambda x: np.array([bca_limits(row)[1] > 0 for row in x[:2000]]),
        "stretched-t": lambda x: stretched_t_limits(x)[1] > 0,
    }
    columns = [*NULLS, "power 1", "power 1.5", "power 2", "power 3"]
    print("false *reproduced* of above(0), percent; power for normal effects of that many standard deviations")
    for n in (5, 8, 16):
        print(f"\nn = {n}".ljust(24), *(c.rjust(18) for c in columns), sep="")
        for rule, decide in rules.items():
            cells = [decide(null(name, n)) for name in NULLS]
            cells += [decide(null("normal", n) + shift) for shift in (1, 1.5, 2, 3)]
            print(rule.ljust(23), *(f"{100 * np.mean(cell):18.1f}" for cell in cells), sep="")


if __name__ == "__main__":
    _table()
