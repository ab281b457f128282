"""foolbox's gradient attacks with one import changed: the original's end points, criteria and results."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

foolbox = pytest.importorskip("foolbox", reason="needs foolbox")
from pyfirstorder.interop import foolbox as ours  # noqa: E402

SHAPE, CLASSES = (2, 4, 4), 4
NAMES = (
    *("LinfPGD", "L2PGD", "L1PGD", "LinfBasicIterativeAttack", "L2BasicIterativeAttack", "L1BasicIterativeAttack"),
    *("FGSM", "FGM", "L1FastGradientAttack", "LinfAdamPGD", "L2AdamPGD", "L1AdamPGD"),
)
EPSILONS = {"Linf": [0.03, 0.1], "FGSM": [0.03, 0.1], "L2": [0.2, 0.7], "FGM": [0.2, 0.7], "L1": [0.5, 3.0]}
every_name = pytest.mark.parametrize("name", NAMES)


def make(samples=12, bounds=(0, 1), preprocessing=None, activation=None):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(32, 24), activation or torch.nn.Softplus(3), torch.nn.Linear(24, CLASSES)
    ).eval()
    images = torch.rand(samples, *SHAPE) * (bounds[1] - bounds[0]) + bounds[0]
    return foolbox.PyTorchModel(model, bounds, preprocessing=preprocessing), images, torch.arange(samples) % CLASSES


def epsilons_of(name):
    return next(radii for start, radii in EPSILONS.items() if name.startswith(start))


def run(module, name, model, images, criterion, epsilons=None, **options):
    torch.manual_seed(7)
    return getattr(module, name)(**options)(model, images, criterion, epsilons=epsilons or epsilons_of(name))


def hold_equal(actual, expected):
    """Raw points, clipped points and success, within rounding."""
    for mine, theirs in zip(actual[:2], expected[:2]):
        for one, other in zip(mine, theirs):
            assert one.dtype == other.dtype
            torch.testing.assert_close(one, other, rtol=0, atol=3e-6)
    assert torch.equal(actual[2], expected[2])


@every_name
def test_end_points_are_those_of_the_original(name):
    model, images, labels = make()
    expected = run(foolbox.attacks, name, model, images, labels)
    actual = run(ours, name, model, images, labels)
    assert (expected[0][1] - images).abs().max() > 0.01
    hold_equal(actual, expected)


@pytest.mark.parametrize("name", ["LinfPGD", "L2PGD", "L1PGD", "LinfBasicIterativeAttack"])
def test_targeted_criteria_are_those_of_the_original(name):
    model, images, labels = make()
    criterion = foolbox.criteria.TargetedMisclassification((labels + 1) % CLASSES)
    hold_equal(*(run(module, name, model, images, criterion) for module in (ours, foolbox.attacks)))


@pytest.mark.parametrize("name", ["LinfPGD", "L2PGD", "FGSM"])
@pytest.mark.parametrize("bounds", [(0, 1), (-1, 3)])
def test_preprocessing_and_bounds_are_those_of_the_model(name, bounds):
    for preprocessing in ({"mean": [0.3, 0.6], "std": [0.2, 0.4], "axis": -3}, {"mean": 0.5}, {"std": 2.0}):
        given = {key: value if key == "axis" else np.float32(value) for key, value in preprocessing.items()}
        model, images, labels = make(bounds=bounds, preprocessing=given)
        hold_equal(*(run(module, name, model, images, labels) for module in (ours, foolbox.attacks)))


@pytest.mark.parametrize("name", ["LinfPGD", "L2PGD"])
def test_step_sizes_starts_and_single_radii_are_those_of_the_original(name):
    model, images, labels = make()
    for options in ({"abs_stepsize": 0.02, "steps": 5}, {"rel_stepsize": 0.3, "steps": 5, "random_start": False}):
        hold_equal(*(run(module, name, model, images, labels, **options) for module in (ours, foolbox.attacks)))
    actual, expected = (run(module, name, model, images, labels, 0.1) for module in (ours, foolbox.attacks))
    torch.testing.assert_close(actual[0], expected[0], rtol=0, atol=3e-6)
    assert actual[2].shape == expected[2].shape == (len(images),)


def test_repetition_is_the_originals():
    model, images, labels = make()
    found = []
    for module in (ours, foolbox.attacks):
        torch.manual_seed(3)
        found.append(module.LinfPGD(steps=5).repeat(3)(model, images, labels, epsilons=[0.05, 0.1]))
    hold_equal(*found)


def test_arguments_and_repr_are_the_originals():
    for name in NAMES:
        mine, theirs = getattr(ours, name)(), getattr(foolbox.attacks, name)()
        assert isinstance(mine, type(theirs))
        assert repr(mine) == repr(theirs)


@pytest.mark.parametrize("name", ["LinfPGD", "L2PGD", "FGSM"])
def test_what_the_engine_cannot_attack_is_sent_to_the_original(name):
    _, images, labels = make()
    full_name = {"LinfPGD": "LinfProjected", "L2PGD": "L2Projected", "FGSM": "LinfFast"}[name]
    conv = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Flatten(), torch.nn.Linear(12, CLASSES)).eval()
    with pytest.raises(ValueError, match=rf"layer 0 \(Conv2d\).*use foolbox\.attacks\.{full_name}"):
        run(ours, name, foolbox.PyTorchModel(conv, (0, 1)), images, labels)
    numpy_model = foolbox.NumPyModel(lambda x: np.zeros((len(x), 4), np.float32), (0, 1))
    with pytest.raises(
        TypeError, match=rf"expected a foolbox\.PyTorchModel, got NumPyModel; use foolbox\.attacks\.{full_name}"
    ):
        run(ours, name, numpy_model, images.numpy(), labels.numpy())
    flipped, *_ = make(preprocessing={"flip_axis": -3})
    with pytest.raises(ValueError, match=r"without flip_axis; use foolbox\.attacks"):
        run(ours, name, flipped, images, labels)


def test_unsupported_criteria_are_refused_as_by_the_original():
    model, images, labels = make()
    targeted = foolbox.criteria.TargetedMisclassification(labels)
    for module in (foolbox.attacks, ours):
        with pytest.raises(ValueError, match="unsupported criterion"):
            run(module, "FGSM", model, images, targeted)
        with pytest.raises(ValueError, match="unsupported criterion"):
            run(module, "LinfPGD", model, images, foolbox.criteria.Misclassification(labels) & targeted)


@every_name
def test_estimators_of_gradients_are_asked_and_not_the_engine(name):
    model, images, labels = make(samples=4)
    points = []
    for module in (foolbox.attacks, ours):
        asked = []

        class Counted(
            foolbox.gradient_estimators.es_gradient_estimator(
                getattr(module, name), samples=4, sigma=0.1, bounds=(0, 1), clip=True
            )
        ):
            def value_and_grad(self, loss_fn, x, asked=asked):
                asked.append(1)
                return super().value_and_grad(loss_fn, x)

        torch.manual_seed(3)
        steps = {} if name in ("FGSM", "FGM", "L1FastGradientAttack") else {"steps": 3}
        points.append(Counted(**steps)(model, images, labels, epsilons=epsilons_of(name)[:1])[0][0])
        assert len(asked) == steps.get("steps", 1)
    assert (points[0] - points[1]).abs().mean() < 0.01  # noise near zero may turn a sign
