"""Models that look like a two-layer network and compute something else are refused, never read as another network."""

from __future__ import annotations

import os

import numpy as np
import pytest

import pyfirstorder as fo
from pyfirstorder.interop import models
from pyfirstorder.interop.layers import Activation as Sigma
from pyfirstorder.interop.layers import Affine, Linear, Softmax, assemble

os.environ.setdefault("KERAS_BACKEND", "torch")
D, M, K = 12, 7, 3
RNG = np.random.default_rng(0)
X, IMAGES = RNG.standard_normal((9, D)).astype(np.float32), RNG.random((9, 3, 2, 2)).astype(np.float32)


def agree(net, theirs, x=X):
    np.testing.assert_allclose(fo.forward(net, x).reshape(theirs.shape), theirs, rtol=2e-4, atol=2e-5)


def parts(dtype=np.float32, sizes=(D, M, K)):
    d, m, k = sizes
    return [np.random.default_rng(1).standard_normal(shape).astype(dtype) for shape in ((m, d), (m,), (k, m), (k,))]


# ------------------------------------------------------------------ lists of layers


@pytest.mark.parametrize(
    ("shape", "sample"),
    [
        ((), None),
        ((3, 1, 1), None),
        ((1, 3, 1, 1), None),
        ((2,), None),
        ((D,), None),
        ((2, 1), (3, 2, 2)),
        ((3, 1), (3, 4)),
    ],
)
def test_affine_maps_are_broadcast_to_a_sample_as_numpy_does_it(shape, sample):
    w, b, a, c = parts(np.float64)
    gain, shift = RNG.random(shape) + 0.5, RNG.standard_normal(shape)
    images = IMAGES.astype(np.float64).reshape(9, *(sample or (3, 2, 2)))
    flat = (images * gain + shift if shape != (D,) else images.reshape(9, D) * gain + shift).reshape(9, D)
    net = assemble([Affine("map", gain, shift, sample), Linear("W", w, b), Sigma("σ", "tanh"), Linear("A", a, c)])
    expected = fo.forward(fo.TwoLayerNetwork(w, a, b, c, "tanh"), flat)
    np.testing.assert_allclose(fo.forward(net, images), expected, rtol=1e-10)


def test_nothing_is_folded_in_behind_probabilities():
    w, b, a, c = parts()
    layers = [
        Linear("W", w, b),
        Sigma("σ", "relu"),
        Linear("A", a, c),
        Softmax("softmax"),
        Affine("scale", *np.ones((2, 1))),
    ]
    with pytest.raises(ValueError, match="scale: expected no more layers after probabilities"):
        assemble(layers, drop_softmax=True)


def test_a_normalised_network_keeps_its_kind_of_output_and_its_shape():
    w, b, a, c = parts(np.float64)
    net = fo.TwoLayerNetwork(w, a[0], b, c[:1])
    assert fo.forward(models.normalized(net, 0.5, 2.0), X.astype(np.float64)).shape == (9,)
    last = models.normalized(net, [[[0.1, 0.2]]], [[[1.0, 2.0]]], (3, 2, 2))
    expected = fo.forward(net, ((IMAGES.astype(np.float64) - [0.1, 0.2]) / [1.0, 2.0]))
    np.testing.assert_allclose(fo.forward(last, IMAGES.astype(np.float64)), expected, rtol=1e-10)
    with pytest.raises(ValueError, match=r"shape: expected 12 coordinates, got \(3, 3, 3\)"):
        models.normalized(net, 0.5, 2.0, (3, 3, 3))


# ------------------------------------------------------------------ torch


@pytest.fixture
def nn():
    return pytest.importorskip("torch", reason="needs torch").nn


def pair(nn):
    return nn.Linear(D, M), nn.ReLU(), nn.Linear(M, K)


def run(module, x=X):
    import torch

    return module(torch.from_numpy(x)).detach().numpy()


def normalisation(nn, shape, formula):
    import torch

    class Normalize(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean, self.std = torch.rand(shape), torch.rand(shape) + 0.5

        def forward(self, x):
            return formula(self, x)

    return nn.Sequential(Normalize(), nn.Flatten(), *pair(nn))


@pytest.mark.parametrize("shape", [(), (3, 1, 1), (1, 3, 1, 1), (2,), (1, 1, 1, 2), (3, 2, 2)])
def test_a_normalisation_is_read_along_the_axes_that_it_uses(nn, shape):
    module = normalisation(nn, shape, lambda self, x: (x - self.mean) / self.std)
    agree(models.from_torch(module), run(module, IMAGES), IMAGES)


def test_a_list_of_numbers_per_channel_is_found_to_be_one(nn):
    module = normalisation(nn, (3,), lambda self, x: (x - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1))
    agree(models.from_torch(module), run(module, IMAGES), IMAGES)


def test_a_module_that_uses_its_mean_and_std_otherwise_is_refused(nn):
    for formula in (lambda self, x: x * self.std + self.mean, lambda self, x: x - self.mean):
        with pytest.raises(ValueError, match=r"layer 0 \(Normalize\): expected .* to compute \(x - mean\) / std"):
            models.from_torch(normalisation(nn, (), formula))


def test_a_forward_that_is_not_torchs_own_is_refused(nn):
    class Own(nn.ReLU):
        def forward(self, x):
            return -x

    class Scaled(nn.Linear):
        def forward(self, x):
            return 3 * super().forward(x)

    class Twice(nn.Sequential):
        def forward(self, x):
            return 2 * super().forward(x)

    patched = nn.Sequential(*pair(nn))
    patched[1].forward = lambda x: -x
    for module, pattern in (
        (nn.Sequential(nn.Linear(D, M), Own(), nn.Linear(M, K)), r"layer 1 \(Own\): has a forward that is not .* ReLU"),
        (nn.Sequential(Scaled(D, M), nn.ReLU(), nn.Linear(M, K)), r"layer 0 \(Scaled\): .* torch's Linear"),
        (patched, r"layer 1 \(ReLU\): has a forward"),
        (Twice(*pair(nn)), "expected a Sequential .* got Twice"),
        (nn.Sequential(nn.Flatten(), Twice(*pair(nn))), r"layer 1 \(Twice\)"),
    ):
        with pytest.raises(ValueError, match=pattern):
            models.from_torch(module)


def test_hooks_are_refused_unless_the_outputs_agree(nn):
    changing, watching = nn.Sequential(*pair(nn)), nn.Sequential(*pair(nn))
    changing[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    watching[0].register_forward_hook(lambda module, inputs, output: None)
    for module in (changing, watching):
        with pytest.raises(ValueError, match=r"layer 0 \(Linear\): has a hook on its forward"):
            models.from_torch(module)
    agree(models.from_torch(watching, activation="relu"), run(watching))
    with pytest.raises(ValueError, match="outputs on random samples differ"):
        models.from_torch(changing, activation="relu")


def test_weights_behind_a_parametrisation_are_those_that_it_gives(nn):
    import torch

    norm = torch.nn.utils.parametrizations.weight_norm(nn.Linear(D, M))
    module = nn.Sequential(norm, nn.ReLU(), nn.Linear(M, K)).eval()
    agree(models.from_torch(module), run(module))


def test_settings_that_change_what_a_layer_computes_are_refused(nn):
    for module, pattern in (
        (nn.Sequential(nn.Linear(D, M), nn.Softplus(1, 0.5), nn.Linear(M, K)), "threshold of at least 20"),
        (nn.Sequential(*pair(nn), nn.Softmax(0)), r"layer 3 \(Softmax\): expected probabilities of a sample"),
        (nn.Sequential(nn.Flatten(0), *pair(nn)), r"layer 0 \(Flatten\): expected start_dim=1"),
        (
            nn.Sequential(nn.LazyLinear(M), nn.ReLU(), nn.LazyLinear(K)),
            "has no weights yet; call the module on a batch",
        ),
    ):
        with pytest.raises(ValueError, match=pattern):
            models.from_torch(module, drop_softmax=True)


def own_module(nn, forward, sizes=(D, M, K)):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            d, m, k = sizes
            self.out, self.inner = nn.Linear(m, k), nn.Linear(d, m)  # declared the other way round

        def forward(self, x):
            return forward(self, x)

    return Net()


def test_two_forms_of_gelu_are_told_apart_in_float32(nn):
    function = nn.functional.gelu
    module = own_module(nn, lambda self, x: self.out(function(self.inner(x), approximate="tanh")), (784, 128, 10))
    assert models.from_torch(module, activation="gelu_tanh").activation == "gelu_tanh"
    with pytest.raises(ValueError, match=r"with gelu, but its outputs on random samples differ"):
        models.from_torch(module, activation="gelu")


@pytest.mark.parametrize("sizes", [(D, M, K), (5, 5, 5)])
def test_layers_of_an_own_module_are_read_in_the_order_of_their_use(nn, sizes):
    module = own_module(nn, lambda self, x: self.out(self.inner(x).tanh()), sizes)
    x = np.random.default_rng(2).standard_normal((4, sizes[0])).astype(np.float32)
    agree(models.from_torch(module, activation="tanh"), run(module, x), x)


def test_an_own_module_of_images_is_run_on_images(nn):
    import torch

    def forward(self, x):
        batch, channels, height, width = x.shape
        return self.out(torch.relu(self.inner(x.reshape(batch, channels * height * width))))

    module = own_module(nn, forward)
    with pytest.raises(ValueError, match=r"to take samples of shape \(12,\), got ValueError: .*pass shape="):
        models.from_torch(module, activation="relu")
    agree(models.from_torch(module, activation="relu", shape=(3, 2, 2)), run(module, IMAGES), IMAGES)


def test_logarithms_of_probabilities_at_the_end_of_an_own_module_are_dropped_when_asked(nn):
    module = own_module(nn, lambda self, x: self.out(self.inner(x).relu()).log_softmax(1))
    with pytest.raises(ValueError, match=r"it ends with probabilities, .*: pass drop_softmax=True, or return logits"):
        models.from_torch(module, activation="relu")
    z = fo.forward(models.from_torch(module, activation="relu", drop_softmax=True), X)
    expected = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(run(module), expected, rtol=1e-4, atol=1e-5)


def test_reading_an_own_module_in_training_mode_changes_nothing_in_it(nn):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm, self.b = nn.Linear(D, M), nn.BatchNorm1d(M), nn.Linear(M, K)

        def forward(self, x):
            return self.b(self.norm(self.a(x)).relu())

    module = Net()
    with pytest.raises(ValueError, match=r"norm \(BatchNorm1d\): depends on the batch in training mode"):
        models.from_torch(module, activation="relu")
    assert module.norm.num_batches_tracked == 0


def test_reading_an_own_module_leaves_the_random_numbers_alone(nn):
    import torch

    module = own_module(nn, lambda self, x: self.out(self.inner(x).relu()) + 0.0 * torch.rand(()))
    state = torch.get_rng_state()
    agree(models.from_torch(module, activation="relu"), run(module))
    torch.set_rng_state(state)
    models.from_torch(module, activation="relu")
    assert torch.equal(torch.get_rng_state(), state)


def test_compiled_and_parallel_modules_are_read_as_what_they_wrap(nn):
    import torch

    module = nn.Sequential(*pair(nn))
    for wrapped in (torch.compile(module), nn.DataParallel(module)):
        agree(models.from_torch(wrapped), run(module))


# ------------------------------------------------------------------ scikit-learn


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # a few steps make a network, too
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("StandardScaler", {"with_mean": False}),
        ("StandardScaler", {"with_std": False}),
        ("RobustScaler", {}),
        ("RobustScaler", {"with_scaling": False}),
        ("RobustScaler", {"with_centering": False}),
        ("MinMaxScaler", {"feature_range": (-1, 2)}),
        ("passthrough", {}),
    ],
)
def test_scalers_are_read_with_their_settings(name, options):
    preprocessing = pytest.importorskip("sklearn.preprocessing", reason="needs scikit-learn")
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline

    x = 3 * np.random.default_rng(3).standard_normal((60, 5)) + 1
    step = name if name == "passthrough" else getattr(preprocessing, name)(**options)
    model = make_pipeline(step, MLPRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0)).fit(x, x[:, 0])
    np.testing.assert_allclose(fo.forward(models.from_sklearn(model), x), model.predict(x), rtol=1e-8, atol=1e-10)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_outputs_that_are_no_logits_and_searches_are_refused():
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    from sklearn.model_selection import GridSearchCV
    from sklearn.neural_network import MLPRegressor

    x = np.random.default_rng(3).random((20, 5))
    mlp = MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0).fit(x, x[:, 0])
    mlp.out_activation_ = "exp"  # as loss="poisson" has it
    with pytest.raises(ValueError, match=r"expected outputs A σ.* got exp of them"):
        models.from_sklearn(mlp)
    search = GridSearchCV(MLPRegressor(max_iter=3), {"hidden_layer_sizes": [(4,)]}, cv=2).fit(x, x[:, 0])
    with pytest.raises(TypeError, match="got GridSearchCV; pass its best_estimator_"):
        models.from_sklearn(search)


# ------------------------------------------------------------------ keras


@pytest.fixture
def keras():
    return pytest.importorskip("keras", reason="needs keras")


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:keras")


def sequential(keras, shape, *layers):
    return keras.Sequential([keras.Input(shape), *layers])


def of_keras(keras, model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


@pytest.mark.parametrize("axis", [1, -1, (1, 2), None])
def test_keras_normalisations_are_read_along_their_axes(keras, axis):
    layer = keras.layers.Normalization(axis=axis)
    layer.adapt(IMAGES)
    dense = keras.layers.Dense
    model = sequential(keras, (3, 2, 2), layer, keras.layers.Flatten(), dense(M, activation="relu"), dense(K))
    agree(models.from_keras(model), of_keras(keras, model, IMAGES), IMAGES)


@pytest.mark.parametrize("axis", [1, -1])
def test_keras_batch_normalisations_are_read_along_their_axis(keras, axis):
    layer, dense = keras.layers.BatchNormalization(axis=axis), keras.layers.Dense
    model = sequential(keras, (3, 2, 2), layer, keras.layers.Flatten(), dense(M, activation="relu"), dense(K))
    for weight in layer.weights:
        weight.assign(np.random.default_rng(4).random(weight.shape) + 0.5)
    agree(models.from_keras(model), of_keras(keras, model, IMAGES), IMAGES)


def test_an_activation_of_keras_that_is_a_layer_is_read(keras):
    dense = keras.layers.Dense
    model = sequential(keras, (D,), dense(M, activation=keras.layers.LeakyReLU(0.4)), dense(K))
    agree(models.from_keras(model), of_keras(keras, model, X))


def test_one_probability_of_keras_becomes_its_logit_when_asked(keras):
    dense = keras.layers.Dense
    model = sequential(keras, (D,), dense(M, activation="relu"), dense(1, activation="sigmoid"))
    with pytest.raises(ValueError, match=r"layer 1 \(Dense .*\): a network of probabilities"):
        models.from_keras(model)
    z = fo.forward(models.from_keras(model, drop_softmax=True), X)
    np.testing.assert_allclose(1 / (1 + np.exp(-z)), of_keras(keras, model, X), rtol=1e-4, atol=1e-6)
    several = sequential(keras, (D,), dense(M, activation="relu"), dense(K, activation="sigmoid"))
    with pytest.raises(ValueError, match="expected no more layers"):
        models.from_keras(several, drop_softmax=True)


def test_keras_models_that_are_no_chain_of_their_layers_are_refused(keras):
    layers = keras.layers

    def relu(x):
        return x * x

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.out, self.inner = layers.Dense(D), layers.Dense(D, activation="tanh")

        def call(self, x):
            return self.out(self.inner(x))

    own, inputs, shared = Own(), keras.Input((D,)), layers.Dense(D, activation="relu")
    own(X)
    twice = keras.Model(inputs, layers.Dense(K)(shared(shared(inputs))))
    dense = layers.Dense
    for model, pattern in (
        (twice, "model: expected it to compute .* outputs on random samples differ"),
        (own, "expected a Sequential, or a functional model of one input and output, got Own"),
        (sequential(keras, (D,), dense(M, activation=relu), dense(K)), "no counterpart for the activation relu"),
        (
            sequential(keras, (3, 2, 2), layers.Flatten("channels_first"), dense(M, activation="relu"), dense(K)),
            "expected a Flatten that keeps the order of coordinates",
        ),
        (keras.Sequential([dense(M), dense(K)]), "expected a model that is built"),
    ):
        with pytest.raises(ValueError, match=pattern):
            models.from_keras(model)
    half = sequential(keras, (D,), dense(M, activation="relu", dtype="mixed_float16"), dense(K))
    with pytest.raises(TypeError, match="expected a layer that computes in float32 or float64, got float16"):
        models.from_keras(half)
    with pytest.raises(TypeError, match=r"model: expected a keras\.Model, got dict"):
        models.from_keras({})


# ------------------------------------------------------------------ onnx

GEMM = [("Gemm", ["f", "w", "b"], ["h"], {"transB": 1}), ("Gemm", ["s", "a", "c"], ["z"], {"transB": 1})]


def onnx_model(nodes, shape=("batch", D), outputs=("z",), **constants):
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    helper = onnx.helper
    arrays = dict(zip("wbac", parts())) | constants
    graph = helper.make_graph(
        [helper.make_node(*node[:3], **(node[3] if len(node) > 3 else {})) for node in nodes],
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def evaluated(model, x, name="z"):
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run([name], {"x": x})[0]


def test_constants_of_onnx_are_placed_by_the_shape_of_the_input():
    for shape in ((1, 3, 1, 1), (2,), (2, 1), (3, 2, 2)):
        nodes = [("Sub", ["x", "m"], ["n"]), ("Flatten", ["n"], ["f"]), GEMM[0], ("Relu", ["h"], ["s"]), GEMM[1]]
        model = onnx_model(nodes, ("batch", 3, 2, 2), m=RNG.random(shape))
        agree(models.from_onnx(model), evaluated(model, IMAGES), IMAGES)
    unknown = onnx_model(nodes, ("batch", 3, "height", "width"), m=RNG.random((3, 2, 2)))
    with pytest.raises(ValueError, match=r"node 0 \(Sub\): expected an input of known shape"):
        models.from_onnx(unknown)


BLOCKS = {
    "silu": [("Sigmoid", ["h"], ["p"]), ("Mul", ["h", "p"], ["s"])],
    "gelu": [
        ("Div", ["h", "root"], ["p"]),
        ("Erf", ["p"], ["q"]),
        ("Add", ["q", "one"], ["r"]),
        ("Mul", ["h", "r"], ["t"]),
        ("Mul", ["t", "half"], ["s"]),
    ],
    "softplus(3.0)": [
        ("Mul", ["h", "three"], ["p"]),
        ("Softplus", ["p"], ["q"]),
        ("Div", ["q", "three"], ["r"]),
        ("Greater", ["p", "twenty"], ["t"]),
        ("Where", ["t", "h", "r"], ["s"]),
    ],
    "leaky_relu(0.2)": [("Mul", ["h", "fifth"], ["p"]), ("Max", ["h", "p"], ["s"])],
    "elu(0.7)": [
        ("Exp", ["h"], ["e"]),
        ("Sub", ["e", "one"], ["p"]),
        ("Mul", ["p", "share"], ["q"]),
        ("Greater", ["h", "zero"], ["t"]),
        ("Where", ["t", "h", "q"], ["s"]),
    ],
    "quadratic": [("Mul", ["h", "h"], ["s"])],
}
NUMBERS = {"root": 2**0.5, "one": 1, "half": 0.5, "three": 3, "twenty": 20, "fifth": 0.2, "share": 0.7, "zero": 0}


@pytest.mark.parametrize("activation", BLOCKS)
def test_activations_that_exporters_write_out_are_known_by_what_they_compute(activation):
    model = onnx_model([("Flatten", ["x"], ["f"]), GEMM[0], *BLOCKS[activation], GEMM[1]], **NUMBERS)
    net = models.from_onnx(model)
    agree(net, evaluated(model, X))
    assert net.activation.startswith(activation.partition("(")[0])


def test_nodes_that_are_no_activation_known_here_are_refused():
    mish = [("Softplus", ["h"], ["p"]), ("Tanh", ["p"], ["q"]), ("Mul", ["h", "q"], ["s"])]
    model = onnx_model([("Flatten", ["x"], ["f"]), GEMM[0], *mish, GEMM[1]])
    with pytest.raises(ValueError, match=r"node 2 \(Softplus\) to node 4 \(Mul\): .* \(Softplus, Tanh, Mul\)"):
        models.from_onnx(model)


def test_an_output_of_several_is_chosen_as_of_a_converted_classifier():
    nodes = [
        ("Cast", ["x"], ["f"], {"to": 1}),
        GEMM[0],
        ("Relu", ["h"], ["s"]),
        GEMM[1],
        ("Softmax", ["z"], ["p"]),
        ("Identity", ["p"], ["probabilities"]),
        ("ArgMax", ["probabilities"], ["label"], {"axis": 1}),
    ]
    model = onnx_model(nodes, outputs=("label", "probabilities"))
    with pytest.raises(ValueError, match="expected one output, got label, probabilities; choose one with output="):
        models.from_onnx(model)
    logits = onnx_model(nodes[:4])
    agree(models.from_onnx(model, output="probabilities", drop_softmax=True), evaluated(logits, X))
    agree(models.from_onnx(model, output="z"), evaluated(logits, X))
    with pytest.raises(ValueError, match="output: expected the name of a value that a node computes, got 'y'"):
        models.from_onnx(model, output="y")


def test_reshapes_of_a_computed_shape_and_fixed_batches_are_read():
    nodes = [
        ("Shape", ["x"], ["p"], {"end": 1}),
        ("Constant", [], ["rest"], {"value_ints": [-1]}),
        ("Concat", ["p", "rest"], ["shape"], {"axis": 0}),
        ("Reshape", ["x", "shape"], ["f"]),
        GEMM[0],
        ("Relu", ["h"], ["s"]),
        GEMM[1],
    ]
    for batch in ("batch", 1, 4):
        model = onnx_model(nodes, (batch, 3, 2, 2))
        agree(models.from_onnx(model), evaluated(model, IMAGES), IMAGES)


def test_nodes_that_mix_samples_are_refused():
    middle = [GEMM[0], ("Relu", ["h"], ["s"]), GEMM[1]]
    for nodes, pattern in (
        ([("Flatten", ["x"], ["f"], {"axis": 0}), *middle], r"node 0 \(Flatten\): expected axis=1"),
        (
            [("Flatten", ["x"], ["f"]), *middle, ("Softmax", ["z"], ["y"], {"axis": 0})],
            r"node 4 \(Softmax\): expected probabilities of a sample",
        ),
        ([("Cast", ["x"], ["f"], {"to": 10}), *middle], r"node 0 \(Cast\): expected a cast to float32 or float64"),
    ):
        with pytest.raises(ValueError, match=pattern):
            models.from_onnx(onnx_model(nodes, outputs=(nodes[-1][2][0],)), drop_softmax=True)
    with pytest.raises(TypeError, match=r"model: expected a path or an onnx\.ModelProto, got dict"):
        models.from_onnx({})


# ------------------------------------------------------------------ trees and files


def square_layers(first, second, matrix="kernel"):
    w, b, a, c = parts(sizes=(5, 5, 5))
    turn = (lambda part: part) if matrix == "weight" else (lambda part: part.T)
    tree = {first: {matrix: turn(w), "bias": b}, second: {matrix: turn(a), "bias": c}}
    return tree, fo.TwoLayerNetwork(w, a, b, c, "relu")


def same(net, other):
    np.testing.assert_array_equal(net.hidden_weight, other.hidden_weight)
    np.testing.assert_array_equal(net.output_weight, other.output_weight)


def test_an_order_that_neither_names_nor_shapes_tell_is_asked_for():
    tree, net = square_layers("encoder", "decoder")
    with pytest.raises(ValueError, match="got decoder and encoder, whose shapes fit both ways; pass names="):
        models.from_flax(tree, activation="relu")
    same(models.from_flax(tree, activation="relu", names=("encoder", "decoder")), net)
    same(models.from_flax({"params": tree}, activation="relu", names=("encoder", "decoder")), net)
    same(models.from_flax(square_layers("fc1", "fc2")[0], activation="relu"), net)
    same(models.from_flax(square_layers("hidden", "output")[0], activation="relu"), net)
    with pytest.raises(ValueError, match="names: no layer 'up' in parameters"):
        models.from_flax(tree, activation="relu", names=("up", "decoder"))


def test_shapes_tell_the_order_where_only_one_fits():
    w, b, a, c = parts()
    tree = {"up": {"kernel": w.T, "bias": b}, "down": {"kernel": a.T, "bias": c}}  # "down" is first by name
    same(models.from_flax(tree, activation="relu"), fo.TwoLayerNetwork(w, a, b, c))


def test_a_matrix_called_weight_has_its_outputs_first():
    tree, net = square_layers("l1", "l2", "weight")
    same(models.from_flax(tree, activation="relu"), net)


def test_biases_that_do_not_fit_their_matrix_are_refused():
    w, b, a, c = parts()
    with pytest.raises(ValueError, match="0: expected 12 biases for its 12 outputs, got 7"):
        models.from_flax([(w, b), (a.T, c)], activation="relu")


def test_a_flax_module_that_computes_something_else_is_refused():
    pytest.importorskip("flax", reason="needs flax")
    jax = pytest.importorskip("jax", reason="needs jax")
    from flax import linen, nnx

    module = nnx.Sequential(nnx.Linear(D, M, rngs=nnx.Rngs(0)), jax.nn.relu, nnx.Linear(M, K, rngs=nnx.Rngs(1)))
    own = linen.Sequential([linen.Dense(M), jax.nn.relu, linen.Dense(K)])
    variables = own.init(jax.random.key(0), X)
    agree(models.from_flax(variables, activation="relu", module=own), np.asarray(own.apply(variables, X)))
    agree(models.from_flax(variables["params"], activation="relu", module=own), np.asarray(own.apply(variables, X)))
    for read in (
        lambda: models.from_flax(module, activation="tanh"),
        lambda: models.from_flax(variables, activation="gelu", module=own),
    ):
        with pytest.raises(ValueError, match=r"module: expected it to compute .* outputs on random samples differ"):
            read()


def test_layers_of_a_safetensors_file_are_chosen_by_name(tmp_path):
    numpy_files = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    tree, net = square_layers("encoder", "decoder", "weight")
    tensors = {f"net.{layer}.{part}": array for layer, own in tree.items() for part, array in own.items()}
    path = tmp_path / "net.safetensors"
    numpy_files.save_file(tensors | {"steps": np.int64([3])}, path)
    same(models.from_safetensors(path, activation="relu", names=("net.encoder", "net.decoder")), net)
    with pytest.raises(ValueError, match=r"whose shapes fit both ways|expected a matrix and a vector"):
        models.from_safetensors(path, activation="relu")
    numpy_files.save_file({name: array.astype(np.float16) for name, array in tensors.items()}, path)
    with pytest.raises(TypeError, match=r"expected tensors of float32 or float64, got float16; save it anew"):
        models.from_safetensors(path, activation="relu", names=("net.encoder", "net.decoder"))
    with pytest.raises(FileNotFoundError):
        models.from_safetensors(tmp_path / "none.safetensors", activation="relu")
