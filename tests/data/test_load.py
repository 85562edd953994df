import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from repro import data

MIRROR = os.environ.get("REPRO_DATA") or str(Path(__file__).parents[3] / "shared" / "data")
needs_mirror = pytest.mark.skipif(not (Path(MIRROR) / "hub").is_dir(), reason="needs the data mirror")


@pytest.mark.parametrize("name", ["digits", "iris", "wine", "breast_cancer", "diabetes", "mnist1d"])
def test_a_set_comes_as_float32_inputs_and_int64_labels_with_every_class_in_both_parts(name):
    d = data.load(name)
    assert d.x_train.dtype == d.x_test.dtype == torch.float32 and d.y_train.dtype == d.y_test.dtype == torch.int64
    assert len(d.x_train) == len(d.y_train) and len(d.x_test) == len(d.y_test)
    assert set(d.y_train.tolist()) == set(d.y_test.tolist()) == set(range(d.classes))
    assert d.name == name and d.layout == "flat" and d.shape == (d.x_train.shape[1],) and d.note


def test_digits_are_the_pixels_divided_by_sixteen_less_the_training_mean_and_never_whitened():
    d = data.load("digits", train=1200, test=597)
    pixels = torch.cat([d.x_train, d.x_test]).double()
    raw = torch.as_tensor(load_digits().data) / 16
    assert d.x_train.mean(0).abs().max() < 1e-6
    torch.testing.assert_close(torch.pdist(pixels).sort()[0], torch.pdist(raw).sort()[0], atol=1e-5, rtol=0)


def test_a_split_is_decided_by_its_seed_and_keeps_classes_in_proportion():
    one, same, other = (data.load("digits", train=500, test=200, seed=s) for s in (3, 3, 4))
    assert torch.equal(one.x_train, same.x_train) and torch.equal(one.y_test, same.y_test)
    assert not torch.equal(one.y_train, other.y_train)
    assert len(one.x_train) == 500 and len(one.x_test) == 200
    assert all(48 <= count <= 52 for count in one.y_train.bincount())


def test_no_image_is_in_both_parts():
    d = data.load("digits", train=1000, test=797, standardise=False)
    assert torch.cdist(d.x_train, d.x_test).min() > 0.1  # all 1,797 digits differ


def test_the_image_layout_holds_the_same_numbers():
    flat, image = (data.load("digits", layout, train=100, test=100) for layout in ("flat", "image"))
    assert image.shape == (1, 8, 8)
    assert torch.equal(image.x_train.flatten(1), flat.x_train)


def test_standardised_pixels_are_divided_by_a_deviation_of_at_least_a_fifth():
    plain, scaled = (data.load("digits", train=600, test=600, standardise=s) for s in (False, True))
    deviation = plain.x_train.std(0).clamp(min=0.2)
    torch.testing.assert_close(scaled.x_test, plain.x_test / deviation)
    assert scaled.x_test.abs().max() < 6


def test_tables_are_standardised_by_their_training_part():
    d = data.load("wine")
    torch.testing.assert_close(d.x_train.std(0), torch.ones(13))
    assert d.x_test.mean(0).abs().max() > 1e-3, "the test part must not have been used"


def test_unit_norm_comes_after_centring():
    d = data.load("digits", train=100, test=100, unit_norm=True)
    torch.testing.assert_close(d.x_test.norm(dim=1), torch.ones(100))
    plain = data.load("digits", train=100, test=100)
    torch.testing.assert_close(d.x_train, torch.nn.functional.normalize(plain.x_train, dim=1))


def test_mnist1d_has_the_sizes_asked_for_and_leaves_the_global_generators_alone():
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    d = data.load("mnist1d", "image", train=333, test=100, seed=5)
    assert d.x_train.shape == (333, 1, 40) and d.x_test.shape == (100, 1, 40)
    assert random.getstate() == states[0] and (np.random.get_state()[1] == states[1]).all()
    assert torch.equal(torch.get_rng_state(), states[2])
    again, other = (data.load("mnist1d", "image", train=333, test=100, seed=s) for s in (5, 6))
    assert torch.equal(again.x_train, d.x_train) and not torch.equal(other.x_train, d.x_train)


def test_diabetes_is_cut_into_thirds():
    d = data.load("diabetes")
    counts = torch.cat([d.y_train, d.y_test]).bincount()
    assert d.classes == 3 and counts.max() - counts.min() <= 3


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"name": "imagenet"}, "data set is 'imagenet': give one of digits, mnist1d"),
        ({"name": "digits", "layout": "rows"}, "layout is 'rows' for digits: give one of flat, image"),
        ({"name": "iris", "layout": "image"}, "layout is 'image' for iris: give flat"),
        ({"name": "digits", "train": 1700, "test": 200}, "train is 1700 and test 200: digits has 1797 examples"),
        ({"name": "digits", "train": 1795}, "train is 1795 and test 2: digits has 1797 examples"),
        ({"name": "digits", "train": 5}, "train is 5: digits has 10 classes, so give at least 10"),
        ({"name": "mnist1d", "test": 0}, "test 0: mnist1d has 10 classes"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_in_one_line(request_, message):
    with pytest.raises(ValueError) as error:
        data.load(**request_)
    assert message in str(error.value) and "\n" not in str(error.value)


@needs_mirror
def test_mnist_has_the_published_mean_and_canonical_parts(monkeypatch):
    monkeypatch.setenv("REPRO_DATA", MIRROR)
    from repro.data.hub import hub_images

    raw = hub_images("mnist")
    assert raw.x.shape == (70_000, 1, 28, 28) and raw.split == 60_000
    assert raw.x[:60_000].mean() == pytest.approx(33.3184, abs=1e-4)
    assert raw.y[:5].tolist() == [5, 0, 4, 1, 9]
    d = data.load("mnist", "image", train=200, test=100)
    assert d.x_train.shape == (200, 1, 28, 28) and all(18 <= c <= 23 for c in d.y_train.bincount())
    assert "JPEG" not in d.note


@needs_mirror
def test_cifar_from_the_mirror_is_in_canonical_order_and_says_that_it_is_reencoded(monkeypatch):
    monkeypatch.setenv("REPRO_DATA", MIRROR)
    raw = data.hub_images("cifar10")
    assert torch.equal(torch.as_tensor(raw.y[:50_000]), data.human_labels()["clean_label"])
    monkeypatch.setattr(data, "hub_images", lambda name: raw)
    d = data.load("cifar10", "image", train=1000, test=1000)
    assert d.shape == (3, 32, 32) and "JPEG re-encoding" in d.note
    with pytest.raises(ValueError, match="train is 50001: cifar10 has 50000 train examples"):
        data.load("cifar10", train=50_001)
