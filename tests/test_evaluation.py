"""`evaluate`: the attacks of AutoAttack's order that follow gradients, one robust accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from support import every_backend_name, make_network

import pyfirstorder as fo
from pyfirstorder.evaluation import MOST_TARGETS, stages


def make_case(k=5, samples=40, seed=0, **network):
    net = make_network(d=17, m=33, k=k, seed=seed, **network)
    x = 0.5 + 0.2 * np.random.default_rng(seed).standard_normal((samples, 17))
    x = np.clip(x, 0, 1)
    y = fo.predict(net, x)
    y[::10] = (y[::10] + 1) % k if k > 1 else -y[::10]  # some that are misclassified from the start
    return net, x, y


@every_backend_name
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_what_is_reported_is_what_the_network_says_of_the_points(backend_name, norm, k):
    net, x, y = make_case(k)
    eps = {"linf": 0.25, "l2": 0.6, "l1": 2.0}[norm]
    found = fo.evaluate(net, x, y, eps=eps, norm=norm, bounds=(0, 1), steps=10, backend=backend_name)
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    assert (np.linalg.norm(found.x_adv - x, ord=order, axis=1) <= eps).all()
    assert found.x_adv.min() >= 0
    assert found.x_adv.max() <= 1
    np.testing.assert_array_equal(fo.predict(net, found.x_adv, backend=backend_name) == y, found.robust)
    assert found.robust_accuracy == found.robust.mean()
    assert found.clean_accuracy == (fo.predict(net, x) == y).mean() == 0.9
    shares = [found.clean_accuracy, *found.accuracy_after.values()]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == found.robust_accuracy < found.clean_accuracy


def test_misclassified_samples_are_given_back_as_they_are():
    net, x, y = make_case()
    found = fo.evaluate(net, x, y, eps=0.02, bounds=(0, 1), steps=5)
    np.testing.assert_array_equal(found.x_adv[::10], x[::10])
    assert not found.robust[::10].any()


@pytest.mark.parametrize("eps", [0.05, 0.15])
def test_no_attack_of_the_order_finds_more_than_all_together(eps):
    net, x, y = make_case(samples=200)
    found = fo.evaluate(net, x, y, eps=eps, bounds=(0, 1), steps=20)
    first = fo.apgd(net, x, y, eps=eps, bounds=(0, 1), steps=20)
    assert found.robust_accuracy <= found.accuracy_after["apgd-ce"] == 1 - first.success.mean()
    assert list(found.accuracy_after) == ["apgd-ce", "apgd-t1", "apgd-t2", "apgd-t3", "apgd-t4"]


def test_a_sample_is_judged_alike_in_every_batch_and_on_any_number_of_threads():
    net, x, y = make_case(samples=41)
    whole = fo.evaluate(net, x, y, eps=0.1, bounds=(0, 1), steps=10, threads=1)
    parts = [
        fo.evaluate(net, x[rows], y[rows], eps=0.1, bounds=(0, 1), steps=10, threads=3, sample_offset=rows.start)
        for rows in (slice(0, 13), slice(13, 41))
    ]
    np.testing.assert_array_equal(np.concatenate([part.x_adv for part in parts]), whole.x_adv)
    np.testing.assert_array_equal(np.concatenate([part.robust for part in parts]), whole.robust)


def test_the_order_follows_the_number_of_outputs():
    names = {outputs: [stage.name for stage in stages(outputs)] for outputs in (1, 2, 3, 4, 1000)}
    assert names[1] == ["apgd-logistic"]
    assert names[2] == ["apgd-ce", "apgd-margin"]
    assert names[3] == ["apgd-ce", "apgd-dlr"]
    assert names[4] == ["apgd-ce", "apgd-t1", "apgd-t2", "apgd-t3"]
    assert len(names[1000]) == 1 + MOST_TARGETS


def test_radii_may_differ_by_sample_and_images_keep_their_shape():
    net, x, y = make_case()
    radii = np.linspace(0, 0.05, len(x))
    found = fo.evaluate(net, x.reshape(-1, 17, 1), y, eps=radii, bounds=(0, 1), steps=5)
    assert found.x_adv.shape == (len(x), 17, 1)
    assert (np.abs(found.x_adv.reshape(x.shape) - x).max(axis=1) <= radii).all()


@pytest.mark.parametrize(
    ("change", "error", "pattern"),
    [
        ({"y": np.full(40, 5)}, ValueError, r"y: expected class indices from 0 to 4, got 5"),
        ({"y": np.zeros(40)}, TypeError, r"y: expected integer class indices"),
        ({"y": np.zeros(3, int)}, ValueError, r"y: expected shape \(40,\)"),
        ({"eps": -1.0}, ValueError, r"eps: expected numbers of at least 0"),
        ({"eps": np.inf}, ValueError, r"eps: expected finite radii"),
        ({"x": np.full((40, 17), np.nan)}, ValueError, r"x: expected finite numbers"),
        ({"steps": -1}, ValueError, r"steps: "),
    ],
)
def test_wrong_arguments_are_refused(change, error, pattern):
    net, x, y = make_case()
    arguments = {"x": x, "y": y, "eps": 0.1} | change
    with pytest.raises(error, match=pattern):
        fo.evaluate(net, arguments.pop("x"), arguments.pop("y"), **arguments)


def test_its_repr_says_what_each_attack_left():
    net, x, y = make_case(k=2)
    found = fo.evaluate(net, x, y, eps=0.02, steps=5)
    assert repr(found).startswith("Evaluation(clean 90.00%, robust ")
    assert "apgd-margin" in repr(found)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.06), ("l2", 0.25)])
def test_the_accuracies_are_those_of_autoattack_s_own_attacks(norm, eps):
    """torchattacks' APGD and APGDT are AutoAttack's code; random starts differ, and with them some samples."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    attacks = pytest.importorskip("torchattacks", reason="torchattacks is not installed")
    from pyfirstorder.interop.torch import TwoLayer

    net, x, y = make_case(k=5, samples=300, seed=1)
    found = fo.evaluate(net, x.astype(np.float32), y, eps=eps, norm=norm, bounds=(0, 1), steps=50)
    model = TwoLayer.from_network(net).float()
    plain = torch.nn.Sequential(torch.nn.Flatten(), model.hidden, torch.nn.ReLU(), model.output).eval()
    images, labels = torch.from_numpy(x.astype(np.float32)).reshape(-1, 1, 1, 17), torch.from_numpy(y)
    stands = plain(images).argmax(1) == labels
    after = []
    for attack in (
        attacks.APGD(plain, norm=norm.replace("l", "L"), eps=eps, steps=50, n_restarts=1, loss="ce"),
        attacks.APGDT(plain, norm=norm.replace("l", "L"), eps=eps, steps=50, n_restarts=1, n_classes=5),
    ):
        stands &= plain(attack(images, labels)).argmax(1) == labels
        after.append(float(stands.float().mean()))
    ours = (found.accuracy_after["apgd-ce"], found.robust_accuracy)
    assert 0.1 < found.robust_accuracy < found.clean_accuracy - 0.1
    np.testing.assert_allclose(ours, after, atol=4.5 / len(x))


@every_backend_name
def test_samples_with_a_zero_gradient_are_counted_once_whatever_the_number_of_attacks(backend_name):
    net = fo.TwoLayerNetwork(np.eye(2), np.eye(2), hidden_bias=np.zeros(2), activation="relu")
    x = np.array([[-1.0, -2.0], [-3.0, -1.0], [1.0, 0.5], [2.0, 0.5]])  # the first two: no hidden unit is on
    with pytest.warns(fo.ZeroGradientWarning, match="gradient of 2 of 4"):
        found = fo.evaluate(net, x, np.zeros(4, int), eps=0.1, steps=5, backend=backend_name)
    assert found.zero_gradient == 2
    assert repr(found).endswith("; 2 with a zero gradient)")
    assert fo.evaluate(net, x[2:], np.zeros(2, int), eps=0.1, steps=5, backend=backend_name).zero_gradient == 0
