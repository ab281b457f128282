"""The layers of an ONNX model, as `pyfirstorder.interop.layers` has them.

The graph must be a chain: from its one input, every node takes the result of the one before and constants.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

try:
    import onnx
    from onnx import numpy_helper
except ImportError as error:
    raise ImportError("onnx is not installed: pip install onnx") from error

import numpy as np

from pyfirstorder.interop.layers import Activation, Affine, Layer, Linear, Nothing, Softmax

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyfirstorder.problem import Array

_PLAIN = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softplus": "softplus", "Erf": "erf"}
_NOTHING = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout")


class Node(NamedTuple):
    """A node of the chain: its place and kind, its attributes, its constant inputs by position."""

    where: str
    kind: str
    attributes: dict[str, Any]
    constants: dict[int, Array]

    def only_constant(self) -> tuple[int, Array]:
        """The constant beside the chain's value, and its position."""
        if len(self.constants) != 1:
            raise ValueError(f"{self.where}: expected one constant, got {len(self.constants)}")
        return next(iter(self.constants.items()))


def onnx_layers(model: Any) -> Iterator[Layer]:
    """The layers of an onnx.ModelProto, or of the file at a path."""
    if isinstance(model, (str, os.PathLike)):
        try:
            model = onnx.load(os.fspath(model))
        except FileNotFoundError:
            raise
        except Exception as error:  # protobuf's errors have no common class that is public
            raise ValueError(f"{model}: expected an .onnx file, got {error}") from error
    for node in _chain(model.graph):
        if node.kind in _NOTHING:
            yield Nothing(node.where)
        elif node.kind in _PLAIN:
            yield Activation(node.where, _PLAIN[node.kind])
        elif node.kind in _READERS:
            yield _READERS[node.kind](node)
        else:
            raise ValueError(f"{node.where}: expected Gemm, MatMul, Add, an activation, Flatten or a normalisation")


def _chain(graph: Any) -> Iterator[Node]:
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    inputs = [one.name for one in graph.input if one.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ValueError(f"model: expected one input and one output, got {len(inputs)} and {len(graph.output)}")
    value = inputs[0]
    for place, node in enumerate(graph.node):
        where = f"node {place} ({node.op_type}{f' {node.name!r}' if node.name else ''})"
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type == "Constant":
            tensor = attributes.get("value")
            constants[node.output[0]] = (
                numpy_helper.to_array(tensor) if tensor is not None else np.asarray(next(iter(attributes.values())))
            )
            continue
        if node.op_type == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
            continue
        beside = [name for name in node.input if name and name not in constants]
        if beside != [value]:
            raise ValueError(f"{where}: expected a chain of layers, got inputs {', '.join(beside) or 'all constant'}")
        yield Node(
            where, node.op_type, attributes, {at: constants[n] for at, n in enumerate(node.input) if n in constants}
        )
        value = node.output[0]
    if value != graph.output[0].name:
        raise ValueError(f"model: expected the last node to be the output, got {graph.output[0].name!r}")


def _gemm(node: Node) -> Linear:
    if node.attributes.get("transA", 0) or 1 not in node.constants:
        raise ValueError(f"{node.where}: expected x times a constant matrix")
    weight = node.constants[1] if node.attributes.get("transB", 0) else node.constants[1].T
    bias = node.constants.get(2)
    alpha, beta = (node.attributes.get(name, 1.0) for name in ("alpha", "beta"))
    weight = weight if alpha == 1 else (weight * alpha).astype(weight.dtype)
    if bias is not None:
        bias = np.broadcast_to(bias if beta == 1 else (bias * beta).astype(bias.dtype), len(weight)).reshape(-1)
    return Linear(node.where, weight, bias)


def _matmul(node: Node) -> Linear:
    at, weight = node.only_constant()
    if at != 1 or weight.ndim != 2:
        raise ValueError(f"{node.where}: expected x times a constant matrix")
    return Linear(node.where, weight.T, None)


def _arithmetic(node: Node) -> Affine:
    at, number = node.only_constant()
    number = np.asarray(number, dtype=np.float64)
    one, zero = np.ones(()), np.zeros(())
    if node.kind == "Add":
        return Affine(node.where, one, number)
    if node.kind == "Mul":
        return Affine(node.where, number, zero)
    if node.kind == "Sub":
        return Affine(node.where, one, -number) if at == 1 else Affine(node.where, -one, number)
    if at != 1:
        raise ValueError(f"{node.where}: expected a constant divisor")
    return Affine(node.where, 1 / number, zero)


def _gelu(node: Node) -> Activation:
    approximate = node.attributes.get("approximate", b"none")
    return Activation(node.where, "gelu_tanh" if approximate == b"tanh" else "gelu")


_READERS: dict[str, Callable[[Node], Layer]] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _arithmetic,
    "Sub": _arithmetic,
    "Mul": _arithmetic,
    "Div": _arithmetic,
    "Gelu": _gelu,
    "LeakyRelu": lambda node: Activation(node.where, f"leaky_relu({float(node.attributes.get('alpha', 0.01))!r})"),
    "Elu": lambda node: Activation(node.where, f"elu({float(node.attributes.get('alpha', 1.0))!r})"),
    "Softmax": lambda node: Softmax(node.where),
    "LogSoftmax": lambda node: Softmax(node.where),
}
