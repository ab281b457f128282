"""Training: weight gradients against finite differences, and what training promises."""

from __future__ import annotations

import numpy as np
import pytest
from support import ACTIVATION_NAMES

import pyfirstorder as fo
from pyfirstorder.problem import Objective
from pyfirstorder.training import Parameters, train, weight_gradients


def blobs(samples: int = 120, features: int = 6, classes: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, samples)
    x = rng.standard_normal((samples, features)) * 0.3 + 2 * np.eye(classes, features)[y]
    return x.astype(np.float32), y


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
def test_weight_gradients_are_central_differences_of_the_mean_loss(activation, loss):
    rng = np.random.default_rng(3)
    d, m, k, samples, h = 4, 5, 3, 7, 1e-6
    x = rng.standard_normal((samples, d))
    shapes = [(m, d), (m,), (k, m), (k,)]
    weights = Parameters(*(rng.standard_normal(shape) for shape in shapes))
    labels = rng.integers(0, k, samples) if loss == "cross_entropy" else None
    values = rng.standard_normal((samples, k)) if loss == "squared" else None
    objective = Objective(loss, False, labels, values)
    _, _, gradients = weight_gradients(weights, activation, x, objective)

    def mean_loss(changed):
        return np.mean(weight_gradients(changed, activation, x, objective)[0])

    for name in Parameters._fields:
        for place in np.ndindex(getattr(weights, name).shape):
            ends = []
            for sign in (1, -1):
                moved = getattr(weights, name).copy()
                moved[place] += sign * h
                ends.append(mean_loss(weights._replace(**{name: moved})))
            slope = (ends[0] - ends[1]) / (2 * h)
            assert getattr(gradients, name)[place] == pytest.approx(slope, rel=1e-5, abs=1e-7), (name, place)


@pytest.mark.parametrize(("optimizer", "learning_rate"), [("adam", 1e-2), ("sgd", 0.2)])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
def test_training_learns_what_can_be_learned(optimizer, learning_rate, loss):
    x, y = blobs()
    result = train(
        x, y, hidden_features=16, loss=loss, optimizer=optimizer, learning_rate=learning_rate, batch_size=16,
        validation=blobs(seed=1),
    )  # fmt: skip
    assert result.history[-1].train_loss < result.history[0].train_loss
    assert result.history[-1].validation_accuracy > 0.95
    assert np.mean(fo.predict(result.network, x) == y) > 0.95


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    x, y = blobs()
    options = {"hidden_features": 8, "epochs": 2, "adversary": {"eps": 0.1, "steps": 2, "random_start": True}}
    first, again, other = (train(x, y, seed=seed, **options).network for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.hidden_weight, again.hidden_weight)
    assert not np.array_equal(first.hidden_weight, other.hidden_weight)


def test_adversarial_training_withstands_more_than_plain_training():
    x, y = blobs(samples=300)
    options = {"hidden_features": 24, "epochs": 30, "batch_size": 32, "learning_rate": 1e-2}
    attack = {"eps": 0.7, "norm": "linf", "steps": 10}
    plain = train(x, y, **options).network
    robust = train(x, y, adversary=attack, **options).network
    withstood = [1 - np.mean(fo.pgd(net, x, y, **attack).success) for net in (plain, robust)]
    assert withstood[1] > withstood[0]


def test_a_loss_that_is_no_longer_finite_is_an_error():
    x, y = blobs()
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="learning_rate: the loss is no longer finite"):
        train(x, np.eye(3)[y], hidden_features=8, loss="squared", optimizer="sgd", learning_rate=1e6, epochs=20)


def test_numbers_are_fitted_with_the_squared_loss():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3)).astype(np.float32)
    y = (x @ np.array([1.0, -2.0, 0.5])).astype(np.float32)
    result = train(x, y, hidden_features=32, loss="squared", learning_rate=1e-2, epochs=30)
    assert result.network.scalar_output
    assert result.history[-1].train_accuracy is None
    assert result.history[-1].train_loss < 0.05


def test_weights_that_the_last_step_makes_infinite_are_an_error():
    x, y = blobs()
    options = {"optimizer": "sgd", "learning_rate": 3e38, "weight_decay": 10.0, "epochs": 1, "batch_size": len(x)}
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="learning_rate: the loss is no longer finite"):
        train(x, y, hidden_features=8, **options)


@pytest.mark.parametrize(
    ("change", "error", "pattern"),
    [
        ({"backend": "gpu"}, ValueError, "backend: expected 'auto' or one of .*got 'gpu'"),
        ({"backend": ["cpu"]}, TypeError, "backend: expected a name"),
        ({"threads": 0}, ValueError, "threads: .*got 0"),
        ({"validation": blobs()[0]}, TypeError, r"validation: expected None or a pair \(x, y\), got an array"),
        ({"validation": blobs(features=5)}, ValueError, "validation: expected 6 numbers a sample, as in x, got 5"),
        ({"adversary": 3}, TypeError, "adversary: expected None or a mapping of arguments of pgd, got 3"),
        ({"y": blobs()[1] > 0}, TypeError, r"y: .*array of bool.*y\.astype\(int\)"),
        ({"x": np.full((120, 6), 1e39)}, ValueError, "x: expected numbers that float32 can hold.*row 0"),
    ],
)
def test_training_refuses(change, error, pattern):
    x, y = blobs()
    arguments = {"x": x, "y": y, "hidden_features": 4, "epochs": 1} | change
    with pytest.raises(error, match=pattern):
        train(arguments.pop("x"), arguments.pop("y"), **arguments)
