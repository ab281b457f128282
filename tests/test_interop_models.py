"""Models of other libraries: what is read computes the same, what is no two-layer network is refused by its layer."""

from __future__ import annotations

import os

import numpy as np
import pytest

import pyfirstorder as fo
from pyfirstorder.interop import models
from pyfirstorder.interop.layers import Activation, Affine, Linear, Nothing, Softmax, assemble

os.environ.setdefault("KERAS_BACKEND", "torch")
D, M, K = 12, 7, 3
X = np.random.default_rng(0).standard_normal((9, D)).astype(np.float32)


def agree(net: fo.TwoLayerNetwork, theirs: np.ndarray, x: np.ndarray = X) -> None:
    ours = fo.forward(net, x).reshape(theirs.shape)
    np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)


def parts(dtype=np.float32):
    rng = np.random.default_rng(1)
    shapes = ((M, D), (M,), (K, M), (K,))
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


# ------------------------------------------------------------------ lists of layers


def layer_list(*names):
    w, b, a, c = parts()
    known = {
        "W": Linear("layer W", w, b),
        "A": Linear("layer A", a, c),
        "σ": Activation("layer σ", "tanh"),
        "·": Nothing("layer ·"),
        "softmax": Softmax("layer softmax"),
    }
    return [known[name] for name in names]


@pytest.mark.parametrize("names", ["WσA", "·W·σ··A·"])
def test_what_does_nothing_is_left_out(names):
    w, b, a, c = parts()
    np.testing.assert_array_equal(
        fo.forward(assemble(layer_list(*names)), X), fo.forward(fo.TwoLayerNetwork(w, a, b, c, "tanh"), X)
    )


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        ("WA", r"layer A: expected an activation after the first linear layer"),
        ("σWσA", r"layer σ: expected the first linear layer"),
        ("WσσA", r"layer σ: expected the second linear layer"),
        ("WσAσ", r"layer σ: expected no more layers"),
        ("WσAA", r"layer A: expected two linear layers, got 3"),
        ("WσAσAσA", r"layer σ: expected two linear layers, got 4"),
        ("Wσ", r"after layer σ: expected the second linear layer, got the end of the model"),
        ("", r"after the end: expected the first linear layer"),
        (["W", "σ", "A", "softmax"], r"layer softmax: a network of probabilities .* drop_softmax=True"),
        (["W", "softmax", "A"], r"layer softmax: expected an activation after the first linear layer"),
    ],
)
def test_the_first_layer_that_does_not_fit_is_named(names, pattern):
    with pytest.raises(ValueError, match=pattern):
        assemble(layer_list(*names))


def test_affine_maps_are_folded_in_wherever_they_stand():
    w, b, a, _ = parts(np.float64)
    rng = np.random.default_rng(2)
    maps = [(rng.random(n) + 0.5, rng.standard_normal(n)) for n in (D, 3, M, M, K)]
    listed = [Affine(f"map {place}", *one) for place, one in enumerate(maps)]
    listed[1] = Affine("channels", *(part[:, None] for part in maps[1]))
    net = assemble(
        [*listed[:2], Linear("W", w, b), listed[2], Activation("σ", "gelu"), listed[3], Linear("A", a, None), listed[4]]
    )
    x = X.astype(np.float64)
    gain, shift = np.repeat(maps[1][0], 4), np.repeat(maps[1][1], 4)
    h = (maps[2][0] * (((maps[0][0] * x + maps[0][1]) * gain + shift) @ w.T + b)) + maps[2][1]
    plain = fo.TwoLayerNetwork(np.eye(M), a, activation="gelu")
    hidden = fo.forward(fo.TwoLayerNetwork(np.eye(M), np.eye(M), activation="gelu"), h)
    expected = (
        maps[4][0]
        * fo.forward(fo.TwoLayerNetwork(np.eye(M), a, activation="identity"), maps[3][0] * hidden + maps[3][1])
        + maps[4][1]
    )
    assert plain.out_features == K
    np.testing.assert_allclose(fo.forward(net, x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float16, np.int64])
def test_weights_of_other_types_are_refused(dtype):
    w, b, a, c = parts()
    with pytest.raises(TypeError, match=r"the first: expected weights of float32 or float64"):
        assemble([Linear("the first", w.astype(dtype), b), Activation("σ", "relu"), Linear("A", a, c)])


def test_a_normalisation_is_folded_per_number_channel_and_coordinate():
    w, b, a, c = parts(np.float64)
    net, x = fo.TwoLayerNetwork(w, a, b, c), X.astype(np.float64)
    rng = np.random.default_rng(3)
    for shape, spread in (((), 1), ((3,), 4), ((12,), 1)):
        mean, std = rng.random(shape), rng.random(shape) + 0.5
        expected = fo.forward(net, (x - np.repeat(mean, spread)) / np.repeat(std, spread))
        np.testing.assert_allclose(fo.forward(models.normalized(net, mean, std), x), expected, rtol=1e-9)
    with pytest.raises(ValueError, match="std: expected positive numbers"):
        models.normalized(net, 0.0, [1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="expected 1, 12 or a divisor of 12 numbers, got 5"):
        models.normalized(net, np.zeros(5), np.ones(5))


# ------------------------------------------------------------------ torch


def torch_modules():
    from torch import nn

    class Normalize(nn.Module):
        def __init__(self):
            super().__init__()
            import torch

            self.mean, self.std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.25, 2.0])

        def forward(self, x):
            return (x.reshape(-1, 3, 4) - self.mean[:, None]) / self.std[:, None]

    pair = lambda activation: (nn.Linear(D, M), activation, nn.Linear(M, K))  # noqa: E731
    return {
        "relu": nn.Sequential(*pair(nn.ReLU())),
        "leaky": nn.Sequential(*pair(nn.LeakyReLU(0.3))),
        "elu": nn.Sequential(*pair(nn.ELU(0.7))),
        "softplus": nn.Sequential(*pair(nn.Softplus(3))),
        "sigmoid": nn.Sequential(*pair(nn.Sigmoid())),
        "tanh": nn.Sequential(*pair(nn.Tanh())),
        "gelu": nn.Sequential(*pair(nn.GELU())),
        "gelu tanh": nn.Sequential(*pair(nn.GELU(approximate="tanh"))),
        "silu": nn.Sequential(*pair(nn.SiLU())),
        "nested": nn.Sequential(nn.Flatten(), nn.Sequential(*pair(nn.ReLU())), nn.Identity()),
        "no bias": nn.Sequential(nn.Linear(D, M, bias=False), nn.ReLU(), nn.Linear(M, K, bias=False)),
        "dropout": nn.Sequential(nn.Linear(D, M), nn.ReLU(), nn.Dropout(0.5), nn.Linear(M, K)).eval(),
        "normalised": nn.Sequential(Normalize(), nn.Flatten(), *pair(nn.ReLU())),
        "batch norm": nn.Sequential(nn.BatchNorm1d(D), nn.Linear(D, M), nn.BatchNorm1d(M), nn.ReLU(), nn.Linear(M, K)),
        "double": nn.Sequential(*pair(nn.Tanh())).double(),
    }


MODULES = (
    *("relu", "leaky", "elu", "softplus", "sigmoid", "tanh", "gelu", "gelu tanh", "silu"),
    *("nested", "no bias", "dropout", "normalised", "batch norm", "double"),
)


@pytest.mark.parametrize("name", MODULES)
def test_torch_modules_are_read_with_outputs_and_gradients(name):
    torch = pytest.importorskip("torch", reason="needs torch")
    torch.manual_seed(0)
    module = torch_modules()[name]
    if name == "batch norm":
        module(torch.randn(50, D))  # running statistics
        module.eval()
    x = torch.from_numpy(X).to(next(module.parameters()).dtype).requires_grad_()
    net = models.from_torch(module)
    output = module(x)
    agree(net, output.detach().numpy(), x.detach().numpy())
    y = torch.arange(len(x)) % K
    (theirs,) = torch.autograd.grad(torch.nn.functional.cross_entropy(output, y, reduction="sum"), x)
    _, ours = fo.input_gradient(net, x.detach(), y)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_torch_modules_of_another_shape_are_refused():
    torch = pytest.importorskip("torch", reason="needs torch")
    from torch import nn

    conv = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    deep = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    random = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2))
    batch = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    soft = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), nn.Softmax(1))
    for module, pattern in (
        (conv, r"layer 0 \(Conv2d\): expected Linear"),
        (deep, r"layer 3 \(ReLU\): expected two linear layers, got 3"),
        (random, r"layer 2 \(Dropout\): is random in training mode; call module\.eval\(\)"),
        (batch, r"layer 0 \(BatchNorm1d\): depends on the batch in training mode"),
        (soft, r"layer 3 \(Softmax\): a network of probabilities"),
        (nn.Linear(4, 2), r"module: expected a Sequential .* got Linear"),
        (nn.Sequential(nn.Linear(4, 4), nn.Mish(), nn.Linear(4, 2)), r"layer 1 \(Mish\)"),
    ):
        with pytest.raises(ValueError, match=pattern):
            models.from_torch(module)
    with pytest.raises(
        TypeError, match=r"layer 0 \(Linear\): expected weights of float32 or float64, got torch\.float16"
    ):
        models.from_torch(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).half())
    with pytest.raises(TypeError, match=r"module: expected a torch\.nn\.Module, got dict"):
        models.from_torch({})
    x = torch.randn(5, 4)
    torch.testing.assert_close(
        fo.forward(models.from_torch(soft, drop_softmax=True), x), soft[:3](x).detach(), rtol=1e-4, atol=1e-5
    )


def test_a_module_with_a_forward_of_its_own_is_compared_with_what_was_read():
    torch = pytest.importorskip("torch", reason="needs torch")

    class Net(torch.nn.Module):
        def __init__(self, scale=1.0):
            super().__init__()
            self.fc1, self.fc2, self.scale = torch.nn.Linear(D, M), torch.nn.Linear(M, K), scale

        def forward(self, x):
            return self.fc2(torch.relu(self.scale * self.fc1(x)))

    module = Net()
    agree(models.from_torch(module, activation="relu"), module(torch.from_numpy(X)).detach().numpy())
    with pytest.raises(ValueError, match=r"module\.fc1, .* module\.fc2\) .* activation=.relu"):
        models.from_torch(module)
    for wrong, activation in ((Net(), "tanh"), (Net(2.0), "relu")):
        with pytest.raises(ValueError, match=r"expected Net to compute .* its outputs on random samples differ"):
            models.from_torch(wrong, activation=activation)
    with pytest.raises(ValueError, match=r"module: expected two Linear layers, got 1 in Linear"):
        models.from_torch(torch.nn.Linear(3, 3), activation="relu")


def test_our_own_module_is_read():
    pytest.importorskip("torch", reason="needs torch")
    from pyfirstorder.interop.torch import TwoLayer

    module = TwoLayer(D, M, K, "silu")
    agree(models.from_torch(module), fo.forward(module.network(), X))


# ------------------------------------------------------------------ scikit-learn


def sklearn_data(classes):
    rng = np.random.default_rng(4)
    return rng.standard_normal((60, D)), rng.integers(0, classes, 60)


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("scaler", [None, "StandardScaler", "MinMaxScaler", "MaxAbsScaler"])
def test_sklearn_classifiers_are_read_with_their_probabilities(activation, classes, scaler):
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    from sklearn import preprocessing
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline

    x, y = sklearn_data(classes)
    mlp = MLPClassifier((M,), activation=activation, tol=10.0, n_iter_no_change=3, random_state=0)
    model = (mlp if scaler is None else make_pipeline(getattr(preprocessing, scaler)(), mlp)).fit(x, y)
    net = models.from_sklearn(model)
    z = fo.forward(net, x)
    if classes == 2:
        np.testing.assert_allclose(1 / (1 + np.exp(-z)), model.predict_proba(x)[:, 1], rtol=1e-8)
        np.testing.assert_array_equal(np.where(fo.predict(net, x) > 0, 1, 0), model.predict(x))
    else:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        np.testing.assert_allclose(e / e.sum(axis=1, keepdims=True), model.predict_proba(x), rtol=1e-8)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # a few steps make a network, too
def test_sklearn_regressors_are_read():
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    from sklearn.neural_network import MLPRegressor

    x, _ = sklearn_data(2)
    for targets in (x[:, 0], x[:, :2]):
        mlp = MLPRegressor(hidden_layer_sizes=(M,), max_iter=5, random_state=0).fit(x, targets)
        np.testing.assert_allclose(fo.forward(models.from_sklearn(mlp), x), mlp.predict(x), rtol=1e-8, atol=1e-10)


def test_sklearn_models_of_another_shape_are_refused():
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    from sklearn.linear_model import LinearRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures

    x, y = sklearn_data(2)
    quick = {"tol": 10.0, "n_iter_no_change": 2, "random_state": 0}
    for model, error, pattern in (
        (MLPClassifier((4, 4), **quick).fit(x, y), ValueError, "expected one hidden layer, got 2"),
        (MLPClassifier((4,)), ValueError, "expected a fitted MLPClassifier; call fit first"),
        (LinearRegression(), TypeError, "expected MLPClassifier or MLPRegressor, got LinearRegression"),
        (MLPClassifier((4,), **quick).fit(x, np.stack([y, 1 - y], 1)), ValueError, "expected one label per sample"),
        (
            make_pipeline(PolynomialFeatures(1), MLPClassifier((4,), **quick)).fit(x, y),
            ValueError,
            "step 0 .Polynomial",
        ),
        (make_pipeline(MinMaxScaler(clip=True), MLPClassifier((4,), **quick)).fit(x, y), ValueError, "clip=False"),
    ):
        with pytest.raises(error, match=pattern):
            models.from_sklearn(model)


# ------------------------------------------------------------------ trees of arrays


def test_trees_of_arrays_are_read_whatever_their_names():
    w, b, a, c = parts()
    expected = fo.forward(fo.TwoLayerNetwork(w, a, b, c, "silu"), X)
    for tree in (
        {"params": {"Dense_0": {"kernel": w.T, "bias": b}, "Dense_1": {"kernel": a.T, "bias": c}}},
        {"linear_10": {"w": a.T, "b": c}, "linear_9": {"w": w.T, "b": b}},
        [(w.T, b), (a.T, c)],
    ):
        np.testing.assert_array_equal(fo.forward(models.from_flax(tree, activation="silu"), X), expected)
    without = fo.forward(models.from_flax([(w.T,), (a.T,)], activation="silu"), X)
    np.testing.assert_array_equal(without, fo.forward(fo.TwoLayerNetwork(w, a, activation="silu"), X))


def test_trees_of_another_shape_are_refused():
    w, b, a, c = parts()
    for tree, pattern in (
        ({"a": {"kernel": w.T}}, "parameters: expected two layers, got 1: a; choose with names="),
        ({"a": {"kernel": w.T, "other": a.T}}, "a: expected a matrix and a vector, got kernel, other"),
        ({"conv": {"kernel": np.zeros((3, 3, 1, 2))}}, "conv: expected a matrix and a vector"),
        ([(a.T, c), (w.T, b)], "output_weight: expected shape"),
    ):
        with pytest.raises(ValueError, match=pattern):
            models.from_flax(tree, activation="relu")


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_flax_models_are_read_with_outputs_and_gradients(kind):
    pytest.importorskip("flax", reason="needs flax")
    jax = pytest.importorskip("jax", reason="needs jax")
    from flax import linen, nnx

    if kind == "linen":
        model = linen.Sequential([linen.Dense(M), jax.nn.relu, linen.Dense(K)])
        params = model.init(jax.random.key(0), X)
        net, apply = models.from_flax(params, activation="relu"), lambda x: model.apply(params, x)
    else:
        module = nnx.Sequential(nnx.Linear(D, M, rngs=nnx.Rngs(0)), jax.nn.relu, nnx.Linear(M, K, rngs=nnx.Rngs(1)))
        net, apply = models.from_flax(module, activation="relu"), module
    agree(net, np.asarray(apply(X)))
    v = np.random.default_rng(5).standard_normal((len(X), K)).astype(np.float32)
    theirs = jax.grad(lambda x: (apply(x) * v).sum())(X)
    np.testing.assert_allclose(fo.input_gradient(net, X, v, loss="linear")[1], theirs, rtol=1e-3, atol=1e-5)


# ------------------------------------------------------------------ keras


@pytest.mark.filterwarnings("ignore")  # Keras and what it computes with warn while they are imported
def test_keras_models_are_read_with_their_outputs():
    keras = pytest.importorskip("keras", reason="needs keras")
    layers = keras.layers
    normalize = layers.Normalization(mean=0.3, variance=0.5)
    lists = {
        "dense with activation": [layers.Dense(M, activation="tanh"), layers.Dense(K)],
        "layers of activation": [
            layers.Flatten(),
            layers.Dense(M),
            layers.LeakyReLU(0.3),
            layers.Dropout(0.5),
            layers.Dense(K),
        ],
        "normalised": [
            normalize,
            layers.Rescaling(0.5, offset=0.1),
            layers.Dense(M, activation="gelu"),
            layers.Dense(K),
        ],
        "batch normalised": [
            layers.Dense(M),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dense(K, use_bias=False),
        ],
    }
    for name, listed in lists.items():
        model = keras.Sequential([keras.Input((D,)), *listed])
        agree(models.from_keras(model), keras.ops.convert_to_numpy(model(X, training=False))), name
    inputs = keras.Input((D,))
    functional = keras.Model(inputs, layers.Dense(K)(layers.Dense(M, activation="silu")(inputs)))
    agree(models.from_keras(functional), keras.ops.convert_to_numpy(functional(X)))
    soft = keras.Sequential(
        [keras.Input((D,)), layers.Dense(M, activation="relu"), layers.Dense(K, activation="softmax")]
    )
    with pytest.raises(ValueError, match=r"layer 1 \(Dense .*\): a network of probabilities"):
        models.from_keras(soft)
    z = fo.forward(models.from_keras(soft, drop_softmax=True), X)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        e / e.sum(axis=1, keepdims=True), keras.ops.convert_to_numpy(soft(X)), rtol=1e-4, atol=1e-6
    )
    with pytest.raises(ValueError, match=r"layer 0 \(Conv1D .*\): expected Dense"):
        models.from_keras(
            keras.Sequential([keras.Input((D, 1)), layers.Conv1D(2, 3), layers.Flatten(), layers.Dense(K)])
        )


# ------------------------------------------------------------------ onnx and safetensors


def onnx_model(nodes, initializers, output="z"):
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    helper, tensor = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(*node[:3], **(node[3] if len(node) > 3 else {})) for node in nodes],
        "net",
        [helper.make_tensor_value_info("x", tensor, ["batch", D])],
        [helper.make_tensor_value_info(output, tensor, ["batch", K])],
        [onnx.numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def onnx_models():
    w, b, a, c = parts()
    gemm = [
        ("Gemm", ["x", "w", "b"], ["h"], {"transB": 1}),
        ("Relu", ["h"], ["s"]),
        ("Gemm", ["s", "a", "c"], ["z"], {"transB": 1}),
    ]
    matmul = [
        ("Sub", ["x", "mean"], ["x1"]),
        ("Div", ["x1", "std"], ["x2"]),
        ("Flatten", ["x2"], ["x3"]),
        ("MatMul", ["x3", "wt"], ["p"]),
        ("Add", ["b", "p"], ["h"]),
        ("LeakyRelu", ["h"], ["s"], {"alpha": 0.3}),
        ("MatMul", ["s", "at"], ["q"]),
        ("Add", ["q", "c"], ["z"]),
    ]
    scaled = [
        ("Gemm", ["x", "wt", "b"], ["h"], {"alpha": 0.5, "beta": 2.0}),
        ("Gelu", ["h"], ["s"], {"approximate": "tanh"}),
        ("Gemm", ["s", "at"], ["z"]),
    ]
    all_arrays = {"w": w, "b": b, "a": a, "c": c, "wt": w.T.copy(), "at": a.T.copy()}
    all_arrays |= {"mean": np.full(D, 0.2, np.float32), "std": np.float32([2.0])}
    used = lambda nodes: {name: all_arrays[name] for node in nodes for name in node[1] if name in all_arrays}  # noqa: E731
    return {
        name: onnx_model(nodes, used(nodes)) for name, nodes in (("gemm", gemm), ("matmul", matmul), ("scaled", scaled))
    }


@pytest.mark.parametrize("name", ["gemm", "matmul", "scaled"])
def test_onnx_models_are_read_with_their_outputs(name, tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    from onnx.reference import ReferenceEvaluator

    model = onnx_models()[name]
    onnx.checker.check_model(model)
    theirs = ReferenceEvaluator(model).run(None, {"x": X})[0]
    agree(models.from_onnx(model), theirs)
    onnx.save(model, tmp_path / "net.onnx")
    agree(fo.load_network(tmp_path / "net.onnx"), theirs)


def test_onnx_models_of_another_shape_are_refused(tmp_path):
    pytest.importorskip("onnx", reason="needs onnx")
    w, b, a, c = parts()
    arrays = {"w": w.T.copy(), "b": b, "a": a.T.copy(), "c": c}
    for nodes, pattern in (
        ([("MatMul", ["x", "w"], ["h"]), ("Add", ["h", "h"], ["z"])], r"node 1 \(Add\): expected a chain of layers"),
        ([("MatMul", ["x", "w"], ["h"]), ("Mish", ["h"], ["z"])], r"node 1 \(Mish\): expected Gemm"),
        (
            [("MatMul", ["x", "w"], ["h"]), ("Relu", ["h"], ["z"])],
            r"after node 1 \(Relu\): expected the second linear layer",
        ),
        ([("Softmax", ["x"], ["z"])], r"node 0 \(Softmax\): expected the first linear layer"),
    ):
        with pytest.raises(ValueError, match=pattern):
            models.from_onnx(onnx_model(nodes, arrays))
    (tmp_path / "bad.onnx").write_bytes(b"\xff" * 50)
    with pytest.raises(ValueError, match=r"bad\.onnx: expected an \.onnx file"):
        fo.load_network(tmp_path / "bad.onnx")
    with pytest.raises(FileNotFoundError):
        fo.load_network(tmp_path / "none.onnx")


def test_safetensors_files_are_read(tmp_path):
    numpy_files = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    w, b, a, c = parts()
    tensors = {"fc.10.weight": a, "fc.10.bias": c, "fc.9.weight": w, "fc.9.bias": b}
    expected = fo.forward(fo.TwoLayerNetwork(w, a, b, c, "gelu"), X)
    path = tmp_path / "net.safetensors"
    numpy_files.save_file(tensors, path)
    np.testing.assert_array_equal(fo.forward(models.from_safetensors(path, activation="gelu"), X), expected)
    with pytest.raises(ValueError, match=r"names no activation; pass activation="):
        fo.load_network(path)
    numpy_files.save_file(tensors, path, metadata={"activation": "gelu"})
    np.testing.assert_array_equal(fo.forward(fo.load_network(path), X), expected)
    numpy_files.save_file({"a.weight": w}, path)
    with pytest.raises(ValueError, match=r"expected two layers, got 1: a"):
        models.from_safetensors(path, activation="relu")
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"expected a \.safetensors file"):
        models.from_safetensors(path, activation="relu")


# ------------------------------------------------------------------ torch: what may compute something else


def test_a_torch_layer_with_a_call_of_its_own_is_refused():
    torch = pytest.importorskip("torch", reason="needs torch")

    class Negated(torch.nn.Linear):
        def __call__(self, x):
            return -super().__call__(x)

    module = torch.nn.Sequential(Negated(D, M), torch.nn.ReLU(), torch.nn.Linear(M, K))
    with pytest.raises(ValueError, match=r"layer 0 \(Negated\): has a forward that is not .* or a __call__"):
        models.from_torch(module)


def test_a_wrapper_with_a_forward_of_its_own_is_not_read_as_what_it_wraps():
    torch = pytest.importorskip("torch", reason="needs torch")

    class Negated(torch.nn.DataParallel):
        def forward(self, x):
            return -super().forward(x)

    module = Negated(torch.nn.Sequential(torch.nn.Linear(D, M), torch.nn.ReLU(), torch.nn.Linear(M, K)))
    with pytest.raises(ValueError, match=r"module: expected a Sequential .* got Negated"):
        models.from_torch(module)
    with pytest.raises(ValueError, match=r"expected Negated to compute .* outputs on random samples differ"):
        models.from_torch(module, activation="relu")


@pytest.mark.parametrize("activation", [None, "relu"])
def test_torch_modules_on_the_meta_device_are_refused(activation):
    torch = pytest.importorskip("torch", reason="needs torch")
    module = torch.nn.Sequential(torch.nn.Linear(D, M), torch.nn.ReLU(), torch.nn.Linear(M, K)).to("meta")
    with pytest.raises(TypeError, match=r"0 \(Linear\): has no numbers on the meta device; load its weights first"):
        models.from_torch(module, activation=activation)


@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.spectral_norm:FutureWarning")
@pytest.mark.parametrize(
    ("kind", "activation"), [("parametrizations", None), ("parametrizations", "relu"), ("hooks", "relu")]
)
def test_reading_a_spectral_norm_in_training_mode_is_refused_and_changes_nothing(kind, activation):
    torch = pytest.importorskip("torch", reason="needs torch")
    utils = torch.nn.utils
    norm = utils.parametrizations.spectral_norm if kind == "parametrizations" else utils.spectral_norm
    module = torch.nn.Sequential(norm(torch.nn.Linear(D, M)), torch.nn.ReLU(), torch.nn.Linear(M, K))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ValueError, match=r"has buffers that reading its weight may change .* call module\.eval\(\)"):
        models.from_torch(module, activation=activation)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    x = torch.from_numpy(X)
    agree(models.from_torch(module.eval(), activation=activation), module(x).detach().numpy())
