import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from repro.measure import stiffness as st
from repro.measure.gradients import gram, per_example_gradients


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_known_angles_give_known_stiffness():
    g1 = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    g2 = torch.tensor([[1.0, 1.0], [-5.0, 0.0]])
    s = st.stiffness(g1, g2)
    torch.testing.assert_close(s.cosine, torch.tensor([[math.sqrt(0.5), -1.0], [math.sqrt(0.5), 0.0]]))
    torch.testing.assert_close(s.sign, torch.tensor([[1.0, -1.0], [1.0, 0.0]]))


def test_a_small_step_on_one_example_lowers_the_loss_on_another_where_their_stiffness_is_positive():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    params = {k: v.detach() for k, v in net.named_parameters()}
    x, y = draw(12, 4), torch.arange(12) % 3

    def loss(p, at):
        return cross_entropy(torch.func.functional_call(net, p, (x[at],)), y[at], reduction="none")

    g = per_example_gradients(net, params, {}, x, y, cross_entropy)
    sign = st.stiffness(g, g).sign
    for i in range(12):
        parts = g[i].split([p.numel() for p in params.values()])
        stepped = {k: p - 1e-6 * d.view_as(p) for (k, p), d in zip(params.items(), parts, strict=True)}
        fell = (loss(params, slice(None)) - loss(stepped, slice(None))).sign()
        torch.testing.assert_close(fell, sign[i])


def test_examples_without_a_gradient_are_nan_and_leave_the_means_alone():
    g = draw(6, 5)
    g[2] = 0
    s = st.stiffness(g, g)
    assert s.sign[2].isnan().all() and s.cosine[:, 2].isnan().all() and s.cosine.isnan().sum() == 11
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    kept = torch.tensor([0, 1, 3, 4, 5])
    torch.testing.assert_close(
        st.by_class(s.cosine, labels, labels, 2),
        st.by_class(s.cosine[kept][:, kept], labels[kept], labels[kept], 2),
    )


def test_products_and_norms_give_what_gradients_give():
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 3).double()
    x, y = draw(9, 4), torch.arange(9) % 3
    params = dict(net.named_parameters())
    g = per_example_gradients(net, params, {}, x, y, cross_entropy)
    from_gradients = st.stiffness(g, g)
    from_gram = st.from_products(*gram(net, params, {}, (x, y), None, cross_entropy, chunk=4))
    torch.testing.assert_close(from_gram.cosine, from_gradients.cosine)
    torch.testing.assert_close(from_gram.sign, from_gradients.sign)


def test_a_class_matrix_is_the_mean_over_pairs_counted_one_by_one():
    values, a, b = draw(7, 9), torch.arange(7) % 3, torch.arange(9) % 3
    values[1, 4] = torch.nan
    matrix = st.by_class(values, a, b, 4)
    for i in range(3):
        for j in range(3):
            torch.testing.assert_close(matrix[i, j], values[a == i][:, b == j].nanmean())
    assert matrix[3].isnan().all(), "a class without examples has no stiffness"


def test_members_with_their_own_labels_are_treated_one_by_one():
    values = draw(4, 6, 6)
    labels = torch.stack([torch.randperm(6) % 2 for _ in range(4)])
    matrix = st.by_class(values, labels, labels, 2)
    within, between = st.within_between(matrix)
    for m in range(4):
        alone = st.by_class(values[m], labels[m], labels[m], 2)
        torch.testing.assert_close(matrix[m], alone)
        torch.testing.assert_close(within[m], alone.diagonal().mean())
        torch.testing.assert_close(between[m], (alone[0, 1] + alone[1, 0]) / 2)


def test_self_pairs_inflate_the_diagonal_until_they_are_taken_out():
    g, labels = draw(40, 4000), torch.arange(40) % 10  # near orthogonal: stiffness 0 but for self-pairs
    s = st.stiffness(g, g).cosine
    inflated, _ = st.within_between(st.by_class(s, labels, labels, 10))
    honest, _ = st.within_between(st.by_class(st.without_self_pairs(s), labels, labels, 10))
    assert inflated > 0.2 and abs(honest) < 0.02
    with pytest.raises(ValueError, match="3 x 4"):
        st.without_self_pairs(torch.zeros(3, 4))


def test_blocks_separate_class_group_and_rest():
    groups = torch.tensor([0, 0, 1, 1])
    matrix = torch.tensor([[9.0, 4, 1, 1], [4, 9, 1, 1], [1, 1, 9, 4], [1, 1, 4, 9]]).expand(2, 4, 4)
    blocks = st.block_means(matrix, groups)
    assert [b.tolist() for b in blocks] == [[9, 9], [4, 4], [1, 1]]
    assert st.block_means(matrix, torch.arange(4)).same_group.isnan().all()


def test_distance_of_inputs_is_zero_to_themselves_one_at_right_angles_two_opposite():
    x = torch.tensor([[1.0, 0.0]])
    others = torch.tensor([[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    torch.testing.assert_close(st.cosine_distance(x, others), torch.tensor([[0.0, 1.0, 2.0]]))


def test_a_linear_profile_crosses_zero_where_the_line_does():
    distance = torch.rand(30, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slopes = torch.tensor([-1.0, -2.0]).double()
    values = 0.5 + slopes[:, None, None] * distance  # zero at 0.5 and 0.25
    p = st.profile(values, distance, bins=12)
    assert p.mean.shape == (2, 12)
    torch.testing.assert_close(st.critical_length(p), torch.tensor([0.5, 0.25]).double())
    torch.testing.assert_close(st.slope(p), slopes)


def test_bins_hold_equally_many_pairs_and_pairs_without_a_gradient_are_left_out_of_their_mean():
    distance = torch.arange(12.0).view(3, 4)
    values = torch.arange(12.0).view(3, 4)
    values[0, 0] = torch.nan
    p = st.profile(values, distance, bins=3)
    torch.testing.assert_close(p.distance, torch.tensor([1.5, 5.5, 9.5]))
    torch.testing.assert_close(p.mean, torch.tensor([2.0, 5.5, 9.5]))
    with pytest.raises(ValueError, match="bins is 13"):
        st.profile(values, distance, bins=13)


def test_a_profile_that_stays_on_one_side_has_no_critical_length():
    p = st.Profile(torch.arange(4.0), torch.tensor([[1.0, 0.5, 0.2, 0.1], [-1, -2, -3, -4], [3.0, 1.0, -1.0, 1.0]]))
    lengths = st.critical_length(p)
    assert lengths[:2].isnan().all() and lengths[2] == 1.5
