"""Training: weight gradients against finite differences, and what training promises."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pytest
from support import ACTIVATION_NAMES

import pyfirstorder as fo
from pyfirstorder.problem import Objective
from pyfirstorder.training import Epoch, Parameters, train, weight_gradients, write_history


def blobs(samples: int = 120, features: int = 6, classes: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, samples)
    x = rng.standard_normal((samples, features)) * 0.3 + 2 * np.eye(classes, features)[y]
    return x.astype(np.float32), y


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("loss", ["cross_entropy", "squared", "logistic"])
def test_weight_gradients_are_central_differences_of_the_mean_loss(activation, loss):
    rng = np.random.default_rng(3)
    d, m, k, samples, h = 4, 5, 1 if loss == "logistic" else 3, 7, 1e-6
    x = rng.standard_normal((samples, d))
    shapes = [(m, d), (m,), (k, m), (k,)]
    weights = Parameters(*(rng.standard_normal(shape) for shape in shapes))
    labels = rng.integers(0, k, samples) if loss == "cross_entropy" else None
    values = {"squared": rng.standard_normal((samples, k)), "logistic": rng.choice([-1.0, 1.0], (samples, 1))}.get(loss)
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
    with pytest.raises(ValueError, match="learning_rate: the loss is no longer finite"):
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
    with pytest.raises(ValueError, match="learning_rate: the loss is no longer finite"):
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
        ({"adversary": {}}, TypeError, "adversary: expected a radius eps, got no argument$"),
        ({"adversary": {"steps": 3}}, TypeError, "adversary: expected a radius eps, got steps alone"),
        ({"adversary": {"eps": 0.1, "alpha": 1}}, TypeError, r"pgd has no argument alpha; did you mean step_size\?"),
        ({"y": blobs()[1] > 0}, TypeError, r"y: .*array of bool.*y\.astype\(int\)"),
        ({"x": np.full((120, 6), 1e39)}, ValueError, "x: expected numbers that float32 can hold.*row 0"),
    ],
)
def test_training_refuses(change, error, pattern):
    x, y = blobs()
    arguments = {"x": x, "y": y, "hidden_features": 4, "epochs": 1} | change
    with pytest.raises(error, match=pattern):
        train(arguments.pop("x"), arguments.pop("y"), **arguments)


def weights_of(net):
    return {name: getattr(net, name) for name in Parameters._fields}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("settings", "fixed"),
    [
        ({}, set()),
        ({"trained": "first"}, {"output_weight", "output_bias"}),
        ({"biases": False}, {"hidden_bias", "output_bias"}),
        ({"trained": "first", "biases": False}, {"hidden_bias", "output_weight", "output_bias"}),
    ],
)
def test_only_what_is_trained_moves(optimizer, settings, fixed):
    x, y = blobs()
    rng = np.random.default_rng(0)
    start = fo.TwoLayerNetwork(
        rng.standard_normal((8, 6)), rng.standard_normal((3, 8)), rng.random(8), rng.random(3), "softplus"
    )
    before = {name: array.copy() for name, array in weights_of(start).items()}
    trained = train(x, y, network=start, epochs=1, optimizer=optimizer, weight_decay=0.1, l2_penalty=0.1, **settings)
    after = weights_of(trained.network)
    assert {name for name in before if np.array_equal(before[name], after[name])} == fixed
    for name, array in weights_of(start).items():
        np.testing.assert_array_equal(array, before[name])


def test_the_gradient_of_the_first_layer_is_the_same_without_that_of_the_second():
    rng = np.random.default_rng(0)
    weights = Parameters(*(rng.standard_normal(shape) for shape in [(5, 4), (5,), (3, 5), (3,)]))
    objective = Objective("cross_entropy", False, rng.integers(0, 3, 7), None)
    x = rng.standard_normal((7, 4))
    full, part = (
        weight_gradients(weights, "gelu", x, objective, output_layer=output_layer)[2] for output_layer in (True, False)
    )
    np.testing.assert_array_equal(part.hidden_weight, full.hidden_weight)
    np.testing.assert_array_equal(part.hidden_bias, full.hidden_bias)
    assert not part.output_weight.any()
    assert not part.output_bias.any()


def test_the_theorys_setting_keeps_the_form_of_the_papers_network():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 10))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    start = fo.random_network(10, 64, dtype=np.float64)
    options = {"loss": "squared", "trained": "first", "biases": False, "optimizer": "sgd", "batch_size": 10}
    adversary = {"eps": 0.1, "norm": "l2", "direction": "gradient", "steps": 5}
    result = train(x, np.sign(x[:, 0]), network=start, epochs=40, learning_rate=0.1, adversary=adversary, **options)
    assert result.network.scalar_output
    assert result.network.dtype == np.float64
    assert result.history[-1].train_loss < 0.5 * result.history[0].train_loss
    np.testing.assert_allclose(np.abs(result.network.output_weight), 1 / 8, rtol=1e-15)  # a / sqrt(m), as it was
    assert not result.network.hidden_bias.any()


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)], ids=["(n,)", "(n, 1)"])
@pytest.mark.parametrize("kind", [int, np.float64])
def test_the_logistic_loss_learns_signs(shape, kind):
    x, classes = blobs(classes=2)
    y = (2 * classes - 1).astype(kind).reshape(shape)
    held_out, other = blobs(classes=2, seed=1)
    result = train(
        x, y, hidden_features=8, loss="logistic", learning_rate=0.02, validation=(held_out, 2 * other - 1)
    )  # fmt: skip
    assert result.network.out_features == 1
    assert result.history[-1].validation_accuracy > 0.95
    right = np.mean(fo.predict(result.network, held_out).ravel() == 2 * other - 1)
    assert right == result.history[-1].validation_accuracy


def test_training_goes_on_from_a_network():
    x, y = blobs()
    options = {"optimizer": "sgd", "learning_rate": 0.1, "batch_size": len(x)}  # without state, in any order
    whole = train(x, y, hidden_features=8, epochs=4, dtype=np.float64, **options).network
    half = train(x, y, hidden_features=8, epochs=2, dtype=np.float64, **options).network
    rest = train(x, y, network=half, epochs=2, seed=5, **options).network
    # One mini-batch holds all samples: sums in another order differ by some 1e-16 of their terms.
    np.testing.assert_allclose(rest.hidden_weight, whole.hidden_weight, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_training_computes_in_the_type_that_is_asked_for(dtype):
    x, y = blobs()
    net = train(x.astype(np.float64), y, hidden_features=4, epochs=1, dtype=dtype).network
    assert net.dtype == dtype
    fine = np.float64(net.hidden_weight) != np.float32(net.hidden_weight)
    assert fine.any() == (dtype == np.float64)


def test_the_history_is_a_table_without_times(tmp_path):
    history = [Epoch(0.5, 0.75, None, 1.25), Epoch(1 / 3, 1.0, 0.5, 2.5)]
    write_history(tmp_path / "h.csv", history)
    write_history(tmp_path / "h.json", history)
    names, *rows = (line.split(",") for line in (tmp_path / "h.csv").read_text().splitlines())
    assert names == ["epoch", "train_loss", "train_accuracy", "validation_accuracy"]
    assert [[float(part) if part else None for part in row] for row in rows] == [
        [number, *epoch[:-1]] for number, epoch in enumerate(history, 1)
    ]
    assert json.loads((tmp_path / "h.json").read_text())[1] == {
        "epoch": 2, "train_loss": 1 / 3, "train_accuracy": 1.0, "validation_accuracy": 0.5
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"history: expected a file ending in \.csv or \.json"):
        write_history(tmp_path / "h.txt", history)


@pytest.mark.parametrize(
    ("change", "error", "pattern"),
    [
        ({}, ValueError, "hidden_features: expected a number of hidden units, or a network, got None"),
        ({"network": 3}, TypeError, "net: expected a TwoLayerNetwork, got 3"),
        ({"network": fo.random_network(5, 4)}, ValueError, "network: expected at least the 3 outputs that y needs"),
        (
            {"network": fo.TwoLayerNetwork(np.eye(5), np.eye(3, 5))},
            ValueError,
            "network: expected one for the 6",
        ),
        (
            {"network": fo.TwoLayerNetwork(np.eye(6), np.eye(3, 6)), "activation": "relu"},
            ValueError,
            "activation: exp",
        ),
        (
            {"hidden_features": 4, "trained": "second"},
            ValueError,
            "trained: expected one of 'both', 'first'",
        ),
        ({"hidden_features": 4, "biases": 1}, TypeError, "biases: expected True or False, got 1"),
        ({"hidden_features": 4, "dtype": np.float16}, ValueError, "dtype: expected float32 or float64, got float16"),
        ({"hidden_features": 4, "dtype": "number"}, TypeError, "dtype: expected float32 or float64, got 'number'"),
        ({"hidden_features": 4, "loss": "logistic"}, ValueError, "y: expected -1 or \\+1"),
        ({"hidden_features": 4, "l2_penalty": -1.0}, ValueError, "l2_penalty: expected a number from 0"),
    ],
)
def test_training_refuses_other_starts(change, error, pattern):
    x, y = blobs()
    with pytest.raises(error, match=pattern):
        train(x, y, epochs=1, **change)


def test_progress_rises_to_the_whole_and_changes_no_bit(capsys):
    x, y = blobs()
    options = {"hidden_features": 8, "epochs": 3, "batch_size": 50}
    shares = []
    watched = train(x, y, progress=shares.append, **options)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) == 3 * -(-len(x) // 50)
    np.testing.assert_array_equal(train(x, y, **options).network.hidden_weight, watched.network.hidden_weight)
    pytest.importorskip("rich")
    capsys.readouterr()
    train(x, y, progress=True, **options)
    assert "train" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::pyfirstorder.results.ZeroGradientWarning")  # says what it says of any training
@pytest.mark.parametrize("adversary", [None, {"eps": 0.1, "norm": "l2", "steps": 3}])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("loss", "dtype"), [("squared", np.float32), ("logistic", np.float32), ("squared", np.float64)]
)
def test_a_training_that_diverges_is_an_error_that_names_the_rate_and_no_warning_of_numpy(
    loss, dtype, optimizer, adversary
):
    x = np.random.default_rng(0).standard_normal((60, 5))
    y = np.sign(x[:, 0]).astype(int if loss == "logistic" else float)
    options = {"loss": loss, "dtype": dtype, "optimizer": optimizer, "adversary": adversary, "activation": "quadratic"}
    rate = 1e30 if dtype == np.float32 else 1e37
    with pytest.raises(ValueError, match=r"learning_rate: the loss is no longer finite in epoch [1-9] at 1e\+3[07]"):
        train(x, y, hidden_features=7, learning_rate=rate, epochs=9, batch_size=20, weight_decay=10.0, **options)


def test_warnings_of_on_epoch_are_the_callers():
    def warn(_):
        warnings.warn("mine", fo.NotFiniteWarning, stacklevel=1)

    x, y = blobs()
    for adversary in (None, {"eps": 0.1, "steps": 1}):
        with pytest.warns(fo.NotFiniteWarning, match="mine") as seen:
            train(x, y, hidden_features=4, activation="tanh", epochs=3, on_epoch=warn, adversary=adversary)
        assert len(seen) == 3


def test_samples_where_the_adversary_met_no_gradient_are_counted_once_at_the_end():
    x = np.array([[-1.0], [-2.0], [1.0]])
    dead = fo.TwoLayerNetwork(np.ones((1, 1)), np.array([[1.0], [-1.0]]))  # no hidden unit is on at the first two
    with pytest.warns(fo.ZeroGradientWarning, match="the gradient of 2 of 3 attacked points was exactly zero") as seen:
        train(x, np.array([0, 1, 0]), network=dead, epochs=4, adversary={"eps": 0.1, "steps": 2}, trained="first")
    assert [warning.filename for warning in seen] == [__file__]


def test_an_adversary_that_helps_or_is_misspelt_is_refused():
    x, y = np.zeros((4, 2)), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match="adversary: expected targeted=False"):
        train(x, y, hidden_features=2, adversary={"eps": 0.1, "targeted": True})
    with pytest.raises(TypeError, match="adversary: expected names of arguments of pgd, got 1"):
        train(x, y, hidden_features=2, adversary={1: 2, "eps": 0.1})
    with pytest.raises(TypeError, match=re.escape("pgd has no argument epsilon; did you mean eps?")):
        train(x, y, hidden_features=2, adversary={"epsilon": 0.1})
