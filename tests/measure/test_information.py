import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score

from repro.measure import information as info


def uniform(kinds: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(kinds, shape, generator=torch.Generator().manual_seed(seed))


def test_plug_in_information_is_scikit_learns():
    a = uniform(4, 500)
    b = (a + uniform(2, 500, seed=1)) % 5
    counts = info.joint_counts(a, b, 4, 5)
    assert counts.sum() == 500 and counts[1, 2] == ((a == 1) & (b == 2)).sum()
    assert float(info.mutual_information(counts)) == pytest.approx(mutual_info_score(a, b), abs=1e-12)


def test_information_is_nought_for_a_product_and_the_entropy_for_a_copy():
    p, q = torch.tensor([0.2, 0.8, 0.0]).double(), torch.tensor([0.5, 0.25, 0.25]).double()
    assert float(info.mutual_information(p[:, None] * q)) == pytest.approx(0, abs=1e-15)
    assert float(info.mutual_information(q.diag())) == pytest.approx(entropy(q))
    one_cell = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert float(info.mutual_information(one_cell)) == 0, "empty cells and empty rows give 0, not NaN"


def test_members_are_counted_apart():
    a, b = uniform(3, 4, 200), uniform(2, 4, 200, seed=1)
    counts = info.joint_counts(a, b, 3, 2)
    assert counts.shape == (4, 3, 2)
    for m in range(4):
        torch.testing.assert_close(counts[m], info.joint_counts(a[m], b[m], 3, 2))


@pytest.mark.parametrize(("actions", "bias"), [(2, 0.023), (4, 0.135), (8, 0.563)])
def test_independent_messages_and_actions_carry_the_plug_in_bias_of_the_paper_s_batches(actions, bias):
    messages = actions + 2
    a, m = uniform(actions, 2000, 64), uniform(messages, 2000, 64, seed=1)
    plug_in = info.mutual_information(info.joint_counts(m, a, messages, actions))
    assert float(plug_in.mean()) == pytest.approx(bias, abs=0.004)


def test_the_correction_removes_the_bias_where_cells_are_well_filled():
    a, m = uniform(3, 3000, 400), uniform(4, 3000, 400, seed=1)
    counts = info.joint_counts(m, a, 4, 3)
    assert float(info.mutual_information(counts).mean()) == pytest.approx(3 * 2 / 800, rel=0.05)
    assert abs(float(info.miller_madow(counts).mean())) < 3e-4


def test_the_correction_counts_only_values_that_occur():
    a = torch.tensor([0, 1] * 50)
    counts = info.joint_counts(a, a, 2, 9)
    assert float(info.miller_madow(counts)) == pytest.approx(math.log(2) - 1 / 200)


def test_the_permutation_null_matches_the_bias_even_in_sparse_tables():
    a, m = uniform(8, 400, 64), uniform(10, 400, 64, seed=1)
    plug_in = info.mutual_information(info.joint_counts(m, a, 10, 8)).mean()
    null = info.permutation_null(m, a, 10, 8, 20, torch.Generator().manual_seed(0))
    assert null.shape == (20, 400)
    assert float(null.mean()) == pytest.approx(float(plug_in), abs=0.005)
    dependent = info.permutation_null(a[0], a[0], 8, 8, 100, torch.Generator().manual_seed(0))
    assert info.mutual_information(info.joint_counts(a[0], a[0], 8, 8)) > 2 * dependent.max()


def test_influence_is_nought_where_the_message_is_ignored_and_ln2_where_one_bit_is_obeyed():
    uniform_messages = torch.full((2,), 0.5)
    ignoring = torch.tensor([[0.3, 0.7], [0.3, 0.7]])
    obeying = torch.eye(2)
    assert float(info.causal_influence(ignoring, uniform_messages)) == pytest.approx(0, abs=1e-15)
    assert float(info.causal_influence(obeying, uniform_messages)) == pytest.approx(math.log(2))
    assert float(info.causal_influence(obeying, torch.tensor([1.0, 0.0]))) == 0, "a saturated policy gives 0, not NaN"


def test_in_the_xor_game_coordination_measures_nothing_and_intervention_measures_the_bit():
    # The message is a fair coin and a private coin decides how it is read: message and action are independent.
    message, private = torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")
    action = message ^ private
    observed = info.joint_counts(message.flatten(), action.flatten(), 2, 2)
    assert float(info.mutual_information(observed)) == pytest.approx(0, abs=1e-15)
    policies = torch.stack([torch.eye(2), torch.eye(2).flip(0)])  # p(a | do(m)) for either private coin
    assert info.causal_influence(policies, torch.full((2, 2), 0.5)).tolist() == pytest.approx([math.log(2)] * 2)


def test_a_mean_over_messages_in_place_of_a_sum_adds_exactly_the_log_of_their_number():
    generator = torch.Generator().manual_seed(0)
    policies = torch.rand(50, 4, 3, generator=generator).double().softmax(-1)
    messages = torch.rand(50, 4, generator=generator).double().softmax(-1)
    joint = messages.unsqueeze(-1) * policies
    wrong_marginal = joint.mean(-2, keepdim=True)  # p(a) as the published evaluation script computes it
    wrong = (joint * (joint / (wrong_marginal * messages.unsqueeze(-1))).log()).sum((-2, -1))
    np.testing.assert_allclose(wrong - info.causal_influence(policies, messages), math.log(4), atol=1e-12)


def test_samples_outside_their_kinds_or_unpaired_are_refused():
    with pytest.raises(ValueError, match=r"samples are in \[0, 4\]: 3 kinds"):
        info.joint_counts(torch.tensor([0, 4]), torch.tensor([0, 1]), 3, 2)
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        info.joint_counts(torch.zeros(2).long(), torch.zeros(3).long(), 3, 2)
