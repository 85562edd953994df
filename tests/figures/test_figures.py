import io

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image
from scipy.stats import ttest_1samp

from repro import figures
from repro.figures.style import VERDICTS, style


@pytest.fixture(autouse=True)
def house_style():
    with mpl.rc_context(), mpl.rc_context(style()):
        yield
        plt.close("all")


def claim(**changes) -> dict:
    base = {
        "id": "c1", "statement": "s", "reported": "r", "criterion": "above 0.1", "unit": "cosine", "n": 8,
        "estimate": 0.3, "low": 0.2, "high": 0.4, "verdict": "reproduced",
        "control": {"what": "permuted", "estimate": 0.01, "low": -0.05, "high": 0.07, "verdict": "not reproduced"},
        "threshold_low": 0.1, "threshold_high": None,
    }  # fmt: skip
    return {**base, **changes}


def shading(ax) -> list[tuple[float, float]]:
    return [(round(p.get_x(), 6), round(p.get_x() + p.get_width(), 6)) for p in ax.patches]


def test_a_band_is_the_mean_and_its_student_interval_at_every_point():
    values = np.random.default_rng(0).normal(size=(6, 4)).cumsum(1)
    mean, half = figures.t_band(values)
    for i in range(4):
        interval = ttest_1samp(values[:, i], 0).confidence_interval(0.95)
        assert (mean[i] - half[i], mean[i] + half[i]) == pytest.approx((interval.low, interval.high))
    _, ax = plt.subplots()
    line = figures.band(ax, range(4), values, "seeds")
    np.testing.assert_allclose(line.get_ydata(), mean)
    drawn = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert drawn.min() == pytest.approx((mean - half).min()) and drawn.max() == pytest.approx((mean + half).max())


def test_a_diverged_seed_is_left_out_where_it_is_not_finite_and_only_there():
    values = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, np.nan], [2.0, np.inf, np.nan]])
    mean, half = figures.t_band(values)
    assert mean.tolist() == [2, 3, 3] and np.isfinite(half[:2]).all() and np.isnan(half[2])


def test_bands_without_a_second_seed_or_of_another_shape_are_refused():
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match="1 seed"):
        figures.band(ax, range(3), np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"\(2, 4\) for \(3,\) points"):
        figures.band(ax, range(3), np.zeros((2, 4)))


def test_a_claim_shows_its_estimate_interval_region_control_and_verdict():
    (ax,) = figures.claims_plot({"slug": "p", "claims": [claim()]}).axes
    assert ax.get_title("left") == "c1: reproduced"
    assert shading(ax) == [(0.1, round(ax.get_xlim()[1], 6))], "above 0.1 is open to the right"
    ends = sorted(
        tuple(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2 and line.get_ydata()[0] != 0
    )
    assert (0.2, 0.4) in ends and (-0.05, 0.07) in ends
    low, high = ax.get_xlim()
    assert low < -0.05 and high > 0.4


def test_every_verdict_has_its_own_colour_and_marker():
    claims = [claim(id=f"c{i}", verdict=v) for i, v in enumerate([*VERDICTS, "supports v1"])]
    axes = figures.claims_plot({"claims": claims}).axes
    assert len(axes) == len(claims) and axes[-1].get_title("left") == "c5: supports v1"
    assert len({ax._left_title.get_color() for ax in axes}) == len(claims)
    assert len({marker for _, marker in VERDICTS.values()}) == len(VERDICTS)


def test_parts_of_a_compound_claim_are_drawn_one_by_one():
    part = {
        "name": "late",
        "criterion": "below 1",
        "n": 8,
        "estimate": 0.5,
        "low": 0.4,
        "high": 0.6,
        "verdict": "reproduced",
    }
    parts = [{**part, "threshold_high": 1.0}, {**part, "name": "early"}]
    axes = figures.claims_plot({"claims": [claim(parts=parts)]}).axes
    assert [ax.get_title("left") for ax in axes] == ["c1 late: reproduced", "c1 early: reproduced"]
    assert len(shading(axes[0])) == 1 and shading(axes[1]) == []


def test_a_claim_that_was_not_measured_keeps_its_row_and_says_so():
    bare = {"id": "c9", "verdict": "not tested here", "estimate": None, "low": None, "high": None, "control": None}
    _, ax = figures.claims_plot({"claims": [claim(), bare]}).axes
    assert [t.get_text() for t in ax.texts] == ["no estimate"]


def test_an_exact_claim_without_width_is_drawn():
    (ax,) = figures.claims_plot(
        {"claims": [claim(estimate=2.0, low=2.0, high=2.0, threshold_low=2.0, threshold_high=2.0, control=None)]}
    ).axes
    assert ax.get_xlim()[0] < 2 < ax.get_xlim()[1]


def test_a_record_without_claims_is_refused():
    with pytest.raises(ValueError, match="'p' has no claims"):
        figures.claims_plot({"slug": "p", "claims": []})


def test_a_heatmap_names_its_rows_and_marks_every_tied_maximum():
    _, ax = plt.subplots()
    figures.heatmap(ax, [[1.0, 0.2, 0.3], [0.5, 0.5, np.nan]], ["a", "b"], ["x", "y", "z"], mark_row_maxima=True)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert sorted(map(tuple, ax.collections[-1].get_offsets().tolist())) == [(0.5, 0.5), (0.5, 1.5), (1.5, 1.5)]
    with pytest.raises(ValueError, match=r"matrix is \(2, 2\) for 3 rows"):
        figures.heatmap(ax, np.eye(2), ["a", "b", "c"], ["x", "y"])


def test_a_shown_figure_carries_its_texts_and_is_closed(monkeypatch):
    outputs = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: outputs.append((data, options)))
    figure, ax = plt.subplots()
    ax.plot([1, 2])
    figures.show(figure, caption="A line.", alt="It rises.")
    ((data, options),) = outputs
    assert options["metadata"] == {
        "repro": {"alt": "It rises.", "caption": "A line."},
        "image/png": {"alt": "It rises."},
    }
    assert set(data) == {"image/png", "text/plain"} and options["raw"] and not plt.get_fignums()
    with pytest.raises(ValueError, match="alt is empty"):
        figures.show(figure, caption="A line.", alt=" ")


def test_a_crowded_figure_still_stays_below_its_limit_and_an_easy_one_keeps_its_resolution():
    noise = np.random.default_rng(0).random((300, 300))
    crowded, (left, right) = plt.subplots(1, 2, figsize=(9, 5))
    left.imshow(noise)
    right.scatter(*np.random.default_rng(1).normal(size=(2, 5000)), c=noise.ravel()[:5000], s=3)
    assert len(figures.png(crowded)) <= 60 * 1024
    easy, ax = plt.subplots()
    ax.plot([1, 2])
    assert Image.open(io.BytesIO(figures.png(easy))).size == (572, 374)
    assert figures.png(easy) == figures.png(easy)


def test_the_style_is_not_loaded_by_importing_the_library():
    import subprocess
    import sys

    heavy = "import sys; import repro.figures, repro.data, repro.models, repro.measure; "
    check = heavy + "print([m for m in ('matplotlib', 'sklearn', 'datasets', 'pandas', 'pooch') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
