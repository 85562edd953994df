"""From one number per independent unit to an estimate with a 95 % interval.

`stretched-t` is the default. Student's t assumes symmetric effects; under skew one of its ends misses far too often
(5 exponential effects: 11 % instead of 2.5 %; 8 lognormal ones: 16 %), because the error of each end is to first order
proportional to the skewness (Hall, The Bootstrap and Edgeworth Expansion, 1992, section 3.5). Johnson's and Hall's
corrections and the studentised bootstrap rest on the sample skewness, which few units underestimate: at n = 5 to 16 all
leave 6 to 10 % for lognormal effects, BCa more. Here the end on the side of the long tail is moved out in proportion to
the sample skewness G (adjusted Fisher-Pearson), and both ends by a factor for few units:

    estimate -+ t(.975, n-1) s/sqrt(n) * FEW[n] * (1 + max(0, -+G))

It always contains the t interval. FEW is calibrated so that each end misses at most 5 % of the time for normal,
exponential and lognormal (sigma 1) effects of either sign (tests/evidence/test_calibration.py). Heavier skew than that,
or a rare failure that no unit happened to show, is beyond what any interval from so few units can see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from repro.parameters import OneLineError

DEFAULT = "stretched-t"
MEANS = (DEFAULT, "t", "bca")
SHARES = ("clopper-pearson", "wilson")
#: Factor by which few units widen the stretched t interval (Monte Carlo; 1 from 13 units on).
FEW = {2: 2.2, 3: 1.9, 4: 1.9, 5: 1.72, 6: 1.58, 7: 1.46, 8: 1.34, 9: 1.24, 10: 1.16, 11: 1.09, 12: 1.03}
RESAMPLES = 9999
BOOTSTRAP_SEED = 20260101  # fixed: a rerun on the same effects gives the same interval


class EvidenceError(OneLineError):
    """A claim was declared or judged in a way that cannot be evidence."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval over `n` independent units, of which `diverged` were not finite.

    `values` are the units' effects, kept for the record; `note` says what is unusual about the interval.
    """

    estimate: float
    low: float
    high: float
    n: int
    diverged: int = 0
    method: str = "given"
    values: tuple[float, ...] = field(default=(), repr=False)
    note: str = ""

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise EvidenceError(f"interval [{self.low}, {self.high}] is upside down")


def require_units(n: int) -> None:
    """Raise EvidenceError unless there are at least two units."""
    if n < 2:
        raise EvidenceError(f"{n} unit{'' if n == 1 else 's'} gives no interval; give at least 2 seeds")


def as_array(effects: Any, ndim: int = 1) -> np.ndarray:
    """`effects` (list, NumPy, torch, xarray) as float64 [n] or, with ndim=2, [n, k]; EvidenceError if they are not."""
    values = effects.detach().cpu() if hasattr(effects, "detach") else effects
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise EvidenceError(f"effects must be numbers, one per unit; got {type(effects).__name__}") from None
    if array.ndim != ndim:
        shape = f"dims {effects.dims}" if hasattr(effects, "dims") else f"shape {array.shape}"
        wanted = "1-D, one number per unit" if ndim == 1 else "[units, levels]"
        raise EvidenceError(f"effects must be {wanted}; got {shape}")
    return array


def mean_interval(effects: Any, method: str = DEFAULT) -> Interval:
    """95 % interval of the mean of `effects` [n] by `method`, one of MEANS; units not finite are only counted."""
    if method not in MEANS:
        raise EvidenceError(f"interval {method!r} is not one of {', '.join(MEANS)}")
    values = as_array(effects)
    require_units(len(values))
    finite = values[np.isfinite(values)]
    diverged = len(values) - len(finite)
    if len(finite) < 2:
        estimate, low, high, note = math.nan, math.nan, math.nan, "too few finite units for an interval"
    elif np.ptp(finite) <= 1e-12 * np.abs(finite).max():
        estimate = low = high = float(finite.mean())
        note = "all units gave the same value: the interval has no width"
    else:
        estimate, low, high = (float(x) for x in _LIMITS[method](finite))
        note = ""
    return Interval(estimate, low, high, len(values), diverged, method, tuple(values.tolist()), note)


def t_limits(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and Student t limits of x [..., n] over the last axis."""
    mean, half, _ = _moments(x)
    return mean, mean - half, mean + half


def stretched_t_limits(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and stretched t limits (module docstring) of x [..., n] over the last axis."""
    mean, half, skewness = _moments(x)
    half = half * FEW.get(x.shape[-1], 1.0)
    return mean, mean - half * (1 + np.maximum(0, -skewness)), mean + half * (1 + np.maximum(0, skewness))


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, half-width of the t interval and adjusted skewness (0 where n = 2) of x [..., n]."""
    from scipy import stats

    n = x.shape[-1]
    mean = x.mean(-1)
    half = stats.t.ppf(0.975, n - 1) * x.std(-1, ddof=1) / math.sqrt(n)
    skewness = stats.skew(x, axis=-1, bias=False) if n > 2 else np.zeros_like(mean)
    return mean, half, skewness


def bca_limits(x: np.ndarray) -> tuple[float, float, float]:
    """Mean and BCa bootstrap limits (Efron 1987) of x [n]; under-covers for n below about 20."""
    from scipy import stats

    rng = np.random.default_rng(BOOTSTRAP_SEED)
    result = stats.bootstrap((x,), np.mean, n_resamples=RESAMPLES, method="BCa", rng=rng)
    return float(x.mean()), *result.confidence_interval


_LIMITS = {DEFAULT: stretched_t_limits, "t": t_limits, "bca": bca_limits}


def share_interval(outcomes: Any, method: str = SHARES[0], missing: bool = False) -> Interval:
    """95 % interval of the share of true `outcomes` [n] (booleans, or 0 and 1); a NaN counts as `missing`.

    Clopper-Pearson (1934) is exact, hence wide: nine tenths can be shown only from 36 units on. Wilson (1927) is
    shorter, and right on average only.
    """
    from scipy import stats

    if method not in SHARES:
        raise EvidenceError(f"interval {method!r} of a share is not one of {', '.join(SHARES)}")
    values = as_array(outcomes)
    require_units(len(values))
    finite = np.isfinite(values)
    if not np.isin(values[finite], (0, 1)).all():
        raise EvidenceError("a share needs true or false per unit; compare the effects first, e.g. effects > 0")
    hits = int(np.where(finite, values, missing).sum())
    result = stats.binomtest(hits, len(values)).proportion_ci(0.95, "exact" if method == SHARES[0] else "wilson")
    low, high, diverged = float(result.low), float(result.high), int((~finite).sum())
    return Interval(hits / len(values), low, high, len(values), diverged, method, tuple(values.tolist()))


def jackknife(leave_one_out: Sequence[float], full: float, method: str = DEFAULT) -> Interval:
    """Interval of a statistic of n units that is no mean over them, e.g. over the pairs they form.

    leave_one_out [n]: the statistic without unit i; full: with all. Tukey's (1958) pseudo-values
    n full - (n-1) leave_one_out are treated as n effects; their spread is the jackknife standard error, and the
    interval is centred on `full`. A replicate that is not finite is counted as a diverged unit.
    """
    loo = as_array(leave_one_out)
    require_units(len(loo))
    pseudo = len(loo) * float(full) - (len(loo) - 1) * loo
    around = mean_interval(pseudo, method)
    shift = float(full) - around.estimate
    name = f"jackknife {method}"
    return Interval(float(full), around.low + shift, around.high + shift, len(loo), around.diverged, name,
                    around.values, around.note)  # fmt: skip


def spearman(x: Any, y: Any) -> Interval:
    """Spearman's rank correlation of `x` [n] and `y` [n], one pair of numbers per unit, with its 95 % interval.

    Fisher's z = artanh(rho) with the standard error sqrt((1 + rho^2 / 2) / (n - 3)) of Bonett and Wright (Sample size
    requirements for estimating Pearson, Kendall and Spearman correlations, Psychometrika 65, 2000), so within [-1, 1].
    Where the ranks agree perfectly z is infinite: the inner end is then that of n units with two neighbours swapped.
    Units of which either number is not finite are only counted. Raises EvidenceError for lengths that differ, fewer
    than four finite units, and numbers that are all the same (no ranks).
    """
    from scipy import stats

    a, b = as_array(x), as_array(y)
    if len(a) != len(b):
        raise EvidenceError(f"a rank correlation pairs one x with one y per unit; got {len(a)} and {len(b)}")
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = a[finite], b[finite]
    if len(a) < 4:
        raise EvidenceError(f"{len(a)} finite units give no interval of a rank correlation; give at least 4")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise EvidenceError("a rank correlation needs numbers that differ; one side is the same for all units")
    n, rho = len(a), round(float(stats.spearmanr(a, b).statistic), 12)  # agreement is 1, not 1 - 1e-16
    inner = math.copysign(min(abs(rho), 1 - 12 / (n * (n**2 - 1))), rho)
    z, half = math.atanh(inner), stats.norm.ppf(0.975) * math.sqrt((1 + inner**2 / 2) / (n - 3))
    low, high = min(math.tanh(z - half), rho), max(math.tanh(z + half), rho)
    return Interval(rho, low, high, len(finite), int((~finite).sum()), "fisher-z bonett-wright")
