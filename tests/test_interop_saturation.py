"""Models that differ from the network that was read only where their numbers are large, and those that do not."""

from __future__ import annotations

import os

import numpy as np
import pytest

import pyfirstorder as fo
from pyfirstorder.interop import models

os.environ.setdefault("KERAS_BACKEND", "torch")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:keras")
RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 8)).astype(np.float32)


def own_module(activation, m=16, end=lambda z: z, double=False):
    torch = pytest.importorskip("torch", reason="needs torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.output = torch.nn.Linear(8, m), torch.nn.Linear(m, 3)

        def forward(self, x):
            return end(self.output(activation(self.hidden(x))))

    torch.manual_seed(0)
    module = Net()
    return module.double() if double else module


@pytest.mark.parametrize("m", [16, 64])
def test_an_activation_with_an_upper_bound_is_no_relu(m):
    with pytest.raises(ValueError, match="with relu, but its outputs on random samples differ"):
        models.from_torch(own_module(lambda h: h.clamp(0, 6), m), activation="relu")


def test_bounds_of_the_outputs_are_found():
    with pytest.raises(ValueError, match="outputs on random samples differ"):
        models.from_torch(own_module(lambda h: h.relu(), end=lambda z: z.clamp(-10, 10)), activation="relu")


def test_large_biases_do_not_hide_a_kink():
    torch = pytest.importorskip("torch", reason="needs torch")
    module = own_module(lambda h: torch.where(h > 0, h, 0.1 * h))
    torch.nn.init.constant_(module.hidden.bias, 20.0)
    with pytest.raises(ValueError, match="with identity, but its outputs on random samples differ"):
        models.from_torch(module, activation="identity")
    assert models.from_torch(module, activation="leaky_relu(0.1)").activation == "leaky_relu(0.1)"


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("activation", ["relu", "elu", "softplus", "sigmoid", "tanh", "gelu", "silu", "quadratic"])
def test_rounding_of_large_numbers_is_no_difference(activation, double):
    torch = pytest.importorskip("torch", reason="needs torch")
    function = torch.square if activation == "quadratic" else getattr(torch.nn.functional, activation)
    assert models.from_torch(own_module(function, 256, double=double), activation=activation).hidden_features == 256


def test_a_formula_that_overflows_at_large_numbers_is_read_by_the_others():
    torch = pytest.importorskip("torch", reason="needs torch")
    formula = lambda h: torch.log(1 + torch.exp(h))  # noqa: E731
    assert models.from_torch(own_module(formula), activation="softplus").activation.startswith("softplus")
    with pytest.raises(ValueError, match="outputs on random samples differ"):
        models.from_torch(own_module(lambda h: formula(1.01 * h)), activation="softplus")
    with pytest.raises(ValueError, match="it has no finite outputs on random samples"):
        models.from_torch(own_module(lambda h: h * float("nan")), activation="softplus")


def test_an_activation_of_keras_that_was_overridden_is_found():
    keras = pytest.importorskip("keras", reason="needs keras")

    class Activation(keras.layers.Activation):
        def call(self, x):
            return keras.ops.minimum(super().call(x), 6.0)

    dense = keras.layers.Dense
    with pytest.raises(ValueError, match="with relu, but its outputs on random samples differ"):
        models.from_keras(keras.Sequential([keras.Input((8,)), dense(16), Activation("relu"), dense(3)]))


def test_layers_of_keras_in_float64_behind_a_float32_input_are_read():
    keras = pytest.importorskip("keras", reason="needs keras")
    dense = keras.layers.Dense
    layers = [dense(16, activation="relu", dtype="float64"), dense(3, dtype="float64")]
    model = keras.Sequential([keras.Input((8,)), *layers])
    net = models.from_keras(model)
    assert net.dtype == np.float64
    theirs = keras.ops.convert_to_numpy(model(X))  # Keras casts on the way
    np.testing.assert_allclose(fo.forward(net, X.astype(np.float64)), theirs, rtol=1e-5, atol=1e-6)


def onnx_model(nodes, shape=("batch", 8), **arrays):
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    helper = onnx.helper
    rng = np.random.default_rng(1)
    arrays = {"w": rng.standard_normal((8, 16)), "b": rng.random(16), "a": rng.standard_normal((16, 3))} | arrays
    numbers = {name: part if part.dtype == int else part.astype(np.float32) for name, part in arrays.items()}
    graph = helper.make_graph(
        [helper.make_node(*node) for node in nodes],
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("z", onnx.TensorProto.UNDEFINED, None)],
        [onnx.numpy_helper.from_array(part, name) for name, part in numbers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


BOUNDED = [("Relu", ["h"], ["r"]), ("Greater", ["h", "t"], ["g"]), ("Where", ["g", "t", "r"], ["s"])]
FIRST, LAST = ("Gemm", ["x", "w", "b"], ["h"]), ("MatMul", ["s", "a"], ["z"])
SHAPES = {"can be run": ("batch", 8), "cannot be run": ("batch", 2, "width")}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("bound", [13.0, 900.0])
def test_nodes_with_a_bound_beyond_the_usual_numbers_are_no_relu(shape, bound):
    model = onnx_model([FIRST, *BOUNDED, LAST], shape, t=np.asarray(bound))
    with pytest.raises(ValueError, match=r"\(Relu, Greater, Where\) that are no activation known here"):
        models.from_onnx(model)


def test_nodes_whose_formula_overflows_are_read_as_what_they_compute_elsewhere():
    e = [("Neg", ["h"], ["n"]), ("Exp", ["n"], ["e"]), ("Add", ["e", "one"], ["q"])]
    silu = [*e, ("Div", ["h", "q"], ["s"])]
    assert models.from_onnx(onnx_model([FIRST, *silu, LAST], one=np.ones(()))).activation == "silu"
    rising = [
        ("Exp", ["h"], ["e"]),
        ("Add", ["e", "one"], ["q"]),
        ("Div", ["e", "q"], ["p"]),
        ("Mul", ["h", "p"], ["s"]),
    ]
    assert models.from_onnx(onnx_model([FIRST, *rising, LAST], one=np.ones(()))).activation == "silu"


@pytest.mark.parametrize("shape", [(7,), (4, 16), (16, 1), (1, 1, 16)])
def test_biases_of_a_node_that_do_not_fit_are_refused_by_the_node(shape):
    model = onnx_model([FIRST, ("Relu", ["h"], ["s"]), LAST], b=np.ones(shape))
    with pytest.raises(ValueError, match=r"node 0 \(Gemm\): expected 1 or 16 biases, got shape"):
        models.from_onnx(model)


def test_a_model_that_onnx_cannot_run_is_refused_with_what_it_says():
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    model = onnx_model([("MatMul", ["x", "w"], ["h"]), ("Relu", ["h"], ["s"]), LAST])
    double = onnx.numpy_helper.from_array(np.ones((8, 16)), "w")
    model.graph.initializer[0].CopyFrom(double)
    with pytest.raises(ValueError, match=r"model: expected one that onnx can run, got RuntimeTypeError: .* float64"):
        models.from_onnx(model)


def test_samples_that_a_model_cuts_into_several_are_refused():
    cut = [("Reshape", ["x", "r"], ["y"]), ("MatMul", ["y", "w"], ["h"]), ("Relu", ["h"], ["s"]), LAST]
    with pytest.raises(ValueError, match="model: expected layers of 8 inputs, as the model has, got 4"):
        models.from_onnx(onnx_model(cut, w=np.ones((4, 16)), r=np.array([-1, 4])))
    keras = pytest.importorskip("keras", reason="needs keras")
    layers = [keras.layers.Reshape((2, 4)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)]
    with pytest.raises(ValueError, match=r"layer 1 \(Dense .*\): expected flat samples, got shape \(2, 4\); put a Fl"):
        models.from_keras(keras.Sequential([keras.Input((8,)), *layers]))
