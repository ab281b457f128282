"""Files that a network may be in, activations that a file names, and classes that an estimator names."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import pyfirstorder as fo
from pyfirstorder.interop import models

RNG = np.random.default_rng(0)
W, A = RNG.standard_normal((5, 4)).astype(np.float32), RNG.standard_normal((3, 5)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("net.pt", r"module\.load_state_dict\(torch\.load\(path\)\), .* models\.from_torch\(module\)"),
        ("net.pth", r"models\.from_torch\(module\)"),
        ("net.keras", r"keras\.saving\.load_model\(path\), .* models\.from_keras\(model\)"),
        ("net.joblib", r"models\.from_sklearn\(estimator\)"),
    ],
)
def test_files_of_other_libraries_are_answered_with_what_reads_them(name, instead):
    with pytest.raises(
        ValueError, match=rf"expected a file ending in \.npz, \.onnx or \.safetensors, got .*; .*{instead}"
    ):
        fo.load_network(name)


def test_the_way_for_a_file_of_torch_works(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch")

    def module():
        return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))

    saved, loaded = module(), module()
    torch.save(saved.state_dict(), tmp_path / "net.pt")
    loaded.load_state_dict(torch.load(tmp_path / "net.pt"))
    np.testing.assert_array_equal(models.from_torch(loaded).hidden_weight, saved[0].weight.detach())


def test_a_module_instead_of_a_path_is_answered_with_its_reader():
    torch = pytest.importorskip("torch", reason="needs torch")
    with pytest.raises(TypeError, match=r"path: expected a path, got Linear.*models\.from_torch\(module\)"):
        fo.load_network(torch.nn.Linear(2, 2))


def test_an_activation_beside_a_file_is_that_of_the_file(tmp_path):
    path = tmp_path / "net.npz"
    fo.TwoLayerNetwork(W, A, activation="softplus").save(path)
    assert fo.load_network(path, activation="softplus(1)").activation == "softplus(1.0)"
    with pytest.raises(
        ValueError, match=r"activation: expected None, or that of .*net\.npz, 'softplus\(1\.0\)', got 'relu'"
    ):
        fo.load_network(path, activation="relu")
    with pytest.raises(TypeError, match=r"load_network has no argument act; did you mean activation\?"):
        fo.load_network(path, act="relu")


def test_an_activation_is_given_where_a_file_of_tensors_names_none(tmp_path):
    files = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    path, tensors = tmp_path / "net.safetensors", {"fc1.weight": W, "fc2.weight": A}
    files.save_file(tensors, path)
    with pytest.raises(
        ValueError, match=r'net\.safetensors: names no activation; pass activation=\.\.\., such as "relu"'
    ):
        fo.load_network(path)
    assert fo.load_network(path, activation="tanh").activation == "tanh"
    files.save_file(tensors, path, metadata={"activation": "gelu"})
    assert fo.load_network(path, activation="gelu").activation == "gelu"
    for read in (fo.load_network, models.from_safetensors):
        with pytest.raises(ValueError, match=r"activation: expected None, or that of .*, 'gelu', got 'tanh'"):
            read(path, activation="tanh")


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_tensors_of_half_precision_are_refused_with_the_line_that_converts_them(kind, tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch")
    files = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    path = tmp_path / "net.safetensors"
    state = {"fc1.weight": torch.from_numpy(W), "fc2.weight": torch.from_numpy(A)}
    files.save_file({name: part.to(getattr(torch, kind)) for name, part in state.items()}, path)
    with pytest.raises(
        TypeError, match=rf"expected tensors of float32 or float64, got .*{kind}.*; save it anew with .*float\(\)"
    ):
        fo.load_network(path, activation="relu")
    files.save_file({name: tensor.float() for name, tensor in state.items()}, path)  # as the message has it
    assert fo.load_network(path, activation="relu").dtype == np.float32


def classifier(classes):
    neural_network = pytest.importorskip("sklearn.neural_network", reason="needs scikit-learn")
    places = np.arange(60) % len(classes)
    x = np.eye(len(classes))[places] + 0.1 * RNG.standard_normal((60, len(classes)))
    y = np.asarray(classes)[places]
    return neural_network.MLPClassifier((8,), solver="lbfgs", random_state=0).fit(x, y), x, y


def test_numbers_that_are_no_places_are_warned_of_and_their_places_are_the_labels():
    estimator, x, y = classifier([1, 2, 5])
    with pytest.warns(
        UserWarning, match=r"its classes are \[1 2 5\]; .* np\.searchsorted\(estimator\.classes_, y\)"
    ) as seen:
        net = models.from_sklearn(estimator)
    assert seen[0].filename == __file__
    places = np.searchsorted(estimator.classes_, y)
    np.testing.assert_array_equal(estimator.classes_[fo.predict(net, x)], estimator.predict(x))
    assert fo.evaluate(net, x, places, eps=0.01, steps=2).clean_accuracy == estimator.score(x, y)


def test_two_numbers_are_warned_of_with_their_signs():
    estimator, x, y = classifier([3, 4])
    with pytest.warns(UserWarning, match=r"\[3 4\]; labels here are -1 and \+1, 2 \* np\.searchsorted"):
        net = models.from_sklearn(estimator)
    signs = 2 * np.searchsorted(estimator.classes_, y) - 1
    assert fo.evaluate(net, x, signs, eps=0.01, steps=2).clean_accuracy == estimator.score(x, y)


@pytest.mark.parametrize("classes", [[0, 1, 2], [0.0, 1.0, 2.0], [-1, 1], [0, 1], ["a", "b", "c"]])
def test_classes_that_cannot_be_taken_for_others_are_read_without_a_warning(classes):
    estimator, _, _ = classifier(classes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert models.from_sklearn(estimator).in_features == len(classes)
