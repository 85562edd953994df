"""Linear CKA of many layers at once."""

from __future__ import annotations

import itertools

import pytest
import torch

from repro.measure.alignment import (
    pairwise,
    pairwise_cca,
    pairwise_cka,
    pairwise_hsic,
    pairwise_rbf_cka,
    pairwise_regression,
)
from repro.measure.kernels import rbf_cka, unbiased_cka
from repro.measure.representation import Representation
from repro.measure.similarity import cca_mean, cca_r2, linear_cka, linear_hsic, pwcca, regression_r2, svcca_r2


def layers(n: int = 30, widths: tuple[int, ...] = (5, 40, 12)) -> list[torch.Tensor]:
    """Layers of different widths with a signal in common, on n inputs, off centre."""
    generator = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)  # noqa: E731
    signal = draw(n, 4)
    return [signal @ draw(4, p) + draw(n, p) + 2 for p in widths]


@pytest.mark.parametrize(("unbiased", "index"), [(False, linear_cka), (True, unbiased_cka)])
def test_all_pairs_at_once_are_the_pairs_one_by_one(unbiased, index):
    found = layers()
    one_by_one = [Representation(x) for x in found]
    expected = pairwise(one_by_one, index)
    assert torch.allclose(pairwise_cka(found, unbiased), expected, rtol=0, atol=1e-12)
    assert torch.allclose(pairwise_cka([x.float() for x in found], unbiased), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("at_once", "index"),
    [
        (pairwise_cca, cca_r2),
        (lambda layers: pairwise_cca([layer.truncated() for layer in layers]), svcca_r2),
        (pairwise_regression, regression_r2),
    ],
)
def test_projectors_give_cca_and_regression_of_all_pairs(at_once, index):
    found = [Representation(x) for x in (*layers(), torch.ones(30, 3))]  # the last has no variance
    index_of_alive = pairwise(found[:3], index)
    expected = torch.zeros(4, 4, dtype=torch.float64)
    expected[:3, :3] = index_of_alive
    assert torch.allclose(at_once(found[:3]), index_of_alive, rtol=0, atol=1e-12)
    if index is not svcca_r2:  # nothing to truncate
        assert torch.allclose(at_once(found), expected, rtol=0, atol=1e-12)


def test_hsic_and_cka_of_other_kernels_are_those_one_by_one():
    found = [Representation(x) for x in layers()]
    assert torch.allclose(pairwise_hsic(found), pairwise(found, linear_hsic), rtol=1e-12)
    for fraction in (0.2, 0.8):
        expected = pairwise(found, lambda x, y, fraction=fraction: rbf_cka(x, y, fraction))
        assert torch.allclose(pairwise_rbf_cka(found, fraction), expected, rtol=0, atol=1e-12)


def test_an_index_of_every_two_layers_is_that_of_two_strangers_row_against_column():
    activations = layers()
    for index in (cca_mean, pwcca, regression_r2):  # the last two are not symmetric
        found = pairwise([Representation(x) for x in activations], index)
        for i, j in itertools.product(range(3), repeat=2):
            alone = index(Representation(activations[i]), Representation(activations[j]))
            assert found[i, j] == pytest.approx(alone, abs=1e-12)


def test_images_are_flattened():
    x = torch.randn(10, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(
        pairwise_cka([x, x.flatten(1) * 3 + 1]), torch.ones(2, 2, dtype=torch.float64), rtol=0, atol=1e-5
    )


def test_a_dead_layer_resembles_nothing_not_even_itself():
    found = pairwise_cka([torch.full((6, 3), 0.3), torch.randn(6, 3, generator=torch.Generator().manual_seed(1))])
    assert found.tolist()[0] == [0, 0] and found[1, 1] == pytest.approx(1)


def test_different_probe_sets_and_broken_activations_are_refused():
    with pytest.raises(ValueError, match="one probe set"):
        pairwise_cka([torch.randn(8, 2), torch.randn(9, 2)])
    with pytest.raises(ValueError, match="finite"):
        pairwise_cka([torch.full((8, 2), torch.nan)])
