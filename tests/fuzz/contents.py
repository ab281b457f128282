"""What a file holds, read without the library: by NumPy, json and onnx alone.

A file that the library reads must be read so, to the bit: what is damaged may be refused, but never answered with
numbers that do not stand in the file.
"""

from __future__ import annotations

import io
import json
import re
import struct
from typing import Any, NamedTuple

import numpy as np

import pyfirstorder as fo

_SAFETENSORS_TYPES = {"F32": "<f4", "F64": "<f8"}
_ONNX_ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softplus": "softplus(1.0)", "Erf": "erf"}
_ONNX_SHAPING = ("Identity", "Flatten", "Dropout", "Cast")
_SHARE_OF_ROUNDING = 1e-5  # of the largest output, in float32


class Layers(NamedTuple):
    """A network as it stands in a file; biases that it lacks are None."""

    hidden_weight: Any
    output_weight: Any
    hidden_bias: Any
    output_bias: Any
    activation: str


def require_network(net: fo.TwoLayerNetwork, kind: str, content: bytes) -> None:
    """An AssertionError if the network is not that of the file."""
    found = _LAYERS[kind.rpartition(".")[2]](content)
    if found is None:  # it computes more than layers do
        return _require_outputs(net, content)
    dtype = np.result_type(found.hidden_weight, found.output_weight)
    assert net.dtype == dtype, f"weights of {dtype} were read as {net.dtype}"
    assert _activation(net.activation) == _activation(found.activation), f"{found.activation} became {net.activation}"
    hidden, outputs = len(found.hidden_weight), found.output_weight.size // len(found.hidden_weight)
    biases = {"hidden_bias": (found.hidden_bias, hidden), "output_bias": (found.output_bias, outputs)}
    expected = {"hidden_weight": found.hidden_weight, "output_weight": found.output_weight}
    expected |= {name: np.zeros(size) if bias is None else bias for name, (bias, size) in biases.items()}
    for name, array in expected.items():
        _require_bits(name, getattr(net, name), np.atleast_1d(array).astype(dtype))
    return None


def require_data(x: Any, y: Any, kind: str, content: bytes, labels: Any) -> None:
    """An AssertionError if these are not the first samples of the file."""
    stored = np.load(io.BytesIO(content), allow_pickle=False)
    if kind == "data.npz":
        stored, labels = stored["x"], stored["y"]
    is_image = stored.dtype.kind == "u"
    first = stored[: len(x)]
    with np.errstate(over="ignore"):
        wide = first.astype(np.float64) / np.iinfo(stored.dtype).max if is_image else first
        _require_bits("x", x, wide.astype(np.float32))
    np.testing.assert_array_equal(y, np.asarray(labels)[: len(y)].astype(np.int64))
    assert len(x) == min(10, len(stored))


def _require_bits(name: str, read: Any, expected: Any) -> None:
    assert read.shape == expected.shape, f"{name}: shape {expected.shape} was read as {read.shape}"
    assert read.tobytes() == expected.astype(read.dtype).tobytes(), f"{name}: {expected} was read as {read}"


def _activation(text: str) -> tuple[str, float | None]:
    name, parameter = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text).groups()
    defaults = {"leaky_relu": 0.01, "elu": 1.0, "softplus": 1.0}
    return name, defaults.get(name) if parameter is None else float(parameter)


def _npz(content: bytes) -> Layers:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        parts = {name: file[name] for name in file.files}
    names = ("hidden_weight", "output_weight", "hidden_bias", "output_bias")
    return Layers(*map(parts.get, names), str(parts.get("activation", "relu")))


def _safetensors(content: bytes) -> Layers:
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    activation = header.pop("__metadata__")["activation"]
    layers: dict[str, dict[str, Any]] = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensor = np.frombuffer(data[begin:end], _SAFETENSORS_TYPES[entry["dtype"]]).reshape(entry["shape"])
        where, _, part = name.rpartition(".")
        if tensor.ndim == 2 and part != "weight":  # in all other names the inputs come first
            tensor = tensor.T
        layers.setdefault(where, {})[("bias", "weight")[tensor.ndim - 1]] = tensor
    first, second = sorted(layers, key=lambda where: [int(number) for number in re.findall(r"\d+", where)])
    if re.sub(r"\d+", "", first) != re.sub(r"\d+", "", second):  # names that tell no order: only one may fit
        orders = ((first, second), (second, first))
        fitting = [o for o in orders if len(layers[o[0]]["weight"]) == layers[o[1]]["weight"].shape[1]]
        ((first, second),) = fitting
    weights, biases = ([layers[where].get(part) for where in (first, second)] for part in ("weight", "bias"))
    return Layers(*weights, *biases, activation)


def _onnx_chain(content: bytes) -> tuple[Any, list[Any]]:
    """The model, and its nodes from input to output along their first inputs."""
    import onnx

    model = onnx.load_model_from_string(content)
    made = {name: node for node in model.graph.node for name in node.output}
    (value,) = (one.name for one in model.graph.output)
    chain = []
    while value in made:
        chain.append(made[value])
        value = chain[-1].input[0]
    return model, chain[::-1]


def _onnx(content: bytes) -> Layers | None:
    from onnx import helper, numpy_helper

    model, chain = _onnx_chain(content)
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    weights, biases, activation = [], [], None
    for node in chain:
        attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type in ("Gemm", "MatMul"):
            matrix = constants[node.input[1]]
            if attributes.pop("alpha", 1.0) != 1.0 or attributes.pop("beta", 1.0) != 1.0:
                return None
            transposed = bool(attributes.pop("transB", 0))
            weights.append(matrix if transposed else matrix.T)
            bias = constants[node.input[2]] if len(node.input) > 2 and node.input[2] else None
            biases.append(None if bias is None else np.broadcast_to(bias.reshape(-1), len(weights[-1])))
        elif node.op_type in _ONNX_ACTIVATIONS and not node.attribute:
            activation = _ONNX_ACTIVATIONS[node.op_type]
        elif node.op_type not in _ONNX_SHAPING:
            return None
    return Layers(*weights, *biases, activation)


def _require_outputs(net: fo.TwoLayerNetwork, content: bytes) -> None:
    """Where arithmetic is folded into the weights: the outputs of onnx's own evaluator, up to rounding."""
    from onnx.reference import ReferenceEvaluator

    model, _ = _onnx_chain(content)
    x = np.random.default_rng(0).standard_normal((5, net.in_features)).astype(np.float32)
    (theirs,) = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x})
    theirs = np.asarray(theirs, np.float64).reshape(len(x), -1)
    ours = fo.forward(net, x).reshape(len(x), -1)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=_SHARE_OF_ROUNDING * max(1.0, np.abs(theirs).max()))


_LAYERS = {"npz": _npz, "safetensors": _safetensors, "onnx": _onnx}
