"""Linear probes of layers."""

from __future__ import annotations

import pytest
import torch

from repro.measure.probe import probe_accuracy


def test_it_is_scikit_learns_ridge_classifier_over_classes():
    from sklearn.linear_model import Ridge

    generator = torch.Generator().manual_seed(0)
    y, y_test = torch.arange(60) % 3, torch.arange(45) % 3
    means = torch.randn(3, 90, generator=generator)
    x, x_test = (means[t] + 4 * torch.randn(len(t), 90, generator=generator) + 5 for t in (y, y_test))
    penalty = 0.01 * (x - x.mean(0)).square().sum(1).mean()
    reference = Ridge(alpha=float(penalty)).fit(x.double().numpy(), torch.nn.functional.one_hot(y).numpy())
    expected = (reference.predict(x_test.double().numpy()).argmax(1) == y_test.numpy()).mean()
    assert 0.4 < expected < 1
    assert probe_accuracy(x, y, x_test, y_test, ridge=0.01) == pytest.approx(expected)


def test_separable_classes_are_read_off_and_a_dead_layer_gives_chance():
    y = torch.arange(40) % 4
    x = torch.eye(4)[y].reshape(40, 1, 2, 2)
    assert probe_accuracy(x, y, x, y) == 1
    assert probe_accuracy(torch.ones(40, 5), y, torch.ones(40, 5), y) == 0.25


def test_a_penalty_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="ridge is 0"):
        probe_accuracy(torch.ones(4, 2), torch.zeros(4).long(), torch.ones(4, 2), torch.zeros(4).long(), ridge=0)
