import pytest
import torch

from repro.measure.neurons import alignment, odd_energy, sign_agreement


def test_alignment_is_the_absolute_cosine_and_nought_for_a_silent_neuron():
    weights = torch.tensor([[2.0, 0.0], [-1.0, 1.0], [0.0, 0.0]])
    directions = torch.tensor([[5.0, 0.0], [0.0, 0.1]])
    expected = torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5**0.5], [0.0, 0.0]])
    torch.testing.assert_close(alignment(weights, directions), expected)
    torch.testing.assert_close(alignment(torch.stack([weights, weights.flip(0)]), directions)[1], expected.flip(0))


def test_a_linear_map_is_all_odd_a_square_all_even_and_relu_half_and_half():
    x = torch.randn(3, 10_000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(odd_energy(2 * x, -2 * x), torch.ones(3))
    torch.testing.assert_close(odd_energy(x**2, x**2), torch.zeros(3))
    torch.testing.assert_close(odd_energy(x.relu(), (-x).relu()), torch.full((3,), 0.5))
    assert odd_energy(x[0] * 0, x[0] * 0).isnan()


def test_agreement_is_the_share_of_points_on_the_same_side():
    assert float(sign_agreement(torch.tensor([1.0, -2, 3, 4]), torch.tensor([5.0, -1, -1, 2]))) == pytest.approx(0.75)
