"""The layers of an ONNX model, as `pyfirstorder.interop.layers` has them.

Of the graph, what leads to the chosen output is cut wherever a single value carries all that follows.  Between two cuts
stands a node, or a few that together are an activation which exporters write out (`onnx_blocks`).  What is read is
compared with onnx's own evaluator.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

try:
    import onnx
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator
except ImportError as error:
    raise ImportError("onnx is not installed: pip install onnx") from error

import numpy as np

from pyfirstorder.interop.layers import Activation, Affine, Layer, Linear, Nothing, Softmax
from pyfirstorder.interop.onnx_blocks import block_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyfirstorder.problem import Array

_PLAIN = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softplus": "softplus", "Erf": "erf"}
_SHAPING = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
# What exporters compute the shape of a Reshape with, from sizes: no loop among them, and nothing that makes numbers.
_OF_SIZES = ("Shape", "Size")
_OF_TWO = ("Add", "Sub", "Mul", "Div", "Gather")
_OF_ONE = ("Cast", "Identity", "ReduceProd", "Slice", "Squeeze", "Unsqueeze")
_MOST_AXES, _LONGEST_SHAPE = 64, 4096  # numbers in a shape: of NumPy, and while it is computed


@dataclass(frozen=True)
class Node:
    """A node of the chain: its place and kind, its attributes, its constant inputs by position, its sample's shape."""

    where: str
    kind: str
    attributes: dict[str, Any]
    constants: dict[int, Array]
    shape: tuple[int, ...] | None

    def only_constant(self) -> tuple[int, Array]:
        """The constant beside the chain's value, and its position."""
        if len(self.constants) != 1:
            raise ValueError(f"{self.where}: expected one constant, got {len(self.constants)}")
        return next(iter(self.constants.items()))


def load(model: Any) -> Any:
    """An onnx.ModelProto, or that of the file at a path."""
    if isinstance(model, onnx.ModelProto):
        return model
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(f"model: expected a path or an onnx.ModelProto, got {type(model).__name__}")
    try:
        return onnx.load(os.fspath(model))
    except OSError:
        raise
    except Exception as error:  # protobuf's errors have no common class that is public
        raise ValueError(f"{model}: expected an .onnx file, got {error}") from error


class Graph:
    """What of a model leads from its one input to an output."""

    def __init__(self, model: Any, output: str | None) -> None:
        graph = model.graph
        self.model = model
        self.constants = {one.name: _numbers(one) for one in graph.initializer}
        inputs = [one for one in graph.input if one.name not in self.constants]
        if len(inputs) != 1:
            raise ValueError(f"model: expected one input, got {len(inputs)}")
        names = [one.name for one in graph.output]
        if output is None and len(names) != 1:
            raise ValueError(f"model: expected one output, got {', '.join(names)}; choose one with output=...")
        self.input, self.output = inputs[0], output or names[0]
        self.nodes = self._chained(_leading_to(graph, self.output, data_of))
        tensor = self.input.type.tensor_type
        sizes = [one.dim_value if one.HasField("dim_value") else 0 for one in tensor.shape.dim]
        self.rows = sizes[0] or None if sizes else None  # a fixed batch size
        self.sample = tuple(sizes[1:]) if len(sizes) > 1 and all(sizes[1:]) else None
        self.can_run = tensor.elem_type in _FLOATS and (self.sample is not None or len(sizes) <= 2)

    def _chained(self, nodes: list[tuple[int, Any]]) -> list[tuple[str, Any]]:
        """The nodes with their places; those of constants are taken out and their values kept."""
        kept = []
        for place, node in nodes:
            where = f"node {place} ({node.op_type}{f' {node.name!r}' if node.name else ''})"
            if node.domain not in ("", "ai.onnx"):
                raise ValueError(f"{where}: expected an operator of ONNX, got one of {node.domain}")
            if node.op_type == "Constant":
                self.constants[node.output[0]] = _constant_of(node)
            elif node.op_type == "Identity" and node.input[0] in self.constants:
                self.constants[node.output[0]] = self.constants[node.input[0]]
            else:
                kept.append((where, node))
        return kept

    def outputs(self, x: Array) -> Array:
        """The output for samples (B, d), by onnx's evaluator."""
        self._require_short_shapes()
        graph = helper.make_graph(
            [node for _, node in _leading_to(self.model.graph, self.output, inputs_of)],
            "part",
            [self.input],
            [helper.make_tensor_value_info(self.output, onnx.TensorProto.UNDEFINED, None)],
            self.model.graph.initializer,
        )
        part = helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)
        kind = helper.tensor_dtype_to_np_dtype(self.input.type.tensor_type.elem_type)
        shape = self.sample or x.shape[1:]
        if math.prod(shape) != x.shape[1]:
            raise ValueError(f"model: expected layers of {math.prod(shape)} inputs, as the model has, got {x.shape[1]}")
        rows = x.astype(kind).reshape(len(x), *shape)
        try:
            with np.errstate(all="ignore"):
                found = ReferenceEvaluator(part).run(None, {self.input.name: rows})[0]
        except Exception as error:  # whatever the evaluator raises, as of operands of two types
            said = str(error).strip().partition("\n")[0]
            raise ValueError(f"model: expected one that onnx can run, got {type(error).__name__}: {said}") from error
        return np.asarray(found, dtype=kind)  # it computes no more exactly than its inputs are

    def _require_short_shapes(self) -> None:
        """Refuse shapes whose computation may have no end, or take any amount of memory, before it is run."""
        sizes = {name: number.size for name, number in self.constants.items()}
        chain = {place for place, _ in _leading_to(self.model.graph, self.output, data_of)}
        for place, node in _leading_to(self.model.graph, self.output, inputs_of):
            if place in chain or all(name in sizes for name in node.output):
                continue
            size: float
            if node.op_type == "Constant":
                size = _constant_of(node).size
            elif node.op_type in _OF_SIZES:
                size = _MOST_AXES
            elif all(name in sizes for name in inputs_of(node)):
                size = _size_of_result(node.op_type, [sizes[name] for name in inputs_of(node)])
            else:
                size = math.inf
            if size > _LONGEST_SHAPE:
                raise ValueError(
                    f"node {place} ({node.op_type}): expected a shape of few numbers, computed from sizes by "
                    f"{', '.join((*_OF_SIZES, *_OF_TWO, *_OF_ONE))} and Concat"
                )
            sizes |= dict.fromkeys(node.output, int(size))

    def layers(self) -> Iterator[Layer]:
        """The layers between the values that carry all that follows."""
        value, shape, block = self.input.name, self.sample, []
        for at, (where, node) in enumerate(self.nodes):
            block.append((where, node))
            if not self._is_cut(at, node.output[0]):
                continue
            if len(block) > 1 or list(node.input).count(value) > 1:
                yield from block_layers(self.model, block, value, self.constants)
            else:
                constants = {i: self.constants[name] for i, name in enumerate(node.input) if name in self.constants}
                attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
                yield _layer(Node(where, node.op_type, attributes, constants, shape))
            if node.op_type in (*_SHAPING, "Gemm", "MatMul"):
                shape = None
            value, block = node.output[0], []

    def _is_cut(self, at: int, value: str) -> bool:
        """Whether all that follows needs of the nodes so far is this value."""
        before = {name for _, node in self.nodes[: at + 1] for name in node.output} | {self.input.name}
        after = {name for _, node in self.nodes[at + 1 :] for name in data_of(node)} | {self.output}
        return before & after == {value}


def _layer(node: Node) -> Layer:
    if node.kind in _PLAIN:
        return Activation(node.where, _PLAIN[node.kind])
    if node.kind not in _READERS:
        raise ValueError(f"{node.where}: expected Gemm, MatMul, Add, an activation, Flatten or a normalisation")
    layer = _READERS[node.kind](node)
    if isinstance(layer, Affine) and layer.shape is None:
        number = max(layer.gain, layer.shift, key=np.size)
        if number.size > 1 and number.size != max(number.shape):
            raise ValueError(f"{node.where}: expected an input of known shape, so that its constants can be placed")
    return layer


def _leading_to(graph: Any, output: str, inputs: Callable[[Any], list[str]]) -> list[tuple[int, Any]]:
    """The nodes that a value needs, with their places, in the graph's order."""
    made = {name: place for place, node in enumerate(graph.node) for name in node.output}
    if output not in made:
        raise ValueError(f"output: expected the name of a value that a node computes, got {output!r}")
    needed: set[int] = set()
    waiting = [output]
    while waiting:
        place = made.get(waiting.pop())
        if place is not None and place not in needed:
            needed.add(place)
            waiting += inputs(graph.node[place])
    return [(place, graph.node[place]) for place in sorted(needed)]


def _numbers(tensor: Any) -> Array:
    try:
        return numpy_helper.to_array(tensor)
    except (KeyError, TypeError) as error:  # of a type that onnx does not know, or has no numbers for
        raise ValueError(f"constant {tensor.name!r}: expected numbers, got data type {tensor.data_type}") from error


def _constant_of(node: Any) -> Array:
    (attribute,) = node.attribute
    value = helper.get_attribute_value(attribute)
    return _numbers(value) if attribute.name == "value" else np.asarray(value)


def _size_of_result(kind: str, sizes: list[int]) -> float:
    """At most so many numbers come of inputs of so many; infinitely many, where the kind of node is none of shapes."""
    if kind == "Concat":
        return sum(sizes)
    if kind in _OF_TWO:
        return math.prod(sizes)
    return sizes[0] if kind in _OF_ONE and sizes else math.inf


def inputs_of(node: Any) -> list[str]:
    """The names of a node's inputs."""
    return [name for name in node.input if name]


def data_of(node: Any) -> list[str]:
    """The inputs that a node's numbers come from; the shape of a Reshape may be computed, too, but is none."""
    return inputs_of(node)[:1] if node.op_type in (*_SHAPING, "Dropout") else inputs_of(node)


# ------------------------------------------------------------------ kinds of nodes


def _gemm(node: Node) -> Linear:
    if node.attributes.get("transA", 0) or 1 not in node.constants:
        raise ValueError(f"{node.where}: expected x times a constant matrix")
    weight = node.constants[1] if node.attributes.get("transB", 0) else node.constants[1].T
    bias = node.constants.get(2)
    alpha, beta = (node.attributes.get(name, 1.0) for name in ("alpha", "beta"))
    if weight.ndim != 2:
        raise ValueError(f"{node.where}: expected x times a constant matrix, got shape {weight.shape}")
    weight = weight if alpha == 1 else (weight * alpha).astype(weight.dtype)
    if bias is not None:
        if bias.ndim > 2 or bias.size not in (1, len(weight)) or (bias.ndim == 2 and len(bias) != 1):
            raise ValueError(f"{node.where}: expected 1 or {len(weight)} biases, got shape {bias.shape}")
        bias = np.broadcast_to(bias if beta == 1 else (bias * beta).astype(bias.dtype), (1, len(weight))).reshape(-1)
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
        return Affine(node.where, one, number, node.shape)
    if node.kind == "Mul":
        return Affine(node.where, number, zero, node.shape)
    if node.kind == "Sub":
        gain, shift = (one, -number) if at == 1 else (-one, number)
        return Affine(node.where, gain, shift, node.shape)
    if at != 1:
        raise ValueError(f"{node.where}: expected a constant divisor")
    return Affine(node.where, 1 / number, zero, node.shape)


def _nothing(node: Node) -> Nothing:
    if node.kind == "Flatten" and node.attributes.get("axis", 1) != 1:
        raise ValueError(f"{node.where}: expected axis=1, so that samples stay apart, got {node.attributes['axis']}")
    if node.kind == "Cast" and node.attributes["to"] not in _FLOATS:
        raise ValueError(f"{node.where}: expected a cast to float32 or float64")
    if node.kind == "Dropout" and node.constants.get(2, np.False_).any():
        raise ValueError(f"{node.where}: is random in training mode; export the model for inference")
    return Nothing(node.where)


def _softmax(node: Node) -> Softmax:
    if node.attributes.get("axis", -1) not in (1, -1):
        raise ValueError(f"{node.where}: expected probabilities of a sample, axis=1, got {node.attributes['axis']}")
    return Softmax(node.where, node.kind == "LogSoftmax")


def _gelu(node: Node) -> Activation:
    approximate = node.attributes.get("approximate", b"none")
    return Activation(node.where, "gelu_tanh" if approximate == b"tanh" else "gelu")


_READERS: dict[str, Callable[[Node], Layer]] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    **dict.fromkeys((*_SHAPING, "Identity", "Dropout", "Cast"), _nothing),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    "Gelu": _gelu,
    "LeakyRelu": lambda node: Activation(node.where, f"leaky_relu({float(node.attributes.get('alpha', 0.01))!r})"),
    "Elu": lambda node: Activation(node.where, f"elu({float(node.attributes.get('alpha', 1.0))!r})"),
}
