import pytest
import torch

from repro.measure.spectrum import (
    near_zero,
    negative_share,
    outliers_by_gap,
    positive_share,
    subspace_overlap,
    subspace_share,
    trace_over_norm,
)

VALUES = torch.tensor([[9.0, 5.0, 4.0, 0.1, 1e-12, -1e-12, -0.05, -1.0]], dtype=torch.float64)


def test_the_index_counts_negative_directions_beyond_round_off():
    assert negative_share(VALUES).tolist() == [2 / 8]
    assert negative_share(VALUES, tol=0).tolist() == [3 / 8]
    assert positive_share(VALUES).tolist() == [4 / 8]


def test_shares_do_not_depend_on_the_scale_of_the_curvature():
    assert negative_share(1e-30 * VALUES) == negative_share(VALUES)
    torch.testing.assert_close(trace_over_norm(1e-200 * VALUES), trace_over_norm(VALUES))


def test_the_bulk_is_what_is_small_against_the_largest_eigenvalue():
    assert near_zero(VALUES).sum() == 3 and near_zero(VALUES, 0.1).sum() == 4


def test_trace_over_norm_has_its_ceiling_at_equal_curvatures():
    torch.testing.assert_close(trace_over_norm(torch.full((2, 16), 3.0)), torch.full((2,), 4.0))


def test_outliers_end_at_the_largest_ratio_in_any_order():
    mixed = VALUES[:, torch.randperm(8)]
    assert outliers_by_gap(mixed, 2, 3).tolist() == [3]
    assert outliers_by_gap(torch.tensor([[100.0, 5.0, 4.0, 0.5, 0.4]])).tolist() == [3]  # the first gap does not count
    assert outliers_by_gap(torch.tensor([[100.0, 5.0, 4.0, 0.5, 0.4]]), lowest=1).tolist() == [1]
    assert outliers_by_gap(torch.tensor([3.0, 2.0, 0.0, -1.0])) == 2  # nothing positive beyond


def test_a_range_of_gaps_outside_the_spectrum_is_refused():
    with pytest.raises(ValueError, match="highest = 8: need 1 <= lowest <= highest < 8"):
        outliers_by_gap(VALUES, 2, 8)


def test_overlap_is_one_for_a_contained_subspace_and_zero_for_an_orthogonal_one():
    eye = torch.eye(6).expand(2, 6, 6)
    turn = torch.linalg.qr(torch.randn(3, 3))[0]
    torch.testing.assert_close(subspace_overlap(turn @ eye[:, :3], eye[:, :4]), torch.ones(2))
    torch.testing.assert_close(subspace_overlap(eye[:, :3], eye[:, 3:]), torch.zeros(2))


def test_the_share_of_a_vector_in_a_subspace_is_pythagoras():
    basis = torch.eye(5)[None, :2]
    vectors = torch.tensor([[[3.0, 0, 4.0, 0, 0], [0, 1.0, 0, 0, 0]]])
    torch.testing.assert_close(subspace_share(vectors, basis), torch.tensor([[9 / 25, 1.0]]))
