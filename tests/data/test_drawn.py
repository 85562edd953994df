import pytest
import torch

from repro import data


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_redrawn_labels_are_wrong_less_often_than_they_are_redrawn():
    y = torch.arange(10_000) % 10
    noisy = data.flip_labels(y, 0.4, 10, generator())
    assert noisy.randomised.sum() == 4000, "exactly the share asked for"
    assert float(noisy.wrong.sum()) == pytest.approx(0.9 * 4000, rel=0.02)
    assert torch.equal(noisy.wrong, noisy.labels != y)
    assert not (noisy.wrong & ~noisy.randomised).any()


def test_symmetric_flips_change_every_selected_label_to_each_other_one_alike():
    y = torch.full((9000,), 3)
    noisy = data.flip_labels(y, 1.0, 10, generator(), symmetric=True)
    assert noisy.wrong.all() and torch.equal(noisy.wrong, noisy.randomised)
    counts = noisy.labels.bincount(minlength=10)
    assert counts[3] == 0 and (counts[counts > 0] - 1000).abs().max() < 120


def test_noise_is_decided_by_its_generator_and_leaves_the_labels_it_was_given_alone():
    y = torch.arange(100) % 5
    before, state = y.clone(), torch.get_rng_state()
    one, same, other = (data.flip_labels(y, 0.5, 5, generator(s)) for s in (1, 1, 2))
    assert torch.equal(one.labels, same.labels) and not torch.equal(one.labels, other.labels)
    assert torch.equal(y, before) and torch.equal(torch.get_rng_state(), state)
    assert torch.equal(data.flip_labels(y, 0.0, 5, generator()).labels, y)


def test_impossible_noise_is_refused():
    with pytest.raises(ValueError, match=r"share is 1\.5"):
        data.flip_labels(torch.tensor([0, 1]), 1.5, 2, generator())
    with pytest.raises(ValueError, match=r"classes is 2 for labels in \[0, 4\]"):
        data.flip_labels(torch.tensor([0, 4]), 0.5, 2, generator())


def test_xor_clusters_have_the_stated_means_noise_and_labels():
    c = data.xor_clusters(20_000, 5, mu=3.0, flip=0.1, generator=generator(), dtype=torch.float64)
    assert c.means.norm(dim=1).tolist() == [3, 3] and float(c.means[0] @ c.means[1]) == 0
    assert torch.equal(c.y != c.clean, c.flipped) and float(c.flipped.double().mean()) == pytest.approx(0.1, abs=0.01)
    axis, side = (c.clean < 0).long(), c.x[torch.arange(20_000), (c.clean < 0).long()].sign()
    noise = c.x - side[:, None] * c.means[axis]
    assert noise.var(0).tolist() == pytest.approx([1] * 5, abs=0.04)  # x - (the nearer of +-mu) differs for 0.1 %
    assert float(c.clean.mean()) == pytest.approx(0, abs=0.03) and float(side.mean()) == pytest.approx(0, abs=0.03)


def test_no_linear_rule_solves_xor_and_the_product_of_coordinates_does():
    c = data.xor_clusters(4000, 2, mu=4.0, flip=0.0, generator=generator())
    fit = torch.linalg.lstsq(c.x, c.clean[:, None]).solution
    assert float(((c.x @ fit).squeeze().sign() == c.clean).float().mean()) == pytest.approx(0.5, abs=0.1)
    rule = (c.x[:, 0].abs() - c.x[:, 1].abs()).sign()
    assert float((rule == c.clean).float().mean()) > 0.99


def test_without_signal_clusters_coincide():
    c = data.xor_clusters(5000, 3, mu=0.0, flip=0.0, generator=generator())
    assert (c.x[c.clean > 0].mean(0) - c.x[c.clean < 0].mean(0)).abs().max() < 0.1


def test_a_hierarchy_has_groups_of_classes_at_the_stated_distances():
    h = data.hierarchy(1600, generator(), noise=0.3)
    assert h.x.shape == (1600, 40) and h.y.bincount().tolist() == [100] * 16
    assert h.groups.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert float((h.x - h.means[h.y]).std()) == pytest.approx(0.3, abs=0.005)
    distance = torch.cdist(h.means, h.means)
    same = (h.groups[:, None] == h.groups) & ~torch.eye(16, dtype=torch.bool)
    assert float(distance[same].mean()) < 1.6 < float(distance[h.groups[:, None] != h.groups].min())


def test_gaussian_classes_have_means_of_the_stated_norm():
    x, y, means = data.gaussian_classes(3000, 10, 3, separation=2.0, generator=generator(), noise=0.5)
    torch.testing.assert_close(means.norm(dim=1), torch.full((3,), 2.0))
    assert y.bincount().tolist() == [1000] * 3
    torch.testing.assert_close(x[y == 1].mean(0), means[1], atol=0.06, rtol=0)


@pytest.mark.parametrize("name", data.SYNTHETIC)
def test_a_synthetic_table_is_standardised_and_decided_by_its_seed(name):
    one, same, other = (data.synthetic(name, 300, 200, seed) for seed in (1, 1, 2))
    assert torch.equal(one.x_train, same.x_train) and not torch.equal(one.x_train, other.x_train)
    assert one.x_test.shape[0] == 200 and one.y_train.bincount().min() > 60
    torch.testing.assert_close(one.x_train.std(0), torch.ones(one.shape[0]))


def test_parity_is_invisible_to_a_linear_rule_and_shells_are_told_apart_by_radius():
    from sklearn.linear_model import LogisticRegression

    parity = data.synthetic("parity", 2000, 2000)
    linear = LogisticRegression().fit(parity.x_train, parity.y_train)
    assert linear.score(parity.x_test, parity.y_test) == pytest.approx(0.5, abs=0.05)
    shells = data.synthetic("shells", 2000, 2000)
    by_radius = LogisticRegression().fit(shells.x_train.norm(dim=1)[:, None], shells.y_train)
    assert by_radius.score(shells.x_test.norm(dim=1)[:, None], shells.y_test) > 0.95


def test_tasks_and_draws_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="task is 'xor': give one of linear_mixture"):
        data.synthetic("xor")
    with pytest.raises(ValueError, match="train is 3 and test 400"):
        data.synthetic("moons", train=3)
    with pytest.raises(ValueError, match="n is 3: 16 classes need at least 16"):
        data.hierarchy(3, generator())
    with pytest.raises(ValueError, match="give n >= 1, p >= 2"):
        data.xor_clusters(10, 1, 1.0, 0.1, generator())
