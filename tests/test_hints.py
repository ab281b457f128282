"""What is refused leads on: names and models of other libraries, labels and images of other kinds, other units."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import pyfirstorder as fo
from pyfirstorder import dynamics, hints
from pyfirstorder.training import train

RNG = np.random.default_rng(0)
NET = fo.TwoLayerNetwork(RNG.standard_normal((16, 8)), RNG.standard_normal((3, 16)))
X, Y = RNG.random((4, 8)), np.array([0, 1, 2, 0])
WITH_OPTIONS = ("distinct_maxima", "regularity")  # take those of pgd, too
LABORATORY = [name for name in dynamics.__all__ if inspect.isfunction(getattr(dynamics, name))]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("alpha", "step_size"),
        ("eps_step", "step_size"),
        ("num_steps", "steps"),
        ("nb_iter", "steps"),
        ("max_iter", "steps"),
        ("n_restarts", "restarts"),
        ("stepsize", "step_size"),
        ("steps_", "steps"),
    ],
)
def test_names_of_other_libraries_are_answered_with_ours(given, meant):
    with pytest.raises(TypeError, match=f"pgd has no argument {given}; did you mean {meant}\\?"):
        fo.pgd(NET, X, Y, eps=0.1, **{given: 3})
    with pytest.raises(TypeError, match=f"pgd has no argument {given}; did you mean {meant}\\?"):
        fo.robustness_curve(NET, X, Y, eps=[0.1], **{given: 3})


def test_two_names_for_one_argument_are_answered_once():
    with pytest.raises(
        TypeError, match=r"apgd has no argument clip_min, clip_max; did you mean bounds=\(lower, upper\)\?"
    ):
        fo.apgd(NET, X, Y, eps=0.1, clip_min=0, clip_max=1)


def test_a_name_is_only_suggested_where_the_function_has_it():
    with pytest.raises(TypeError, match="apgd has no argument alpha; it has net, x, y, eps, norm"):
        fo.apgd(NET, X, Y, eps=0.1, alpha=0.01)
    with pytest.raises(TypeError, match="evaluate has no argument nb_iter; did you mean steps"):
        fo.evaluate(NET, X, Y, eps=0.1, nb_iter=3)


def test_weights_by_letters_are_answered_with_their_names():
    with pytest.raises(
        TypeError, match="TwoLayerNetwork has no argument W, b, A; did you mean hidden_weight and hidden_b"
    ):
        fo.TwoLayerNetwork(W=X, b=Y, A=X)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: train(X, Y, hidden=3), r"train has no argument hidden; did you mean hidden_features\?"),
        (lambda: train(X, Y, hidden_features=3, lr=3), r"train has no argument lr; did you mean learning_rate\?"),
        (lambda: fo.certify(NET, X, Y, eps=0.1, steps=3), "certify has no argument steps; it has net, x, y, eps,"),
        (lambda: dynamics.trace(NET, X, Y, epsilon=0.1), r"trace has no argument epsilon; did you mean eps\?"),
        (lambda: dynamics.trace(NET, X, Y, eps=0.1, alpha=1), r"trace has no argument alpha; did you mean step_size\?"),
        (
            lambda: dynamics.stationarity(NET, X, Y, x=X, epsilon=0.1),
            r"stationarity has no argument x, epsilon; did you mean x0 and eps\?",
        ),
        (lambda: dynamics.distinct_maxima(NET, X, Y, eps=0.1, restarts=3), r"did you mean starts\?"),
        (lambda: dynamics.random_plane(X[0], random_state=3), r"random_plane has no argument .*; did you mean seed\?"),
        (
            lambda: fo.minimal_eps(NET, X, Y, eps=0.1),
            r"minimal_eps has no argument eps, because it searches for the radius; did you mean eps_max, ",
        ),
        (lambda: fo.minimal_eps(NET, X, Y, epsilon=0.1), r"minimal_eps has no argument epsilon, .* mean eps_max, "),
    ],
)
def test_names_that_the_laboratory_does_not_have_are_answered(call, words):
    with pytest.raises(TypeError, match=words):
        call()


@pytest.mark.parametrize("name", [name for name in LABORATORY if name not in WITH_OPTIONS])
def test_every_function_of_the_laboratory_says_what_it_has(name):
    with pytest.raises(TypeError, match=f"^{name} has no argument abacus; it has "):
        getattr(dynamics, name)(abacus=1)


def test_a_sparse_matrix_is_answered_with_the_line_that_converts_it():
    sparse = pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    for kind in (sparse.csr_matrix, sparse.csc_array, sparse.coo_array):
        x = kind(X)
        with pytest.raises(TypeError, match=r"^x: expected a dense array, got .* sparse; pass x.toarray\(\)$"):
            fo.pgd(NET, x, Y, eps=0.1)
        with pytest.raises(TypeError, match=r"^x: .*; pass x.toarray\(\)$"):
            train(x, Y, hidden_features=3)
        with pytest.raises(TypeError, match=r"^hidden_weight: .*; pass hidden_weight.toarray\(\)$"):
            fo.TwoLayerNetwork(kind(NET.hidden_weight), NET.output_weight)
        assert fo.forward(NET, x.toarray()).shape == (4, 3)


def test_a_batch_where_one_sample_is_meant_is_answered_with_the_line_that_takes_one():
    plane = dynamics.random_plane(X[0])
    for call in (
        lambda: dynamics.landscape(NET, X, Y, plane, span=1.0),
        lambda: dynamics.hessian_plane(NET, X, Y),
    ):
        with pytest.raises(ValueError, match=r"^x: expected one sample of 8 .* shape \(4, 8\); take one .*, x\[0\] "):
            call()
    assert dynamics.landscape(NET, X[0], Y[0], plane, span=1.0, points=3).loss.shape == (3, 3)
    with pytest.raises(ValueError, match=r"^x: expected one sample of 8 numbers, got shape \(3,\)$"):
        dynamics.landscape(NET, X[0, :3], Y[0], plane, span=1.0)


def test_a_plane_through_a_batch_is_answered_with_the_line_that_takes_one():
    with pytest.raises(
        ValueError, match=r"^plane: expected an origin of 8.*; a plane goes through one sample, x\[0\] "
    ):
        dynamics.landscape(NET, X[0], Y[0], dynamics.random_plane(X), span=1.0)
    with pytest.raises(ValueError, match=r"directions of as many, got shapes \(7,\) and \(2, 7\)$"):
        dynamics.landscape(NET, X[0], Y[0], dynamics.random_plane(X[0, :7]), span=1.0)


MISFITS = {
    "pgd": (lambda: fo.pgd(NET, X, Y), "pgd needs eps; it has net, x, y, eps, norm, "),
    "apgd of two": (lambda: fo.apgd(NET, X), "apgd needs y and eps; it has net, x, y, eps, "),
    "pgd by position": (
        lambda: fo.pgd(NET, X, Y, 0.1),
        "pgd takes net, x, y by position, got 4 arguments there; name the others: eps=, norm=, ",
    ),
    "forward": (lambda: fo.forward(NET), "forward needs x; it has net, x, backend, threads"),
    "forward on": (lambda: fo.forward(NET, images=X), r"forward has no argument images; did you mean x\?"),
    "predict": (lambda: fo.predict(NET, X, n_jobs=2), r"predict has no argument n_jobs; did you mean threads\?"),
    "input_gradient": (lambda: fo.input_gradient(NET, X), "input_gradient needs y; it has net, x, y, loss, "),
    "project": (lambda: fo.project(X), "project needs eps; it has delta, eps, norm, x, "),
    "project on": (lambda: fo.project(X, epsilon=1), r"project has no argument epsilon; did you mean eps\?"),
    "project by position": (
        lambda: fo.project(X, 0.1),
        "project takes delta by position, got 2 arguments there; name the others: eps=, norm=, x=, ",
    ),
    "random_network": (lambda: fo.random_network(8), "random_network needs hidden_features; it has in_features, "),
    "random_network of": (
        lambda: fo.random_network(n_features=8, hidden=3),
        r"random_network has no argument n_features, hidden; did you mean in_features and hidden_features\?",
    ),
    "stationarity": (lambda: dynamics.stationarity(NET, X, Y), "stationarity needs x0 and eps; it has net, x_adv, y, "),
    "robustness_curve": (lambda: fo.robustness_curve(NET, X, Y), "robustness_curve needs eps; it has net, x, y, eps, "),
    "robustness_curve of": (
        lambda: fo.robustness_curve(NET, X, Y, epsilons=[0.1], steps=3),
        r"robustness_curve has no argument epsilons; did you mean eps\?",
    ),
    "regularity": (
        lambda: dynamics.regularity(abacus=1),
        "regularity needs net, x, y and eps; it has net, x, y, eps, ",
    ),
    "minimal_eps": (lambda: fo.minimal_eps(NET, X), "minimal_eps needs y; it has net, x, y, norm, eps_max, "),
    "network": (lambda: fo.TwoLayerNetwork(X), "TwoLayerNetwork needs output_weight; it has hidden_weight, "),
    "network of many": (
        lambda: fo.TwoLayerNetwork(*[X] * 6),
        "TwoLayerNetwork takes hidden_weight, output_weight, .*, activation by position, got 6 arguments there$",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_call_that_does_not_fit_is_answered_with_what_would(case):
    call, words = MISFITS[case]
    with pytest.raises(TypeError, match=f"^{words}"):
        call()


def test_a_type_that_is_none_is_named():
    with pytest.raises(TypeError, match="dtype: expected float32 or float64, got 'nonsense'"):
        fo.random_network(8, 3, dtype="nonsense")


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda: fo.random_network(8, 3, activation="rely"), "relu"),
        (lambda: fo.forward(NET, X, backend="gpu"), "cuda"),
        (lambda: fo.forward(NET, X, backend="numpy"), "reference"),
        (lambda: fo.forward(NET, X, backend="CPU"), "cpu"),
        (lambda: fo.forward(NET, X, backend="nunba"), "numba"),
        (lambda: fo.project(X, eps=1, norm="l_inf"), "linf"),
        (lambda: fo.project(X, eps=1, norm="euclidean"), "l2"),
        (lambda: fo.pgd(NET, X, Y, eps=1, random_start="spere"), "sphere"),
    ],
)
def test_a_name_that_is_misspelt_is_answered_with_ours(call, meant):
    with pytest.raises(ValueError, match=f"; did you mean '{meant}'\\?$"):
        call()


@pytest.mark.parametrize("function", [fo.pgd, fo.apgd, fo.evaluate])
def test_signatures_stay_exact(function):
    parameters = inspect.signature(function).parameters
    assert list(parameters)[:4] == ["net", "x", "y", "eps"]
    assert all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values())


def test_every_name_that_is_suggested_is_an_argument():
    laboratory = (train, fo.certify, *(getattr(dynamics, name) for name in LABORATORY))
    functions = (fo.pgd, fo.apgd, fo.evaluate, fo.TwoLayerNetwork, fo.random_network, *laboratory)
    known = {name for function in functions for name in inspect.signature(function).parameters}
    assert set(hints._ARGUMENTS) <= known


@pytest.mark.parametrize(
    ("loss", "meant"), [("ce", "cross_entropy"), ("CE", "cross_entropy"), ("mse", "squared"), ("DLR", "dlr")]
)
def test_losses_of_other_libraries_are_answered_with_ours(loss, meant):
    with pytest.raises(ValueError, match=f"loss: .* got '{loss}'; did you mean '{meant}'\\?"):
        fo.pgd(NET, X, Y, eps=0.1, loss=loss)


@pytest.mark.parametrize(
    ("activation", "meant"),
    [
        ("ReLU", "relu"),
        ("LeakyReLU(0.2)", "leaky_relu"),
        ("logistic", "sigmoid"),
        ("swish", "silu"),
        ("linear", "identity"),
    ],
)
def test_activations_of_other_libraries_are_answered_with_ours(activation, meant):
    with pytest.raises(ValueError, match=f"activation: .*; did you mean '{meant}'\\?"):
        fo.TwoLayerNetwork(NET.hidden_weight, NET.output_weight, activation=activation)


@pytest.mark.parametrize(
    ("y", "error", "pattern"),
    [
        (Y.astype(float), TypeError, r"got an array of float64 with shape \(4,\); convert with y.astype\(int\)"),
        (np.eye(3)[Y], TypeError, r"; of one-hot labels take y.argmax\(1\)"),
        (np.eye(3, dtype=int)[Y], ValueError, r"; of one-hot labels take y.argmax\(1\)"),
        (Y[:, None], ValueError, r"; take y\[:, 0\]"),
        (
            Y + 1,
            ValueError,
            r"got 3 in row 2; of classes with other names take their places, np.searchsorted\(classes, y\)$",
        ),
        (np.array(["a", "b", "c", "a"]), TypeError, r"np.searchsorted\(classes, y\)"),
    ],
)
def test_labels_of_another_kind_are_answered_with_the_line_that_converts_them(y, error, pattern):
    with pytest.raises(error, match=pattern):
        fo.pgd(NET, X, y, eps=0.1)


def test_the_lines_for_labels_work():
    expected = fo.pgd(NET, X, Y, eps=0.1).x_adv
    for y in (Y.astype(float).astype(int), np.eye(3)[Y].argmax(1), np.searchsorted([3, 5, 8], np.array([3, 5, 8])[Y])):
        np.testing.assert_array_equal(fo.pgd(NET, X, y, eps=0.1).x_adv, expected)


@pytest.mark.parametrize(("largest", "divisor"), [(16, 16), (15, 15), (200, 255), (255, 255), (256, 256), (4095, 4095)])
def test_images_are_told_to_be_divided_by_what_fits_them(largest, divisor):
    x = np.zeros((4, 8))
    x[2, 3], x[3] = largest / 2, largest  # the first row outside of the box does not hold the largest number
    with pytest.raises(ValueError, match=rf"first in row 2, .*scale x into them, x / {divisor}$"):
        fo.pgd(NET, x, Y, eps=0.1, bounds=(0, 1))
    with pytest.raises(TypeError, match=rf"convert images with x.astype\(np.float32\) / {divisor}$"):
        fo.pgd(NET, x.astype(np.uint16), Y, eps=0.1)
    assert fo.project(np.zeros_like(x), eps=0.1, x=x / divisor, bounds=(0, 1)).shape == x.shape  # lies inside


@pytest.mark.parametrize("x", [np.ones((4, 8), bool), np.eye(4, 8, dtype=int), -np.eye(4, 8, dtype=int)])
def test_integers_that_are_no_images_are_told_to_be_converted_alone(x):
    with pytest.raises(TypeError, match=r"; convert with x.astype\(np.float32\)$"):
        fo.pgd(NET, x, Y, eps=0.1)


def test_images_outside_the_box_are_told_to_be_scaled():
    with pytest.raises(ValueError, match=r"outside \[0, 1\] first in row 0, coordinate 0; scale x into them, x / 255"):
        fo.pgd(NET, X * 255, Y, eps=0.1, bounds=(0, 1))
    with pytest.raises(ValueError, match="scale x into them, or clip it to them"):
        fo.pgd(NET, X - 1, Y, eps=0.1, bounds=(0, 1))


def of_maxima(eps, bounds):
    return dynamics.distinct_maxima(NET, X, Y, eps=eps, norm="linf", bounds=bounds, starts=2, steps=2)


def of_stationarity(eps, bounds):
    return dynamics.stationarity(NET, X, Y, x0=X, eps=eps, bounds=bounds)


def of_training(eps, bounds):
    return train(
        X, Y, hidden_features=3, activation="tanh", epochs=2, adversary={"eps": eps, "bounds": bounds, "steps": 2}
    )


WITH_A_BOX = {
    "pgd": lambda eps, bounds: fo.pgd(NET, X, Y, eps=eps, bounds=bounds, steps=2),
    "apgd": lambda eps, bounds: fo.apgd(NET, X, Y, eps=eps, bounds=bounds, steps=2),
    "evaluate": lambda eps, bounds: fo.evaluate(NET, X, Y, eps=eps, bounds=bounds, steps=2),
    "robustness_curve": lambda eps, bounds: fo.robustness_curve(NET, X, Y, eps=[eps / 2, eps], bounds=bounds, steps=2),
    "certify": lambda eps, bounds: fo.certify(NET, X, Y, eps=eps, bounds=bounds),
    "trace": lambda eps, bounds: dynamics.trace(NET, X, Y, eps=eps, bounds=bounds, steps=2),
    "stationarity": of_stationarity,
    "distinct_maxima": of_maxima,
    "regularity": lambda eps, bounds: dynamics.regularity(
        NET, X, Y, eps=eps, norm="linf", bounds=bounds, starts=2, steps=2
    ),
    "train": of_training,
}


@pytest.mark.parametrize("function", WITH_A_BOX)
def test_a_radius_in_grey_levels_is_answered_once_with_the_units(function):
    with pytest.warns(
        UserWarning, match=r"eps: every point of the box \[0, 1\] is within 8, .*: 8 grey levels .* eps=8/255"
    ) as seen:
        WITH_A_BOX[function](8, (0, 1))
    assert [warning.filename for warning in seen] == [__file__]


@pytest.mark.parametrize("function", WITH_A_BOX)
def test_the_box_alone_is_what_the_warning_of_a_radius_says(function):
    inside = dynamics.stationarity(NET, X, Y, x0=X, eps=1, bounds=(0, 1))
    assert (inside.slack == 1).all()
    WITH_A_BOX[function](1, (0, 1))  # warnings are errors
    largest = fo.pgd(NET, X, Y, eps=1, bounds=(0, 1), steps=1, step_size=1.0).x_adv
    assert set(np.unique(largest)) == {0.0, 1.0}


@pytest.mark.parametrize("eps", [8, 8.0, np.float32(8), np.array([0.1, 8, 0.1, np.inf]), [0.1, 0.1, 0.1, 8]])
@pytest.mark.parametrize("bounds", [(0, 1), [0.0, 1.0], (np.zeros(8), np.ones(8)), (np.float32(0), 1)])
@pytest.mark.parametrize("norm", ["linf", "Linf", "INF", "infinity", np.inf])
def test_a_radius_in_grey_levels_is_known_however_it_is_spelled(eps, bounds, norm):
    with pytest.warns(UserWarning, match="is within 8, "):
        fo.pgd(NET, X, Y, eps=eps, bounds=bounds, norm=norm, steps=1, step_size=0.1)


@pytest.mark.parametrize(
    ("eps", "norm", "bounds"), [(1, "linf", (0, 1)), (8, "l2", (0, 1)), (8, "linf", (0, 255)), (8, "linf", None)]
)
def test_a_radius_that_the_box_does_not_make_idle_is_no_reason_to_warn(eps, norm, bounds):
    assert fo.pgd(NET, X, Y, eps=eps, norm=norm, steps=1, bounds=bounds).x_adv.shape == X.shape  # warnings are errors


def test_models_of_other_libraries_are_answered_with_what_takes_them():
    with pytest.raises(
        TypeError, match=r"net: expected a TwoLayerNetwork, .*; read it with pyfirstorder.load_network\(path\)"
    ):
        fo.pgd("net.npz", X, Y, eps=0.1)
    with pytest.raises(TypeError, match=r"models.from_flax\(parameters, activation=...\)"):
        fo.forward({"w": X}, X)
    with pytest.raises(TypeError, match=r"got an array of float64 with shape \(4, 8\)$"):
        fo.pgd(X, X, Y, eps=0.1)


def test_modules_of_torch_are_answered_with_what_takes_them():
    nn = pytest.importorskip("torch.nn", reason="needs torch")
    module = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))
    with pytest.raises(TypeError, match=r"interop.torch.pgd\(module, ...\), .*models.from_torch\(module\)"):
        fo.pgd(module, X, Y, eps=0.1)
    with pytest.raises(TypeError, match=r"load it into its module with module.load_state_dict\(...\)"):
        fo.predict(module.state_dict(), X)


def test_estimators_and_models_of_keras_are_answered_with_what_reads_them():
    neural_network = pytest.importorskip("sklearn.neural_network", reason="needs scikit-learn")
    from sklearn.pipeline import make_pipeline

    for estimator in (neural_network.MLPClassifier(), make_pipeline(neural_network.MLPClassifier())):
        with pytest.raises(TypeError, match=r"models.from_sklearn\(estimator\)"):
            fo.pgd(estimator, X, Y, eps=0.1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:keras")
def test_models_of_keras_are_answered_with_what_reads_them(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="needs keras")
    with pytest.raises(TypeError, match=r"models.from_keras\(model\)"):
        fo.evaluate(keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)]), X, Y, eps=0.1)
