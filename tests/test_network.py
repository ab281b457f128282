"""Networks: what they accept, that they cannot change, their files, and the statistics of the paper's random one."""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import numpy as np
import pytest
from support import ACTIVATION_NAMES, every_backend_name

import pyfirstorder as fo
from pyfirstorder.training import train

W, A = np.arange(6.0).reshape(3, 2), np.ones((4, 3))


def test_sizes_are_read_from_the_weights():
    net = fo.TwoLayerNetwork(W, A)
    assert (net.in_features, net.hidden_features, net.out_features) == (2, 3, 4)
    assert net.dtype == np.float64
    assert not net.scalar_output
    np.testing.assert_array_equal(net.hidden_bias, np.zeros(3))
    np.testing.assert_array_equal(net.output_bias, np.zeros(4))


def test_flat_output_weights_stay_flat():
    net = fo.TwoLayerNetwork(W, np.ones(3))
    assert net.output_weight.shape == (3,)
    assert net.out_features == 1
    assert net.scalar_output


@pytest.mark.parametrize(
    ("weights", "error", "pattern"),
    [
        ((W.astype(int), A), TypeError, "hidden_weight: expected float32 or float64, got int64"),
        ((W, A.astype(np.float16)), TypeError, "output_weight: .*float16"),
        ((W[0], A), ValueError, r"hidden_weight: expected shape \(hidden, features\), got \(2,\)"),
        ((W, A[:, :2]), ValueError, r"output_weight: expected shape \(outputs, 3\) or \(3,\).*got \(4, 2\)"),
        ((W, np.ones((1, 1, 3))), ValueError, "output_weight: "),
        ((W.T, A.T), ValueError, r"got \(3, 4\); did you mean hidden_weight.T and output_weight.T\?"),
        ((W.T, A), ValueError, r"; did you mean hidden_weight.T\?"),
        ((W, A.T), ValueError, r"; did you mean output_weight.T\?"),
        ((W[:0], A[:, :0]), ValueError, "weights: expected no empty dimension"),
        ((W[:, :0], A), ValueError, "weights: expected no empty dimension"),
        ((W, A[:0]), ValueError, "weights: expected no empty dimension"),
        ((W * np.nan, A), ValueError, "hidden_weight: expected finite numbers"),
        ((W, A * np.inf), ValueError, "output_weight: expected finite numbers"),
        ((W, A, np.zeros(4)), ValueError, r"hidden_bias: expected shape \(3,\), got \(4,\)"),
        ((W, A, None, np.zeros(3)), ValueError, r"output_bias: expected shape \(4,\), got \(3,\)"),
        ((W, A, None, None, "swish"), ValueError, "activation: expected one of relu, .*got 'swish'"),
        ((W, A, None, None, "relu(2)"), ValueError, "activation: relu has no parameter"),
        ((W, A, None, None, "elu(x)"), ValueError, "activation: expected a finite parameter"),
        ((W, A, None, None, "leaky_relu(nan)"), ValueError, "activation: expected a finite parameter"),
        ((W, A, None, None, "softplus(0)"), ValueError, "activation: expected a finite parameter"),
        ((W, A, None, None, "elu()"), ValueError, "activation: "),
        ((W, A, None, None, np.tanh), TypeError, "activation: expected a name such as 'relu', got ufunc"),
    ],
)
def test_a_network_refuses(weights, error, pattern):
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(error, match=pattern),
    ):
        fo.TwoLayerNetwork(*weights)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("relu", "relu"),
        ("leaky_relu", "leaky_relu(0.01)"),
        ("elu", "elu(1.0)"),
        ("softplus( 10 )", "softplus(10.0)"),
        ("leaky_relu(-0.5)", "leaky_relu(-0.5)"),
        ("elu(1e-3)", "elu(0.001)"),
    ],
)
def test_activations_show_their_parameter(text, shown):
    net = fo.TwoLayerNetwork(W, A, activation=text)
    assert net.activation == shown
    assert repr(net) == f"TwoLayerNetwork(2 -> 3 {shown} -> 4, float64)"
    assert fo.TwoLayerNetwork(W, A, activation=net.activation).activation == shown


def test_weights_are_copies_that_cannot_be_written():
    w, a = W.copy(), A.copy()
    net = fo.TwoLayerNetwork(w, a)
    w[0, 0] = a[0, 0] = 7
    np.testing.assert_array_equal(net.hidden_weight, W)
    np.testing.assert_array_equal(net.output_weight, A)
    for part in (net.hidden_weight, net.hidden_bias, net.output_weight, net.output_bias, *net.weights("float32")[:4]):
        with pytest.raises(ValueError, match="read-only"):
            part[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            part.flags.writeable = True
    with pytest.raises(AttributeError):
        net.hidden_weight = W


def test_mixed_types_become_the_wider_one():
    net = fo.TwoLayerNetwork(W.astype(np.float32), A)
    assert net.dtype == net.hidden_weight.dtype == np.float64


@every_backend_name
def test_a_computation_runs_in_the_type_of_its_input(backend_name):
    net = fo.TwoLayerNetwork(W, A)
    for kind in (np.float32, np.float64):
        assert fo.forward(net, np.ones((1, 2), kind), backend=backend_name).dtype == kind


def test_weights_that_overflow_float32_are_refused_for_float32_inputs():
    net = fo.TwoLayerNetwork(W * 1e300, A)
    with pytest.raises(ValueError, match="network: its float64 weights overflow float32; use float64 inputs"):
        fo.forward(net, np.ones((1, 2), np.float32))


# ------------------------------------------------------------------ copies


@every_backend_name
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
@pytest.mark.parametrize("outputs", [A, A[0]], ids=["several", "one"])
def test_a_network_that_was_used_can_be_copied_to_the_bit(backend_name, duplicate, outputs):
    net = fo.TwoLayerNetwork(W / 7, outputs / 3, output_bias=np.full(np.size(outputs) // 3, 0.1), activation="elu(0.3)")
    x = np.random.default_rng(0).standard_normal((5, 2))
    expected = fo.forward(net, x, backend=backend_name)
    again = duplicate(net)
    np.testing.assert_array_equal(fo.forward(again, x, backend=backend_name), expected)
    assert repr(again) == repr(net)
    with pytest.raises(ValueError, match="WRITEABLE"):
        again.hidden_weight.flags.writeable = True


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_a_saved_network_comes_back_to_the_bit(tmp_path, kind, activation):
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal(shape).astype(kind) for shape in ((3, 2), (4, 3), (3,), (4,))]
    net = fo.TwoLayerNetwork(*parts, activation=activation)
    net.save(tmp_path / "net.npz")
    again = fo.load_network(tmp_path / "net.npz")
    for name in ("hidden_weight", "output_weight", "hidden_bias", "output_bias"):
        np.testing.assert_array_equal(getattr(again, name), getattr(net, name))
        assert getattr(again, name).dtype == kind
    assert again.activation == net.activation


def test_a_saved_network_with_flat_outputs_comes_back_flat(tmp_path):
    fo.TwoLayerNetwork(W, np.ones(3), output_bias=np.float64(0.5)).save(tmp_path / "net.npz")
    again = fo.load_network(str(tmp_path / "net.npz"))
    assert again.scalar_output
    np.testing.assert_array_equal(again.output_bias, [0.5])


def test_weights_alone_are_a_relu_network(tmp_path):
    np.savez(tmp_path / "net.npz", hidden_weight=W, output_weight=A)
    assert repr(fo.load_network(tmp_path / "net.npz")) == "TwoLayerNetwork(2 -> 3 relu -> 4, float64)"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("hiden_bias", "hidden_bias"), ("b", "hidden_bias"), ("OutputBias", "output_bias"), ("activations", "activation")],
)
def test_an_array_of_a_file_that_is_misspelt_is_refused(tmp_path, name, meant):
    np.savez(tmp_path / "net.npz", hidden_weight=W, output_weight=A, **{name: np.ones(3)})
    with pytest.raises(ValueError, match=rf"net\.npz: a network has no array {name}; did you mean {meant}\?$"):
        fo.load_network(tmp_path / "net.npz")


def test_an_array_of_a_file_that_is_no_part_of_a_network_is_warned_of(tmp_path):
    np.savez(tmp_path / "net.npz", hidden_weight=W, output_weight=A, mean=np.ones(2), scale=np.ones(2))
    with pytest.warns(UserWarning, match=r"net\.npz: not read, being no part of a network: mean, scale$") as seen:
        fo.load_network(tmp_path / "net.npz")
    assert [warning.filename for warning in seen] == [__file__]


@pytest.mark.parametrize(("name", "value"), [("sigma", 3.0), ("b", 0.5), ("job", "fit 3")])
def test_an_array_that_only_has_the_name_of_a_part_elsewhere_is_not_taken_for_it(tmp_path, name, value):
    np.savez(tmp_path / "net.npz", hidden_weight=W, output_weight=A, **{name: value})
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert fo.load_network(tmp_path / "net.npz").activation == "relu"
    assert [name in str(warning.message) for warning in seen] == ([] if name == "job" else [True])


def test_a_checkpoint_of_training_is_no_network(tmp_path):
    options = {"hidden_features": 3, "activation": "tanh", "epochs": 1, "checkpoint": tmp_path / "c.npz"}
    train(np.eye(3), np.arange(3), **options)
    with pytest.raises(ValueError, match=r"c\.npz: expected a network, got the checkpoint of a training"):
        fo.load_network(tmp_path / "c.npz")


@pytest.mark.parametrize("name", ["net.npy", "net", "net.pkl", "net.npz.gz"])
def test_other_kinds_of_file_are_refused_and_none_is_written(tmp_path, name):
    with pytest.raises(ValueError, match=r"path: expected a file ending in \.npz"):
        fo.TwoLayerNetwork(W, A).save(tmp_path / name)
    with pytest.raises(ValueError, match=r"path: expected a file ending in \.npz"):
        fo.load_network(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_file_without_weights_says_what_it_has(tmp_path):
    np.savez(tmp_path / "net.npz", hidden_weight=W, weights=A)
    with pytest.raises(ValueError, match="no array named output_weight; it has hidden_weight, weights"):
        fo.load_network(tmp_path / "net.npz")


def test_a_pickled_array_is_refused_and_not_run(tmp_path):
    np.savez(tmp_path / "net.npz", hidden_weight=np.array([Trap(tmp_path)], dtype=object), output_weight=A)
    with pytest.raises(ValueError, match=r"allow_pickle|Object arrays"):
        fo.load_network(tmp_path / "net.npz")
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, folder) -> None:
        self.folder = folder

    def __reduce__(self):
        return (open, (str(self.folder / "sprung"), "w"))


def test_a_whole_file_that_is_a_pickle_is_refused(tmp_path):
    (tmp_path / "net.npz").write_bytes(b"\x80\x04N.")
    with pytest.raises(ValueError, match="pickle"):
        fo.load_network(tmp_path / "net.npz")


def test_a_missing_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        fo.load_network(tmp_path / "net.npz")


@pytest.mark.parametrize(
    "change",
    [
        {"output_weight": A[:, :2]},
        {"hidden_weight": W * np.nan},
        {"hidden_weight": np.array(["a", "b"])},
        {"hidden_bias": np.array(["a", "b", "c"])},
        {"activation": np.arange(3)},
    ],
)
def test_a_file_whose_arrays_do_not_fit_is_refused_by_name(tmp_path, change):
    np.savez(tmp_path / "net.npz", **({"hidden_weight": W, "output_weight": A} | change))
    with pytest.raises(ValueError, match=rf"net\.npz: {next(iter(change))}: "):
        fo.load_network(tmp_path / "net.npz")


def saved(write, *arrays, **named) -> bytes:
    stream = io.BytesIO()
    write(stream, *arrays, **named)
    return stream.getvalue()


GOOD = saved(np.savez, hidden_weight=W, output_weight=A)
DAMAGED = {
    "empty": b"",
    "text": b"weights",
    "truncated": GOOD[: len(GOOD) // 2],
    "changed": GOOD.replace(W.tobytes(), (W + 1).tobytes()),
    "one array": saved(np.save, W),
}


@pytest.mark.parametrize("damage", list(DAMAGED))
def test_a_damaged_file_is_refused_by_name(tmp_path, damage):
    (tmp_path / "net.npz").write_bytes(DAMAGED[damage])
    with pytest.raises(ValueError, match=r"net\.npz: expected a whole \.npz file"):
        fo.load_network(tmp_path / "net.npz")


def test_a_network_that_fails_to_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "net.npz"
    fo.TwoLayerNetwork(W, A).save(path)
    before = path.read_bytes()

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        fo.TwoLayerNetwork(2 * W, A).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_missing_is_named_with_the_path_that_was_given(tmp_path):
    path = tmp_path / "none" / "net.npz"
    with pytest.raises(FileNotFoundError) as caught:
        fo.TwoLayerNetwork(W, A).save(path)
    assert caught.value.filename == str(path)


# ------------------------------------------------------------------ the paper's random network


def test_the_random_network_has_the_papers_statistics():
    net = fo.random_network(200, 300, seed=1, dtype=np.float64)
    w, a = net.hidden_weight, net.output_weight
    assert abs(w.mean()) < 4 / np.sqrt(w.size)
    assert abs(w.var() - 1) < 4 * np.sqrt(2 / w.size)
    assert abs((w**4).mean() - 3) < 4 * np.sqrt(96 / w.size)  # the fourth moment of a normal variable
    assert set(np.unique(a)) == {-1 / np.sqrt(300), 1 / np.sqrt(300)}
    assert abs(np.sign(a).mean()) < 4 / np.sqrt(300)
    assert not net.hidden_bias.any()
    assert not net.output_bias.any()
    assert net.scalar_output


def test_the_random_network_is_decided_by_its_seed():
    first, again, other = (fo.random_network(5, 7, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.hidden_weight, again.hidden_weight)
    np.testing.assert_array_equal(first.output_weight, again.output_weight)
    assert (first.hidden_weight != other.hidden_weight).any()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_random_network_has_the_type_and_activation_asked_for(kind):
    net = fo.random_network(5, 7, activation="elu(0.5)", dtype=kind)
    assert net.dtype == kind
    assert net.activation == "elu(0.5)"


@pytest.mark.parametrize(
    ("change", "error", "pattern"),
    [
        ({"seed": -1}, ValueError, "seed: .*got -1"),
        ({"seed": 0.5}, TypeError, "seed: expected an integer"),
        ({"in_features": -3}, ValueError, "in_features: .*got -3"),
        ({"hidden_features": 0}, ValueError, "hidden_features: .*got 0"),
        ({"hidden_features": 2.0}, TypeError, "hidden_features: expected an integer"),
        ({"dtype": np.int64}, TypeError, "dtype: expected float32 or float64, got int64"),
    ],
)
def test_the_random_network_refuses(change, error, pattern):
    with pytest.raises(error, match=pattern):
        fo.random_network(**({"in_features": 2, "hidden_features": 3} | change))


def test_masked_weights_are_refused():
    with pytest.raises(ValueError, match="hidden_weight: expected an array without masked elements"):
        fo.TwoLayerNetwork(np.ma.masked_equal(W, 1), A)
