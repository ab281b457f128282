"""Models of other libraries as two-layer networks: a reader lists the model's layers, `layers.assemble` does the rest.

A model that is not a two-layer network is refused with the layer that does not fit.  Weights are copied, in float32 or
float64 as they are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder import checks
from pyfirstorder import network as networks
from pyfirstorder.interop.layers import Activation, Affine, Layer, Linear, assemble, normalized

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

__all__ = ["from_flax", "from_keras", "from_onnx", "from_safetensors", "from_sklearn", "from_torch", "normalized"]

# ------------------------------------------------------------------ torch


def from_torch(module: Any, *, activation: str | None = None, drop_softmax: bool = False) -> TwoLayerNetwork:
    """The network of a torch module.

    Parameters
    ----------
    module : torch.nn.Module
        A Sequential (nested, too) of two Linear with an activation between them; Flatten, Identity, Dropout in
        evaluation mode, batch normalisation in evaluation mode, and modules with ``mean`` and ``std`` (input
        normalisation) are folded in or left out.  With ``activation``, any module that has two Linear: what it computes
        is compared with the network on random samples.
    activation : str, optional
        The activation of a module that is no Sequential.
    drop_softmax : bool
        Whether to take the logits before a final Softmax or LogSoftmax, which is refused otherwise.

    Returns
    -------
    TwoLayerNetwork

    Raises
    ------
    TypeError, ValueError
        If the module is not a two-layer network; the message names the layer.
    """
    from pyfirstorder.interop import torch as own
    from pyfirstorder.interop import torch_layers

    if isinstance(module, own.TwoLayer):
        return module.network()
    if activation is None:
        return assemble(torch_layers.torch_layers(module), drop_softmax=drop_softmax)
    first, second = torch_layers.two_linear(module)
    net = assemble([first, Activation("the activation", activation), second])
    torch_layers.compare(module, net)
    return net


# ------------------------------------------------------------------ scikit-learn


def from_sklearn(estimator: Any) -> TwoLayerNetwork:
    """The network of a fitted MLPClassifier or MLPRegressor with one hidden layer, scalers in a Pipeline folded in.

    Parameters
    ----------
    estimator : MLPClassifier, MLPRegressor or a Pipeline that ends with one
        StandardScaler, MinMaxScaler and MaxAbsScaler may stand before it.

    Returns
    -------
    TwoLayerNetwork
        Of logits.  A classifier of two classes has one output, whose labels are -1 (``classes_[0]``) and +1; one of
        more classes has an output per class, in the order of ``classes_``.

    Raises
    ------
    TypeError, ValueError
        If it is of another kind, not fitted, or has not one hidden layer.
    """
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    *scalers, mlp = steps
    if not hasattr(mlp, "hidden_layer_sizes"):
        raise TypeError(f"estimator: expected MLPClassifier or MLPRegressor, got {type(mlp).__name__}")
    if not hasattr(mlp, "coefs_"):
        raise ValueError(f"estimator: expected a fitted {type(mlp).__name__}; call fit first")
    if len(mlp.coefs_) != 2:
        raise ValueError(f"estimator: expected one hidden layer, got {len(mlp.coefs_) - 1}")
    if mlp.out_activation_ == "logistic" and mlp.coefs_[1].shape[1] > 1:
        raise ValueError("estimator: expected one label per sample, got a classifier of several labels at once")
    name = {"logistic": "sigmoid"}.get(mlp.activation, mlp.activation)
    layers: list[Layer] = [_sklearn_scaler(f"step {place}", scaler) for place, scaler in enumerate(scalers)]
    (w, a), (b, c) = mlp.coefs_, mlp.intercepts_
    layers += [Linear("coefs_[0]", w.T, b), Activation("activation", name), Linear("coefs_[1]", a.T, c)]
    net = assemble(layers)
    if mlp.coefs_[1].shape[1] > 1:
        return net
    return networks.TwoLayerNetwork(
        net.hidden_weight, net.output_weight[0], net.hidden_bias, net.output_bias, net.activation
    )


def _sklearn_scaler(where: str, scaler: Any) -> Layer:
    where = f"{where} ({type(scaler).__name__})"
    if hasattr(scaler, "data_min_"):  # MinMaxScaler: x scale_ + min_
        if getattr(scaler, "clip", False):
            raise ValueError(f"{where}: expected clip=False, because clipping is not affine")
        return Affine(where, scaler.scale_, scaler.min_)
    if hasattr(scaler, "scale_"):  # (x - mean_) / scale_
        gain = 1 / np.asarray(1.0 if scaler.scale_ is None else scaler.scale_)
        mean = getattr(scaler, "mean_", None)
        return Affine(where, gain, -gain * (0.0 if mean is None else mean))
    raise ValueError(f"{where}: expected StandardScaler, MinMaxScaler or MaxAbsScaler before the network")


# ------------------------------------------------------------------ trees of arrays


def from_flax(parameters: Any, *, activation: str) -> TwoLayerNetwork:
    """The network of parameters in a tree: of flax.linen, flax.nnx, haiku, or made by hand.

    Parameters
    ----------
    parameters : mapping, sequence or flax.nnx module
        Two layers, in order or named in order (``Dense_0``, ``Dense_1``), each with a matrix (inputs, outputs) and
        optionally a vector; a dict with the one key "params" is opened.
    activation : str
        What the model's code applies between them, since parameters do not tell: see `pyfirstorder.TwoLayerNetwork`.

    Returns
    -------
    TwoLayerNetwork

    Raises
    ------
    TypeError, ValueError
        If there are not two layers whose shapes fit.
    """
    if callable(parameters):  # a module of flax.nnx
        from flax import nnx

        parameters = nnx.to_pure_dict(nnx.state(parameters, nnx.Param))
    layers = list(_tree_layers("parameters", parameters))
    if len(layers) != 2:
        raise ValueError(
            f"parameters: expected two layers, got {len(layers)}: {', '.join(one.where for one in layers)}"
        )
    return assemble([layers[0], Activation("the activation", activation), layers[1]])


def _tree_layers(where: str, tree: Any) -> Iterator[Linear]:
    """Every node that holds a matrix, in order."""
    items = _children(tree)
    found = {name: checks.array(f"{where}.{name}", part) for name, part in items if not _children(part)}
    matrices = [name for name, part in found.items() if part.ndim == 2]
    vectors = [name for name, part in found.items() if part.ndim == 1]
    if len(matrices) > 1 or len(vectors) > 1 or len(matrices) + len(vectors) < len(found):
        raise ValueError(f"{where}: expected a matrix and a vector, got {', '.join(found)}")
    if matrices:
        yield Linear(where, found[matrices[0]].T, found[vectors[0]] if vectors else None)
    for name, part in items:
        if _children(part):
            yield from _tree_layers(f"{where}.{name}", part)


def _children(tree: Any) -> list[tuple[str, Any]]:
    if hasattr(tree, "items"):
        return sorted(((str(name), part) for name, part in tree.items()), key=lambda item: _natural(item[0]))
    if isinstance(tree, (list, tuple)):
        return [(str(place), part) for place, part in enumerate(tree)]
    return []


def _natural(name: str) -> list[tuple[int, int | str]]:
    """``Dense_10`` after ``Dense_9``."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


# ------------------------------------------------------------------ files


def from_safetensors(path: str | os.PathLike[str], *, activation: str | None = None) -> TwoLayerNetwork:
    """The network in a .safetensors file of a module with two linear layers, such as a torch state dict.

    Parameters
    ----------
    path : path
        Two matrices (outputs, inputs) and their vectors; names are taken in natural order and grouped by what comes
        before the last dot.
    activation : str, optional
        The activation, unless the file's metadata has an entry of that name.

    Returns
    -------
    TwoLayerNetwork

    Raises
    ------
    ImportError
        If safetensors is not installed.
    ValueError
        If the file does not hold two layers, or says nothing of the activation.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportError("safetensors is not installed: pip install safetensors") from error
    try:
        with safe_open(path, framework="numpy") as file:
            named = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            noted = (file.metadata() or {}).get("activation")
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a .safetensors file, got {error}") from error
    if activation is None and noted is None:
        raise ValueError(f"{path}: names no activation; call from_safetensors(path, activation=...)")
    groups: dict[str, dict[str, Array]] = {}
    for name in sorted(named, key=_natural):
        group, _, part = name.rpartition(".")
        groups.setdefault(group, {})[part] = named[name]
    layers = [layer for group, parts in groups.items() for layer in _tree_layers(group or "the file", parts)]
    if len(layers) != 2:
        raise ValueError(f"{path}: expected two layers, got {len(layers)}: {', '.join(one.where for one in layers)}")
    first, second = (Linear(layer.where, layer.weight.T, layer.bias) for layer in layers)
    return assemble([first, Activation("the activation", activation or str(noted)), second])


def from_keras(model: Any, *, drop_softmax: bool = False) -> TwoLayerNetwork:
    """The network of a Keras model.

    Parameters
    ----------
    model : keras.Model
        A Sequential, or a functional model without branches, of two Dense; Flatten, Dropout, Normalization, Rescaling
        and BatchNormalization are folded in or left out, as at inference.
    drop_softmax : bool
        See `from_torch`.

    Returns
    -------
    TwoLayerNetwork

    Raises
    ------
    ImportError
        If keras is not installed.
    ValueError
        If the model is not a two-layer network; the message names the layer.
    """
    from pyfirstorder.interop.keras_layers import keras_layers

    return assemble(keras_layers(model), drop_softmax=drop_softmax)


def from_onnx(model: Any, *, drop_softmax: bool = False) -> TwoLayerNetwork:
    """The network of an ONNX model.

    Parameters
    ----------
    model : path or onnx.ModelProto
        A chain of Gemm or MatMul and Add, an activation, and the same again; Flatten, Reshape and arithmetic with
        constants (normalisation) are folded in or left out.
    drop_softmax : bool
        See `from_torch`.

    Returns
    -------
    TwoLayerNetwork

    Raises
    ------
    ImportError
        If onnx is not installed.
    ValueError
        If the file is none, or the model is not a two-layer network; the message names the node.
    """
    from pyfirstorder.interop.onnx_layers import onnx_layers

    return assemble(onnx_layers(model), drop_softmax=drop_softmax)
