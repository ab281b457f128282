"""Arguments of the readers of models that are of the wrong kind, or hold what cannot be read: said by their name."""

from __future__ import annotations

import numpy as np
import pytest

import pyfirstorder as fo
from pyfirstorder.interop import models

TREE = {"up": {"kernel": np.ones((8, 4))}, "down": {"kernel": np.ones((4, 3))}}


@pytest.mark.parametrize("names", [3, "ab", {"up", "down"}])
def test_names_that_are_no_pair_are_refused_by_their_kind(names, tmp_path):
    for read in (models.from_flax, models.from_safetensors):
        if read is models.from_safetensors:
            pytest.importorskip("safetensors", reason="needs safetensors")
        given = TREE if read is models.from_flax else tmp_path / "none.safetensors"
        with pytest.raises(TypeError, match="names: expected a pair of names of layers, in order, got"):
            read(given, activation="relu", names=names)


@pytest.mark.parametrize("names", [("up",), (1, 2), ()])
def test_pairs_that_are_no_names_are_refused_by_their_value(names):
    with pytest.raises(ValueError, match="names: expected the names of two layers, in order, got"):
        models.from_flax(TREE, activation="relu", names=names)


@pytest.mark.parametrize("tree", [5, "weights", None, np.ones((2, 2))])
def test_parameters_that_are_no_tree_are_refused(tree):
    with pytest.raises(TypeError, match="parameters: expected a mapping or a sequence of arrays, got"):
        models.from_flax(tree, activation="relu")


def test_a_module_to_compare_with_is_one_of_flax_linen():
    linen = pytest.importorskip("flax.linen", reason="needs flax")
    with pytest.raises(TypeError, match=r"module: expected a module of flax\.linen, got int"):
        models.from_flax(TREE, activation="relu", module=5)
    with pytest.raises(TypeError, match="parameters: expected those of the module, got int"):
        models.from_flax(5, activation="relu", module=linen.Dense(3))


def test_trees_that_hold_themselves_are_refused():
    mapping, sequence = {}, []
    mapping["a"] = mapping
    sequence.append(sequence)
    for tree in (mapping, sequence):
        with pytest.raises(ValueError, match="expected a tree of at most 32 levels"):
            models.from_flax(tree, activation="relu")


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2", "bfloat16"])
def test_tensors_of_kinds_that_numpy_lacks_are_refused(kind, tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch")
    files = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    tensors = {name: torch.ones(4, 4).to(getattr(torch, kind)) for name in ("fc1.weight", "fc2.weight")}
    files.save_file(tensors, tmp_path / "net.safetensors")
    with pytest.raises(TypeError, match=f"expected (tensors|weights) of float32 or float64, got .*{kind}"):
        models.from_safetensors(tmp_path / "net.safetensors", activation="relu")


def test_a_path_of_another_kind_is_refused():
    pytest.importorskip("safetensors", reason="needs safetensors")
    with pytest.raises(TypeError, match="path: expected a path, got 5"):
        models.from_safetensors(5, activation="relu")


@pytest.mark.parametrize(
    ("shape", "error", "pattern"),
    [
        (5, TypeError, "shape: expected a tuple of integers, got 5"),
        ((2.0, 4), TypeError, r"shape: expected an integer, got 2\.0"),
        ((-1,), ValueError, "shape: expected an integer from 1"),
    ],
)
def test_shapes_of_samples_are_tuples_of_positive_integers(shape, error, pattern):
    net = fo.TwoLayerNetwork(np.ones((4, 8)), np.ones((3, 4)))
    with pytest.raises(error, match=pattern):
        models.normalized(net, 0.0, 1.0, shape)
    nn = pytest.importorskip("torch.nn", reason="needs torch")
    module = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))
    with pytest.raises(error, match=pattern):
        models.from_torch(module, activation="relu", shape=shape)
