from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from repro.evidence import EvidenceError, Interval, jackknife, spearman
from repro.evidence.intervals import mean_interval, share_interval

EFFECTS = [0.3, 0.1, 0.45, 0.2, 0.6]


def ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def test_t_is_scipys_t_interval() -> None:
    expected = stats.ttest_1samp(EFFECTS, 0).confidence_interval(0.95)
    assert ends(mean_interval(EFFECTS, "t")) == pytest.approx((expected.low, expected.high))


def test_lists_numpy_torch_and_xarray_give_the_same_interval() -> None:
    reference = mean_interval(EFFECTS)
    tensor = torch.tensor(EFFECTS, dtype=torch.float64, requires_grad=True)
    for same in (tuple(EFFECTS), np.array(EFFECTS), tensor, xr.DataArray(EFFECTS, dims="seed")):
        assert mean_interval(same) == reference


@pytest.mark.parametrize("method", ["stretched-t", "t", "bca"])
def test_a_rerun_gives_the_same_interval_and_leaves_the_global_random_state_alone(method: str) -> None:
    before = np.random.get_state()[1].copy()
    assert mean_interval(EFFECTS, method) == mean_interval(EFFECTS, method)
    assert np.array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize("method", ["stretched-t", "t"])
def test_shifting_scaling_and_reflecting_the_effects_does_the_same_to_the_interval(method: str) -> None:
    interval = mean_interval(EFFECTS, method)
    moved = mean_interval(5 + 2 * np.array(EFFECTS), method)
    assert ends(moved) == pytest.approx((5 + 2 * interval.low, 5 + 2 * interval.high))
    assert ends(mean_interval(-np.array(EFFECTS), method)) == pytest.approx((-interval.high, -interval.low))


def test_the_stretched_end_is_the_one_on_the_side_of_the_long_tail() -> None:
    left_tailed = [1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 1.0, -3.0]
    interval = mean_interval(left_tailed)
    assert interval.estimate - interval.low > 2 * (interval.high - interval.estimate)


def test_one_unit_gives_no_interval() -> None:
    with pytest.raises(EvidenceError, match="1 unit gives no interval; give at least 2 seeds"):
        mean_interval([0.3])


def test_effects_that_are_not_one_number_per_unit_are_refused_by_their_shape() -> None:
    with pytest.raises(EvidenceError, match=r"1-D, one number per unit; got dims \('seed', 'lr'\)"):
        mean_interval(xr.DataArray(np.zeros((2, 3)), dims=("seed", "lr")))
    with pytest.raises(EvidenceError, match=r"got shape \(\)"):
        mean_interval(0.5)
    with pytest.raises(EvidenceError, match="must be numbers"):
        mean_interval(["a", "b"])


def test_diverged_units_are_counted_and_the_interval_is_that_of_the_rest() -> None:
    interval = mean_interval([*EFFECTS, np.nan, np.inf])
    assert (interval.n, interval.diverged) == (7, 2)
    assert ends(interval) == ends(mean_interval(EFFECTS))


def test_an_interval_of_nothing_finite_is_undefined_not_an_accident() -> None:
    interval = mean_interval([np.nan, np.nan, 1.0])
    assert np.isnan([interval.low, interval.high]).all() and "too few finite" in interval.note


def test_units_that_all_agree_give_an_interval_without_width_and_say_so() -> None:
    interval = mean_interval([0.1 + 0.2] * 6)
    assert interval.low == interval.high == interval.estimate == pytest.approx(0.3)
    assert "no width" in interval.note


@pytest.mark.parametrize(("ours", "theirs"), [("clopper-pearson", "beta"), ("wilson", "wilson")])
@pytest.mark.parametrize(("hits", "n"), [(0, 8), (7, 8), (8, 8), (30, 40)])
def test_share_intervals_are_those_of_statsmodels(ours: str, theirs: str, hits: int, n: int) -> None:
    interval = share_interval([True] * hits + [False] * (n - hits), ours)
    assert ends(interval) == pytest.approx(proportion_confint(hits, n, 0.05, theirs), abs=1e-9)
    assert interval.estimate == hits / n


def test_a_share_of_things_that_are_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(EvidenceError, match="true or false per unit"):
        share_interval([0.2, 1.0])


def test_unknown_methods_are_named_with_those_that_exist() -> None:
    with pytest.raises(EvidenceError, match="'z' is not one of stretched-t, t, bca"):
        mean_interval(EFFECTS, "z")


def test_the_jackknife_of_a_mean_is_the_interval_of_the_mean() -> None:
    effects = np.array(EFFECTS)
    without = [np.delete(effects, i).mean() for i in range(5)]
    for method in ("t", "stretched-t"):
        assert ends(jackknife(without, effects.mean(), method)) == pytest.approx(ends(mean_interval(effects, method)))


def test_the_jackknife_over_networks_gives_the_standard_error_by_definition() -> None:
    rng = np.random.default_rng(0)
    similarity = rng.random((6, 6))

    def over_pairs(networks: list[int]) -> float:
        return float(np.mean([similarity[i, j] for i, j in itertools.permutations(networks, 2)]))

    without = np.array([over_pairs([k for k in range(6) if k != i]) for i in range(6)])
    error = np.sqrt(5 / 6 * np.sum((without - without.mean()) ** 2))  # Efron & Tibshirani 1993, eq. 11.5
    interval = jackknife(without, over_pairs(list(range(6))), "t")
    assert interval.n == 6
    assert (interval.high - interval.low) / 2 == pytest.approx(stats.t.ppf(0.975, 5) * error)


def test_an_interval_that_is_upside_down_is_refused() -> None:
    with pytest.raises(EvidenceError, match="upside down"):
        Interval(0.0, 1.0, -1.0, 5)


def test_the_jackknife_interval_is_centred_on_the_estimate_reported_even_where_that_is_biased() -> None:
    effects = np.array(EFFECTS)
    without = [
        np.delete(effects, i).var() for i in range(5)
    ]  # the plug-in variance is biased, its pseudo-values are not
    interval = jackknife(without, effects.var(), "t")
    assert interval.estimate == effects.var() == pytest.approx((interval.low + interval.high) / 2)


def correlated(rho: float, n: int, draws: int) -> np.ndarray:
    """Bivariate normal samples [draws, 2, n] of Spearman correlation rho, Pearson correlation 2 sin(pi rho / 6)."""
    r, rng = 2 * np.sin(np.pi * rho / 6), np.random.default_rng(7)
    x, e = rng.standard_normal((2, draws, n))
    return np.stack([x, r * x + np.sqrt(1 - r**2) * e], 1)


def test_the_rank_correlation_is_scipys_and_sees_ranks_only() -> None:
    ((x, y),) = correlated(0.6, 20, 1)
    interval = spearman(x, y)
    assert interval.estimate == pytest.approx(stats.spearmanr(x, y).statistic)
    assert -1 < interval.low < interval.estimate < interval.high < 1
    assert ends(spearman(np.exp(x), y**3)) == pytest.approx(ends(interval))
    assert ends(spearman(x, -y)) == pytest.approx((-interval.high, -interval.low))


def test_the_interval_of_a_rank_correlation_is_that_of_fishers_z() -> None:
    x, y = [1, 2, 3, 4, 5, 6], [2, 1, 3, 4, 6, 5]  # rho = 1 - 6 * 4 / (6 * 35) = 31/35
    z, error = np.arctanh(31 / 35), np.sqrt((1 + (31 / 35) ** 2 / 2) / 3)
    assert ends(spearman(x, y)) == pytest.approx((np.tanh(z - 1.959964 * error), np.tanh(z + 1.959964 * error)))


@pytest.mark.parametrize(("rho", "n"), [(0.0, 8), (0.9, 32)])
def test_the_interval_of_a_rank_correlation_covers_it_19_times_in_20(rho: float, n: int) -> None:
    found = [spearman(x, y) for x, y in correlated(rho, n, 1000)]
    covered = np.mean([i.low <= rho <= i.high for i in found])
    assert 0.93 <= covered <= 0.98  # four standard errors of the simulation are 0.028


def test_perfect_ranks_of_few_units_prove_little() -> None:
    interval = spearman([1, 2, 3, 4], [10, 20, 30, 40])  # one order in 24 by chance
    assert interval.low < 0 < interval.estimate == interval.high == 1
    assert interval.low == pytest.approx(spearman([1, 2, 3, 4], [1, 2, 4, 3]).low)
    assert ends(spearman([1, 2, 3, 4], [4, 3, 2, 1])) == pytest.approx((-interval.high, -interval.low))
    assert spearman(range(32), range(32)).low > 0.99


def test_a_rank_correlation_leaves_out_and_counts_units_that_diverged() -> None:
    interval = spearman([1, 2, 3, 4, np.nan], [1, 2, 4, 3, 5])
    assert (interval.n, interval.diverged) == (5, 1)
    assert ends(interval) == ends(spearman([1, 2, 3, 4], [1, 2, 4, 3]))


def test_rank_correlations_that_cannot_be_are_refused() -> None:
    with pytest.raises(EvidenceError, match="3 finite units give no interval of a rank correlation; give at least 4"):
        spearman([1, 2, 3], [1, 2, 3])
    with pytest.raises(EvidenceError, match="got 4 and 5"):
        spearman([1, 2, 3, 4], [1, 2, 3, 4, 5])
    with pytest.raises(EvidenceError, match="one side is the same for all units"):
        spearman([1, 2, 3, 4], [1, 1, 1, 1])
