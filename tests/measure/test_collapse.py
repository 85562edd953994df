import pytest
import torch

from repro.measure.collapse import (
    class_means,
    etf,
    frame_distance,
    nc1,
    off_diagonal_share,
    orthogonal_frame,
    partial_products,
)

torch.manual_seed(0)
LABELS = torch.tensor([0] * 7 + [1] * 5 + [2] * 3 + [3] * 9)
MEANS = torch.randn(2, 4, 6, dtype=torch.float64)


def test_means_are_taken_over_each_class():
    features = torch.randn(2, 24, 6, dtype=torch.float64)
    torch.testing.assert_close(class_means(features, LABELS)[1, 2], features[1, 12:15].mean(0))
    with pytest.raises(ValueError, match="class 4 has no examples"):
        class_means(features, LABELS, classes=5)


def test_features_equal_to_their_class_mean_have_no_variability():
    assert nc1(MEANS[:, LABELS], LABELS).abs().max() < 1e-20


def test_variability_is_the_trace_of_the_textbook():
    features = MEANS[0, LABELS] + 0.3 * torch.randn(24, 6, dtype=torch.float64)
    means, total = class_means(features, LABELS), features.mean(0)
    within = sum(torch.outer(h - means[k], h - means[k]) for h, k in zip(features, LABELS, strict=True)) / 24
    between = sum(torch.outer(m - total, m - total) for m in means) / 4
    expected = (within @ torch.linalg.pinv(between, rtol=1e-10)).trace() / 4
    torch.testing.assert_close(nc1(features, LABELS), expected)


def test_variability_does_not_depend_on_scale_or_rotation():
    features = MEANS[:, LABELS] + 0.3 * torch.randn(2, 24, 6, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    torch.testing.assert_close(nc1(5 * features @ turn, LABELS), nc1(features, LABELS))


def test_a_simplex_is_equiangular_and_an_orthogonal_frame_is_far_from_it():
    vectors = torch.eye(4, dtype=torch.float64) - 0.25
    assert frame_distance(3 * vectors @ vectors.T, etf(4)) < 1e-12
    equal = torch.ones(4, dtype=torch.float64)
    torch.testing.assert_close(etf(4).norm(), torch.tensor(1.0, dtype=torch.float64))
    # inner product of the two unit Gram matrices: tr((I - J/4)/sqrt 3 . I/2) = sqrt(3)/2
    torch.testing.assert_close(
        frame_distance(orthogonal_frame(equal), etf(4)), torch.tensor((2 - 3**0.5) ** 0.5, dtype=torch.float64)
    )


def test_frames_with_unequal_lengths_have_the_lengths_asked_for():
    lengths = torch.tensor([5.0, 3.0, 1.0, 0.0], dtype=torch.float64)
    rows = torch.linalg.qr(torch.randn(6, 4, dtype=torch.float64))[0].T * lengths.sqrt()[:, None]
    gram = torch.stack([rows @ rows.T, torch.ones(4, 4, dtype=torch.float64)])
    distance = frame_distance(gram, orthogonal_frame(lengths))
    assert distance[0] < 1e-12 < 0.1 < distance[1]
    assert off_diagonal_share(gram)[0] < 1e-12 and off_diagonal_share(gram)[1] == 1


def test_partial_products_start_at_every_layer():
    weights = [torch.randn(2, *shape) for shape in ((6, 5), (7, 6), (3, 7))]
    products = partial_products(weights)
    torch.testing.assert_close(products[0], weights[2] @ weights[1] @ weights[0])
    torch.testing.assert_close(products[1], weights[2] @ weights[1])
    assert products[2] is weights[2]
