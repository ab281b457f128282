"""Files as a stranger may send them: whole ones, changed ones and invented ones, for every reader of the library.

A reader gives the network or the data set that stands in the file (`fuzz.contents`), or raises a TypeError, a
ValueError or an OSError with a message.  Nothing else: no other kind of error, no numbers but the file's, no code of
the file's that runs, no memory that the file only claims.
"""

from __future__ import annotations

import io
import json
import struct
import tempfile
import warnings
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz import contents
from fuzz.choices import Choices

import pyfirstorder as fo
from pyfirstorder import datasets

FOLDER = Path(tempfile.mkdtemp(prefix="hostile-files-"))
KINDS = ("network.npz", "data.npz", "data.npy", "network.safetensors", "network.onnx")
_SIZES = (0, 1, 2, 3, 2**16, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64, -1)
_SHAPES = (
    "(3, 2)",
    "()",
    "(2,)",
    "(0, 2)",
    "3",
    "(3, 2",
    "(-1, 2)",
    "(True, 2)",
    "None",
    "(3.0, 2)",
    "('a',)",
    "[3, 2]",
)
_TYPES = (
    "<f4",
    "<f8",
    ">f4",
    "|O",
    "|V0",
    "<U0",
    "|S0",
    "<f2",
    "<i8",
    "<M8[s]",
    "f4,f4",
    "(3,)<f4",
    "(1073741824,)<f8",
)


@cache
def _network() -> fo.TwoLayerNetwork:
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal(shape).astype("f4") for shape in ((3, 2), (2, 3), 3, 2)]
    return fo.TwoLayerNetwork(*parts, "leaky_relu(0.2)")


@cache
def whole(kind: str) -> bytes:
    """A file that is right."""
    path = FOLDER / f"whole-{kind}"
    if kind == "network.npz":
        _network().save(path)
    elif kind == "data.npz":
        np.savez(path, x=np.arange(7, 247, 40, np.uint8).reshape(3, 2), y=np.arange(3))
    elif kind == "data.npy":
        np.save(path, np.linspace(-1, 2, 6, dtype=np.float32).reshape(3, 2))
    elif kind == "network.safetensors":
        from safetensors.numpy import save_file

        net = _network()
        tensors = {"fc1.weight": net.hidden_weight, "fc1.bias": net.hidden_bias, "fc2.weight": net.output_weight}
        save_file({name: np.array(part) for name, part in tensors.items()}, path, {"activation": "relu"})
    else:
        path.write_bytes(_onnx(("Gemm", "Relu", "Gemm")).SerializeToString())
    return path.read_bytes()


def _onnx(kinds: tuple[str, ...], shape: tuple[int, ...] = (3, 2), declared: int = 0) -> Any:
    """A chain of nodes whose constants are what each kind needs."""
    import onnx
    from onnx import helper, numpy_helper

    sizes = [2, 3, 2, 2, 2, 2, 2, 2]
    nodes, constants, value, linear = [], [], "x", 0
    for i, kind in enumerate(kinds):
        inputs = [value]
        if kind in ("Gemm", "MatMul"):
            weight = np.random.default_rng(i).standard_normal((sizes[linear + 1], sizes[linear])).astype(np.float32)
            constants.append(numpy_helper.from_array(weight.T.copy() if kind == "MatMul" else weight, f"w{i}"))
            linear = min(linear + 1, 6)
            inputs.append(f"w{i}")
        elif kind in ("Add", "Mul", "Sub", "Div", "Pow", "Reshape", "Expand", "Tile", "Gather", "Slice", "Where"):
            is_shape = kind in ("Reshape", "Expand", "Tile", "Gather", "Slice")
            numbers = (
                np.array([max(-(2**63), min(declared or -1, 2**63 - 1)), 2], np.int64) if is_shape else np.float32(2)
            )
            constants.append(numpy_helper.from_array(np.asarray(numbers), f"c{i}"))
            inputs.append(f"c{i}")
        value = f"v{i}"
        attributes = {"transB": 1} if kind == "Gemm" else {"to": 1} if kind == "Cast" else {}
        nodes.append(helper.make_node(kind, inputs, [value], **attributes))
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None)],
        constants,
    )
    if declared and graph.initializer and graph.initializer[0].dims:
        graph.initializer[0].dims[0] = max(-(2**63), min(declared, 2**63 - 1))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


_OPERATORS = (
    *("Gemm", "Relu", "MatMul", "Add", "Mul", "Sub", "Div", "Pow", "Reshape", "Flatten", "Identity", "Dropout", "Cast"),
    *("Softmax", "LogSoftmax", "Gelu", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "Erf", "Softplus", "Expand", "Tile"),
    *("Constant", "ConstantOfShape", "Shape", "Gather", "Slice", "Where", "Loop", "If", "Scan", "RandomNormal", "Exp"),
)


def _invented(choices: Choices, kind: str) -> bytes:
    if kind == "network.onnx":
        chain = tuple(choices.one_of(_OPERATORS) for _ in range(1 + choices.below(7)))
        return _onnx(chain, declared=choices.one_of(_SIZES)).SerializeToString()
    if kind == "network.safetensors":
        end = choices.one_of(_SIZES)
        entry = {
            "dtype": choices.one_of(("F32", "F64", "BF16", "I64", "X", "F8_E4M3")),
            "shape": [choices.one_of(_SIZES), 2],
        }
        entry["data_offsets"] = [choices.one_of((0, 4, -1)), end]
        header = json.dumps({choices.one_of(("fc1.weight", "a.b", "__metadata__", "..")): entry}).encode()
        return struct.pack("<Q", choices.one_of((len(header), *_SIZES[:-1])) % 2**64) + header + choices.rest()
    array = _invented_npy(choices)
    if kind == "data.npy":
        return array
    stream = io.BytesIO()
    method = choices.one_of((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as archive:
        warnings.simplefilter("ignore")  # of names that come twice
        for name in ("x", "y") if kind == "data.npz" else ("hidden_weight", "output_weight", "activation"):
            place = choices.one_of((f"{name}.npy", f"{name}.npy", name, f"../{name}.npy", f"/{name}.npy", "x.npy"))
            archive.writestr(place, choices.one_of((array, whole("data.npy"), b"", array[:40])))
    return stream.getvalue()


def _invented_npy(choices: Choices) -> bytes:
    sizes = f"({choices.one_of(_SIZES)}, {choices.one_of(_SIZES)})"
    shape = choices.one_of((sizes, *_SHAPES))
    order = choices.one_of(("False", "True", "None", "7"))
    header = f"{{'descr': {choices.one_of(_TYPES)!r}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    if choices.below(8) == 7:
        header = choices.one_of((b"(" * 5000, b"[" * 9000, b"{" * 50 + header, b"1" * 9000, header * 300, b"\xff\x00"))
    version = choices.one_of((1, 2, 3, 4))
    length = choices.one_of((len(header), 0, 65535)) if choices.below(8) == 7 else len(header)
    size = struct.pack("<H", min(length, 65535)) if version == 1 else struct.pack("<I", length)
    return b"\x93NUMPY" + bytes((version, 0)) + size + header + choices.some(choices.one_of((24, 0, 48)))


def _changed(choices: Choices, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(1 + choices.below(6)):
        at, how = choices.below(max(1, len(changed))), choices.below(6)
        if how == 0:
            changed[at : at + 1] = choices.some(1)
        elif how == 1:
            del changed[at:]
        elif how == 2:
            del changed[at : at + 1 + choices.below(16)]
        elif how == 3:
            changed[at:at] = choices.some(1 + choices.below(16))
        elif how == 4:
            number = struct.pack("<q", choices.one_of(_SIZES[:-3]))
            changed[at : at + 8] = number[: choices.one_of((8, 4, 2))]
        else:
            other = choices.below(max(1, len(changed)))
            changed[at : at + 16] = changed[other : other + 16]
    return bytes(changed)


def decode(data: bytes) -> tuple[str, bytes]:
    """The kind of a file and what it holds."""
    choices = Choices(data)
    kind = choices.one_of(KINDS)
    how = choices.below(4)
    if how == 0:
        return kind, whole(kind)
    if how == 1:
        return kind, _invented(choices, kind)
    if how == 2:
        return kind, choices.one_of((b"", b"PK\x03\x04", b"\x93NUMPY", b"\x80\x04", b"\x08\x08")) + choices.rest()
    return kind, _changed(choices, whole(kind))


def check(data: bytes) -> str:
    """Read the file; "refused" or "answered"."""
    kind, content = decode(data)
    path = FOLDER / f"hostile.{kind.rpartition('.')[2]}"
    path.write_bytes(content)
    return check_file(kind, path)


def check_file(kind: str, path: Path) -> str:
    """Read a file of a kind."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            _use(kind, path)
            return "answered"
        except (TypeError, ValueError, OSError) as refused:
            error = refused
    assert str(error), f"{type(error).__name__} without a word"
    return "refused"


def _use(kind: str, path: Path) -> None:
    content = path.read_bytes()
    if kind.startswith("network"):
        net = fo.load_network(path)
        contents.require_network(net, kind, content)
        output = fo.forward(net, np.zeros((2, net.in_features), net.dtype))
        assert output.shape == ((2,) if net.scalar_output else (2, net.out_features))
        return
    labels = None
    if kind == "data.npy":
        labels = FOLDER / "labels.npy"
        np.save(labels, np.arange(3))
    data = datasets.load(path, labels)
    x, y = data.block(0, min(len(data), 10))
    contents.require_data(x, y, kind, content, np.arange(3))
    assert len(x) == len(y)
    assert x.dtype == np.float32
    data.describe()
