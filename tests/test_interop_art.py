"""ART: its attacks on our classifier, and our projected gradient descent in the place of its own."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from only_import import import_art

import pyfirstorder as fo

torch = pytest.importorskip("torch", reason="torch is not installed")
import_art()

from art.attacks import evasion  # noqa: E402
from art.defences.preprocessor import FeatureSqueezing  # noqa: E402
from art.exceptions import EstimatorError  # noqa: E402
from art.summary_writer import SummaryWriter  # noqa: E402

from pyfirstorder.interop.art import ProjectedGradientDescent, TwoLayerClassifier, descent  # noqa: E402

# ART gives tensors of torch to NumPy, which warns that they are not what it will expect one day.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning"),
]

Original = evasion.ProjectedGradientDescent

SAMPLES, SHAPE, FEATURES, CLASSES = 40, (1, 3, 4), 12, 4
ROUNDING = 3e-6  # of some steps in float32, where the two sum in other orders; smooth networks do not amplify it
NORMS = {"linf": (np.inf, 0.1), "l2": (2, 0.4), "l1": (1, 1.0)}


@pytest.fixture(scope="module", autouse=True)
def one_thread_of_torch():
    """Small batches are faster so, above all where other work is on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def net():
    return make_network(CLASSES)


def make_network(outputs, activation="tanh"):
    generator = np.random.default_rng(0)
    shapes = (16, FEATURES), (outputs, 16), (16,), (outputs,)
    w, a, b, c = (generator.standard_normal(shape).astype(np.float32) / 2 for shape in shapes)
    return fo.TwoLayerNetwork(w, a, b, c, activation)


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(1)
    return generator.random((SAMPLES, *SHAPE), dtype=np.float32), generator.integers(0, CLASSES, SAMPLES)


def ours(net, **options):
    return TwoLayerClassifier(net, SHAPE, **{"clip_values": (0, 1), **options})


def of_torch(net, loss=None, model=None, **options):
    from art.estimators.classification import PyTorchClassifier

    if model is None:
        layers = torch.nn.Linear(FEATURES, 16), torch.nn.Linear(16, CLASSES)
        weights = (net.hidden_weight, net.hidden_bias), (net.output_weight, net.output_bias)
        for layer, (weight, bias) in zip(layers, weights):
            layer.weight.data, layer.bias.data = torch.from_numpy(weight.copy()), torch.from_numpy(bias.copy())
        model = torch.nn.Sequential(torch.nn.Flatten(), layers[0], torch.nn.Tanh(), layers[1])
    options = {"clip_values": (0, 1), "device_type": "cpu", **options}
    return PyTorchClassifier(model, loss or torch.nn.CrossEntropyLoss(), SHAPE, CLASSES, **options)


def ends(attack, classifier, x, y=None, mask=None, **options):
    """End points of an attack of ART from a fixed state of NumPy's global generator."""
    options = {"max_iter": 6, "batch_size": 16, "verbose": False, **options}
    np.random.seed(7)  # noqa: NPY002 - ART draws its starts from the global generator
    return attack(classifier, **options).generate(x, y, **({} if mask is None else {"mask": mask}))


def assert_same_ends(classifier, x, y=None, **options):
    """Ours and the original end at the same points up to rounding, and have moved."""
    want, got = (ends(attack, classifier, x, y, **options) for attack in (Original, ProjectedGradientDescent))
    assert type(got) is type(want)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    assert_allclose(got, want, rtol=0, atol=ROUNDING)
    assert np.abs(want - x).max() > 0.01
    return got


# ------------------------------------------------------------------ the attack in the place of ART's


@pytest.mark.parametrize("make", [ours, of_torch])
@pytest.mark.parametrize("clip_values", [(0, 1), None], ids=["clipped", "unbounded"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("random", [0, 1, 3])
def test_ends_are_those_of_the_original(net, data, make, clip_values, norm, random):
    p, eps = NORMS[norm]
    classifier = make(net, clip_values=clip_values)
    assert_same_ends(classifier, *data, norm=p, eps=eps, eps_step=eps / 4, num_random_init=random)


@pytest.mark.parametrize("make", [ours, of_torch])
@pytest.mark.parametrize("norm", NORMS)
def test_targeted_ends_are_those_of_the_original(net, data, make, norm):
    p, eps = NORMS[norm]
    options = {"norm": p, "eps": eps, "eps_step": eps / 4, "num_random_init": 2, "targeted": True}
    assert_same_ends(make(net), *data, **options)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("labels", ["none", "one-hot", "column", "list"])
def test_labels_are_read_as_the_original_reads_them(net, data, norm, labels):
    x, y = data
    y = {"none": None, "one-hot": np.eye(CLASSES)[y], "column": y[:, None], "list": y.tolist()}[labels]
    p, eps = NORMS[norm]
    classifier = ours(net)
    found = ProjectedGradientDescent(classifier, norm=p, eps=eps, eps_step=eps / 4, max_iter=6, verbose=False)
    if labels == "list":  # which the original does not read
        assert_array_equal(found.generate(x, y), found.generate(x, data[1]))
    else:
        assert_same_ends(classifier, x, y, norm=p, eps=eps, eps_step=eps / 4)


@pytest.mark.parametrize(
    "options",
    [
        {"decay": 0.9},
        {"decay": 0.9, "norm": 2},
        {"decay": 0.0, "norm": 2, "num_random_init": 2},
        {"norm": "inf"},
        {"norm": 3},
        {"max_iter": 1},
        {"batch_size": 1, "num_random_init": 1},
        {"batch_size": 1000, "num_random_init": 2},
        {"random_eps": True},
        {"eps": 1, "eps_step": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("clip_values", [(0, 1), None], ids=["clipped", "unbounded"])
def test_options_mean_what_they_mean_to_the_original(net, data, clip_values, options):
    options = {"eps": 0.3, "eps_step": 0.08, **options}
    assert_same_ends(ours(net, clip_values=clip_values), *data, **options)


@pytest.mark.parametrize("iterations", [0, 1])
def test_without_steps_or_radius_samples_stay(net, data, iterations):
    for attack in (Original, ProjectedGradientDescent):
        found = ends(attack, ours(net), *data, max_iter=iterations, num_random_init=2, eps=float(iterations == 0))
        assert_array_equal(found, data[0])


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("shape", [(SAMPLES, *SHAPE), SHAPE, (4,)], ids=str)
def test_radii_may_be_arrays(net, data, norm, shape):
    p, eps = NORMS[norm]
    eps = np.full(shape, eps)
    assert_same_ends(ours(net), *data, norm=p, eps=eps, eps_step=eps / 4, batch_size=SAMPLES)


def test_radii_may_differ_between_samples(net, data):
    eps = np.linspace(0.01, 0.3, SAMPLES).reshape(-1, 1, 1, 1)
    assert_same_ends(of_torch(net), *data, eps=eps, eps_step=eps / 4)


def test_radii_may_differ_between_features(net, data):
    eps = np.linspace(0.01, 0.3, FEATURES).reshape(SHAPE)
    got = assert_same_ends(of_torch(net), *data, eps=eps, eps_step=eps / 4)
    assert (np.abs(got - data[0]) <= eps + 1e-6).all()


@pytest.mark.parametrize("shape", [(SAMPLES, *SHAPE), SHAPE], ids=str)
@pytest.mark.parametrize("norm", NORMS)
def test_masked_features_stay(net, data, norm, shape):
    p, eps = NORMS[norm]
    mask = np.random.default_rng(3).integers(0, 2, shape).astype(np.float32)
    options = {"norm": p, "eps": eps, "eps_step": eps / 4, "mask": mask, "num_random_init": 1}
    got = assert_same_ends(of_torch(net), *data, **options)
    assert not ((got != data[0]) & (np.broadcast_to(mask, data[0].shape) == 0)).any()


@pytest.mark.parametrize("shape", [SHAPE, SHAPE[1:], SHAPE[2:]], ids=str)
def test_clip_values_may_be_arrays(net, data, shape):
    clip = np.zeros(shape, np.float32), np.full(shape, 0.999, np.float32)
    x = np.clip(data[0], *clip)
    assert_same_ends(ours(net, clip_values=clip), x, data[1], eps=0.1, eps_step=0.03)


def test_samples_outside_of_the_clip_values_are_treated_as_by_the_original(net, data):
    assert_same_ends(ours(net, clip_values=(0.2, 0.8)), *data, eps=0.1, eps_step=0.03)


@pytest.mark.parametrize("make", [ours, of_torch])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("std", [0.3, np.linspace(0.2, 0.5, 4, dtype=np.float32)], ids=["number", "array"])
def test_preprocessing_is_part_of_the_network(net, data, make, norm, std):
    p, eps = NORMS[norm]
    classifier = make(net, preprocessing=(0.4 + 0 * std, std))
    assert_same_ends(classifier, *data, norm=p, eps=eps, eps_step=eps / 8)


def test_float64_samples_are_attacked_in_float32_as_by_the_original(net, data):
    assert_same_ends(ours(net), data[0].astype(np.float64), data[1], eps=0.1, eps_step=0.03)


@pytest.mark.parametrize("clip_values", [(0, 1), None], ids=["clipped", "unbounded"])
@pytest.mark.parametrize("norm", NORMS)
def test_perturbations_stay_in_ball_and_box(net, data, norm, clip_values):
    p, eps = NORMS[norm]
    classifier = ours(net, clip_values=clip_values)
    got = ends(ProjectedGradientDescent, classifier, *data, norm=p, eps=eps, eps_step=eps, num_random_init=1)
    delta = (got.astype(np.float64) - data[0]).reshape(SAMPLES, -1)
    slack = 0 if p == np.inf or (p == 2 and clip_values is None) else 1e-6  # ART's own loop rounds either way
    assert (np.linalg.norm(delta, ord=p, axis=1) <= eps + slack).all()
    assert clip_values is None or ((got >= -slack) & (got <= 1 + slack)).all()


def test_the_engine_runs_what_it_projects_as_the_original_does(net, data, monkeypatch):
    monkeypatch.setattr(descent, "_Loop", None)
    for norm, clip_values in ((np.inf, (0, 1)), (np.inf, None), (2, None)):
        ends(ProjectedGradientDescent, ours(net, clip_values=clip_values), *data, norm=norm, num_random_init=2)


def test_a_certain_network_is_attacked_where_the_original_stands_still(data):
    x, y = data[0], np.zeros(SAMPLES, int)
    net = fo.TwoLayerNetwork(np.eye(FEATURES), np.outer([1e4, -1e4], np.ones(FEATURES)))
    classifier = TwoLayerClassifier(net, SHAPE)
    assert_array_equal(ends(Original, classifier, x, y), x)
    assert (ends(ProjectedGradientDescent, classifier, x, y) != x).all()


def test_weights_of_torch_are_read_anew_by_every_call(net, data):
    classifier = of_torch(net)
    attack = ProjectedGradientDescent(classifier, max_iter=3, verbose=False)
    before = attack.generate(*data)
    classifier.model[1].weight.data *= -1
    assert (attack.generate(*data) != before).any()
    assert_same_ends(classifier, *data, max_iter=3)


def test_settings_may_change(net, data):
    attack = ProjectedGradientDescent(ours(net), verbose=False, max_iter=3)
    changes = {"eps": 0.01, "eps_step": 0.005, "decay": 0.5}
    attack.set_params(**changes)
    want = ends(ProjectedGradientDescent, ours(net), *data, max_iter=3, **changes)
    assert_array_equal(attack.generate(*data), want)
    with pytest.raises(ValueError, match="eps"):
        attack.set_params(eps=-1)


def test_the_constructor_is_that_of_the_original(net):
    def arguments(attack):
        return [(p.name, p.kind, p.default) for p in inspect.signature(attack).parameters.values()]

    assert arguments(ProjectedGradientDescent) == arguments(Original)
    assert issubclass(ProjectedGradientDescent, Original)
    assert repr(ProjectedGradientDescent(ours(net))) == repr(Original(ours(net)))


def test_a_success_rate_is_logged(net, data, caplog):
    caplog.set_level("INFO", logger=descent.logger.name)
    ends(ProjectedGradientDescent, ours(net), *data)
    assert "Success rate of attack" in caplog.text


def test_summary_writers_are_told_of_every_step_as_by_the_original(net, data):
    class Steps(SummaryWriter):
        def __init__(self):  # that of ART needs tensorboardX
            self.gradients, self.resets = [], 0

        def update(self, batch_id, global_step, grad=None, **kwargs):
            self.gradients.append((global_step, grad))

        def reset(self):
            self.resets += 1

    told = {attack: Steps() for attack in (Original, ProjectedGradientDescent)}
    for attack, steps in told.items():
        ends(attack, ours(net), *data, batch_size=SAMPLES, summary_writer=steps)
    theirs, mine = told.values()
    assert (mine.resets, len(mine.gradients)) == (theirs.resets, 6)
    for (step, gradient), (their_step, want) in zip(mine.gradients, theirs.gradients):
        assert step == their_step
        assert_allclose(gradient, want, atol=ROUNDING)


# ------------------------------------------------------------------ what is refused


def test_models_that_are_no_two_layer_networks_are_refused_with_the_class_to_use(net):
    deep = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(FEATURES, 5), torch.nn.ReLU(), torch.nn.Linear(5, 5), torch.nn.ReLU(),
        torch.nn.Linear(5, CLASSES),
    )  # fmt: skip
    with pytest.raises((TypeError, ValueError), match=r"estimator: .*use art\.attacks\.evasion\.ProjectedGradientDesc"):
        ProjectedGradientDescent(of_torch(net, model=deep))


def test_losses_that_the_engine_has_not_are_refused_with_the_class_to_use(net):
    for loss in (torch.nn.MultiMarginLoss(), torch.nn.CrossEntropyLoss(label_smoothing=0.1)):
        with pytest.raises(ValueError, match=r"CrossEntropyLoss .*use art\.attacks\.evasion\.ProjectedGradientDescent"):
            ProjectedGradientDescent(of_torch(net, loss=loss))


def test_preprocessing_defences_are_refused_with_the_class_to_use(net):
    defence = FeatureSqueezing(clip_values=(0, 1))
    with pytest.raises(ValueError, match=r"preprocessing .*use art\.attacks\.evasion\.ProjectedGradientDescent"):
        ProjectedGradientDescent(ours(net, preprocessing_defences=defence))


def test_estimators_without_gradients_are_refused_as_by_the_original(net):
    with pytest.raises(EstimatorError):
        Original(net)
    with pytest.raises(TypeError, match=r"estimator: .* got a TwoLayerNetwork; .* or pass .*TwoLayerClassifier\(net\)"):
        ProjectedGradientDescent(net)


def test_a_targeted_attack_needs_targets(net, data):
    for attack in (Original, ProjectedGradientDescent):
        with pytest.raises(ValueError, match="targeted"):
            ends(attack, ours(net), data[0], targeted=True)


# ------------------------------------------------------------------ the classifier


@pytest.mark.parametrize("preprocessing", [(0.0, 1.0), (0.4, 0.3)], ids=["raw", "standardised"])
def test_logits_and_gradients_are_those_of_arts_classifier_of_the_same_network(net, data, preprocessing):
    x, y = data
    mine, theirs = (make(net, preprocessing=preprocessing) for make in (ours, of_torch))
    assert_allclose(mine.predict(x), theirs.predict(x), atol=ROUNDING)
    one_hot = np.eye(CLASSES, dtype=np.float32)[y]
    assert_allclose(mine.loss_gradient(x, one_hot), theirs.loss_gradient(x, one_hot) * SAMPLES, atol=ROUNDING)
    assert_allclose(mine.compute_loss(x, y), theirs.compute_loss(x, one_hot, reduction="none"), atol=ROUNDING)
    for label in (None, 2, y):
        got, want = mine.class_gradient(x, label), theirs.class_gradient(x, label)
        assert got.dtype == np.float32
        assert_allclose(got, want, atol=ROUNDING)


def test_labels_may_be_probabilities(net, data):
    x = data[0]
    p = np.random.default_rng(5).dirichlet(np.ones(CLASSES), SAMPLES).astype(np.float32)
    mine, theirs = ours(net), of_torch(net)
    assert_allclose(mine.loss_gradient(x, p), theirs.loss_gradient(x, p) * SAMPLES, atol=ROUNDING)
    assert_allclose(mine.compute_loss(x, p), theirs.compute_loss(x, p, reduction="none"), atol=ROUNDING)
    assert_same_ends(theirs, x, p, eps=0.1, eps_step=0.03)


def test_a_single_output_is_two_classes(data):
    x = data[0]
    net = make_network(1)
    classifier = TwoLayerClassifier(net, SHAPE)
    assert classifier.nb_classes == 2
    logits = classifier.predict(x)
    assert_array_equal(2 * np.argmax(logits, axis=1) - 1, fo.predict(net, x))
    y = np.arange(SAMPLES) % 2
    loss, gradient = fo.input_gradient(net, x, 2 * y - 1, loss="logistic")
    assert_allclose(classifier.compute_loss(x, y), loss, atol=ROUNDING)
    assert_allclose(classifier.loss_gradient(x, y), gradient, atol=ROUNDING)
    assert_same_ends(classifier, x, y, eps=0.1, eps_step=0.03)


ATTACKS = {
    "FastGradientMethod": {},
    "BasicIterativeMethod": {"max_iter": 5, "verbose": False},
    "MomentumIterativeMethod": {"max_iter": 5, "verbose": False},
    "AutoProjectedGradientDescent": {"max_iter": 5, "verbose": False},
    "DeepFool": {"max_iter": 5, "verbose": False},
    "CarliniL2Method": {"max_iter": 3, "batch_size": SAMPLES, "verbose": False},
    "ElasticNet": {"max_iter": 3, "batch_size": SAMPLES, "verbose": False},
    "SaliencyMapMethod": {"verbose": False},
    "SquareAttack": {"max_iter": 20, "p_init": 0.1, "verbose": False},
    "HopSkipJump": {"max_iter": 1, "max_eval": 20, "init_eval": 5, "verbose": False},
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_of_art_run_on_the_classifier(net, data, name):
    x = data[0]
    classifier = ours(net)
    np.random.seed(0)  # noqa: NPY002 - ART draws from the global generator
    found = getattr(evasion, name)(classifier, **ATTACKS[name]).generate(x)
    assert found.shape == x.shape
    assert (np.argmax(classifier.predict(found), axis=1) != np.argmax(classifier.predict(x), axis=1)).any()


def test_hidden_activations_and_logits_are_layers(net, data):
    x = data[0]
    classifier = ours(net)
    hidden = classifier.get_activations(x, "hidden")
    assert_allclose(hidden, np.tanh(x.reshape(SAMPLES, -1) @ net.hidden_weight.T + net.hidden_bias), atol=ROUNDING)
    assert_array_equal(classifier.get_activations(x, 1), classifier.predict(x))
    assert classifier.layer_names == ["hidden", "logits"]
    with pytest.raises(ValueError, match="layer: expected"):
        classifier.get_activations(x, 2)


def test_the_model_may_be_replaced(net, data):
    classifier = ours(net)
    other = make_network(CLASSES, "relu")
    classifier.set_params(model=other)
    assert_array_equal(classifier.predict(data[0]), fo.forward(other, data[0]))


def test_training_is_refused_with_the_way_to_train(net, data):
    with pytest.raises(NotImplementedError, match=r"pyfirstorder\.training\.train"):
        ours(net).fit(*data)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((None,), TypeError, "model: expected a TwoLayerNetwork"),
        ((make_network(3), (5, 5)), ValueError, "input_shape: expected 12 features"),
    ],
    ids=["model", "shape"],
)
def test_a_classifier_of_something_else_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        TwoLayerClassifier(*arguments)


def test_labels_and_reductions_beyond_what_there_is_are_refused(net, data):
    with pytest.raises(ValueError, match="label: expected classes from 0 to 3"):
        ours(net).class_gradient(data[0], 4)
    with pytest.raises(ValueError, match="reduction: expected"):
        ours(net).compute_loss(*data, reduction="median")
