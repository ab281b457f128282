"""Activations that exporters write out as several ONNX nodes, known by what they compute.

torch writes SiLU as ``h · sigmoid(h)``, older exports GELU as ``h · (1 + erf(h / √2)) / 2``, and each exporter has its
own way.  So a group of nodes between one value and another is not matched with patterns: it is evaluated on a grid, and
is an activation (times a constant) if its values are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

try:
    import onnx
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator
except ImportError as error:
    raise ImportError("onnx is not installed: pip install onnx") from error

import numpy as np

from pyfirstorder.api import forward
from pyfirstorder.interop.layers import Activation, Affine, Layer
from pyfirstorder.network import TwoLayerNetwork

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyfirstorder.problem import Array

    Block = list[tuple[str, Any]]

_ELEMENTWISE = (
    *("Abs", "Add", "Div", "Elu", "Erf", "Exp", "Greater", "GreaterOrEqual", "Identity", "LeakyRelu", "Less"),
    *("LessOrEqual", "Log", "Max", "Min", "Mul", "Neg", "Not", "Pow", "Relu", "Sigmoid", "Softplus", "Sqrt", "Sub"),
    *("Tanh", "Where"),
)
_FIXED = ("gelu", "gelu_tanh", "silu", "quadratic", "relu", "tanh", "sigmoid", "erf")
_NEAR = np.linspace(-12, 12, 385)  # with 0, ±1, and beyond where these activations become lines
_FAR = np.geomspace(12.5, 1e4, 60)  # where a bound would show
_GRID = np.concatenate([-_FAR[::-1], _NEAR, _FAR])
_IS_NEAR = np.abs(_GRID) <= 12
_SHARE = 4e-6  # of rounding in float32, which tells gelu from its tanh form, 4e-4 away


def block_layers(model: Any, block: Block, value: str, constants: dict[str, Array]) -> list[Layer]:
    """The layers of nodes that compute one value from another."""
    names = ", ".join(node.op_type for _, node in block)
    where = f"{block[0][0]} to {block[-1][0]}" if len(block) > 1 else block[0][0]
    used = {name: constants[name] for _, node in block for name in node.input if name in constants}
    if all(node.op_type in _ELEMENTWISE for _, node in block) and all(number.size == 1 for number in used.values()):
        found = _evaluate(model, block, value, used)
        for name, scale in _candidates(found):
            expected = _activation(name)
            allowed = _SHARE * np.maximum.reduce([np.abs(_GRID), np.abs(expected), np.ones(_GRID.shape)])
            agrees = np.abs(found - scale * expected) <= abs(scale) * allowed
            if (agrees | (~np.isfinite(found) & ~_IS_NEAR)).all():  # log(1 + exp(h)) overflows in the model itself
                scaled = [Affine(where, np.asarray(scale), np.zeros(()))] if scale != 1 else []
                return [Activation(where, name), *scaled]
    raise ValueError(
        f"{where}: expected a chain of layers, got branches ({names}) that are no activation known here; "
        "output=... names a value before them"
    )


def _evaluate(model: Any, block: Block, value: str, used: dict[str, Array]) -> Array:
    floats = [number.dtype for number in used.values() if number.dtype.kind == "f"]
    dtype = np.dtype(np.float64 if floats and max(floats) == np.float64 else np.float32)
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    graph = helper.make_graph(
        [node for _, node in block],
        "block",
        [helper.make_tensor_value_info(value, kind, [None])],
        [helper.make_tensor_value_info(block[-1][1].output[0], onnx.TensorProto.UNDEFINED, None)],
        [numpy_helper.from_array(np.asarray(number), name) for name, number in used.items()],
    )
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    with np.errstate(all="ignore"):
        return np.asarray(ReferenceEvaluator(part).run(None, {value: _GRID.astype(dtype)})[0], np.float64).reshape(-1)


def _activation(name: str) -> Array:
    one = np.ones((1, 1))
    return forward(TwoLayerNetwork(one, one, activation=name), _GRID[:, None])[:, 0]


def _candidates(found: Array) -> Iterator[tuple[str, float]]:
    """Activations that may be meant, with a constant factor: parameters follow from single values."""
    at_minus_one, at_zero, at_one = (float(found[np.argmin(np.abs(_GRID - point))]) for point in (-1, 0, 1))
    if not np.isfinite(found[_IS_NEAR]).all():
        return
    for name in _FIXED:
        own = float(_activation(name)[np.argmin(np.abs(_GRID - 1))])
        scale = at_one / own
        yield name, _nearest(scale)
    if at_zero > 0:
        yield f"softplus({_nearest(math.log(2) / at_zero)!r})", 1.0
    yield f"leaky_relu({_nearest(-at_minus_one)!r})", 1.0
    yield f"elu({_nearest(at_minus_one / math.expm1(-1))!r})", 1.0


def _nearest(number: float) -> float:
    """A number without the rounding of float32, where a short one is meant."""
    short = float(f"{number:.5g}")
    return short if abs(number - short) <= _SHARE * abs(number) else number
