"""Networks that were read have the gradients of the models they were read from, by central differences of those."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pyfirstorder as fo
from pyfirstorder.interop import models

D, M, K, STEP = 6, 9, 3, 1e-5
RNG = np.random.default_rng(0)
W, B, A, C = RNG.standard_normal((M, D)), RNG.standard_normal(M), RNG.standard_normal((K, M)), RNG.standard_normal(K)
X, V = RNG.standard_normal((5, D)), RNG.standard_normal((5, K))


def sklearn() -> tuple[fo.TwoLayerNetwork, Any]:
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    mlp = MLPRegressor(hidden_layer_sizes=(M,), activation="tanh", max_iter=3, random_state=0)
    model = make_pipeline(StandardScaler(), mlp).fit(RNG.standard_normal((40, D)), RNG.standard_normal((40, K)))
    return models.from_sklearn(model), model.predict


def onnx() -> tuple[fo.TwoLayerNetwork, Any]:
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    nodes = [
        helper.make_node("Gemm", ["x", "W", "b"], ["h"], transB=1),
        helper.make_node("Tanh", ["h"], ["s"]),
        helper.make_node("Gemm", ["s", "A", "c"], ["z"], transB=1),
    ]
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, ["batch", k]) for n, k in (("x", D), ("z", K))]
    weights = [numpy_helper.from_array(part, name) for part, name in ((W, "W"), (B, "b"), (A, "A"), (C, "c"))]
    model = helper.make_model(helper.make_graph(nodes, "mlp", ends[:1], ends[1:], weights))
    return models.from_onnx(model), lambda x: ReferenceEvaluator(model).run(None, {"x": x})[0]


def safetensors(path: Any) -> tuple[fo.TwoLayerNetwork, Any]:
    save = pytest.importorskip("safetensors.numpy", reason="needs safetensors").save_file
    save({"fc1.weight": W, "fc1.bias": B, "fc2.weight": A, "fc2.bias": C}, path / "net.safetensors")
    net = models.from_safetensors(path / "net.safetensors", activation="tanh")
    return net, lambda x: np.tanh(x @ W.T + B) @ A.T + C


@pytest.mark.filterwarnings("ignore")  # frameworks warn while they are imported
@pytest.mark.parametrize("read", [sklearn, onnx, safetensors])
def test_the_gradient_is_that_of_the_model(read, tmp_path):
    net, outputs = read(tmp_path) if read is safetensors else read()
    value, gradient = fo.input_gradient(net, X, V, loss="linear")
    np.testing.assert_allclose(value, np.sum(V * outputs(X), axis=1), rtol=1e-9)
    for j in range(D):
        ahead, behind = X + STEP * np.eye(D)[j], X - STEP * np.eye(D)[j]
        difference = np.sum(V * (outputs(ahead) - outputs(behind)), axis=1) / (2 * STEP)
        np.testing.assert_allclose(gradient[:, j], difference, rtol=1e-6, atol=1e-8)


@pytest.mark.filterwarnings("ignore")
def test_the_gradient_is_that_of_a_keras_model():
    torch = pytest.importorskip("torch", reason="needs torch")
    keras = pytest.importorskip("keras", reason="needs Keras")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras does not compute with torch here")
    model = keras.Sequential([keras.Input((D,)), keras.layers.Dense(M, "tanh"), keras.layers.Dense(K)])
    x = torch.tensor(X, dtype=torch.float32, requires_grad=True)
    (expected,) = torch.autograd.grad((torch.tensor(V, dtype=torch.float32) * model(x)).sum(), x)
    _, gradient = fo.input_gradient(models.from_keras(model), X.astype(np.float32), V.astype(np.float32), loss="linear")
    np.testing.assert_allclose(gradient, expected.numpy(), rtol=1e-5, atol=1e-6)
