"""Attacks on random networks of given shape: what the benchmarks run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import pyfirstorder as fo


@dataclass(frozen=True)
class Workload:
    """A projected-gradient attack; the flops are those of the plain loop, whatever an engine leaves out."""

    name: str
    features: int
    hidden: int
    outputs: int
    samples: int
    steps: int
    norm: str
    dtype: str = "float32"
    activation: str = "relu"
    bounds: tuple[float, float] | None = None
    threads: int = 1
    options: dict[str, Any] = field(default_factory=dict)

    def problem(self) -> tuple[fo.TwoLayerNetwork, np.ndarray, np.ndarray]:
        """Network, samples and targets."""
        rng = np.random.default_rng(0)
        w = rng.standard_normal((self.hidden, self.features)) / np.sqrt(self.features)
        a = rng.standard_normal((self.outputs, self.hidden)) / np.sqrt(self.hidden)
        net = fo.TwoLayerNetwork(w.astype(self.dtype), a.astype(self.dtype), activation=self.activation)
        x = rng.random((self.samples, self.features)).astype(self.dtype)
        if self.outputs == 1:
            return net, x, rng.standard_normal((self.samples, 1)).astype(self.dtype)
        return net, x, rng.integers(0, self.outputs, self.samples)

    def run(self, net: fo.TwoLayerNetwork, x: np.ndarray, y: np.ndarray, **changes: Any) -> fo.AttackResult:
        """Attack; retirement is off, so that every step is taken."""
        eps = {"linf": 0.1, "l2": 3.0, "l1": 20.0}[self.norm]
        options = {
            "eps": eps,
            "norm": self.norm,
            "steps": self.steps,
            "bounds": self.bounds,
            "threads": self.threads,
            "retire": False,
        }
        return fo.pgd(net, x, y, **(options | self.options | changes))

    def flops(self) -> float:
        """4 (d + k) m a sample and step, and a last forward pass."""
        return 4.0 * self.samples * self.hidden * (self.features + self.outputs) * (self.steps + 0.5)


DENSE = (
    Workload("784-1024-1 linf", 784, 1024, 1, 1920, 10, "linf"),
    Workload("784-1024-1 linf, float64", 784, 1024, 1, 960, 10, "linf", dtype="float64"),
    Workload("784-512-10 linf in a box", 784, 512, 10, 1000, 20, "linf", bounds=(0.0, 1.0)),
    Workload("784-512-10 linf in a box, 2 threads", 784, 512, 10, 2000, 20, "linf", bounds=(0.0, 1.0), threads=2),
    Workload("784-1024-1 l2 softplus", 784, 1024, 1, 960, 10, "l2", activation="softplus"),
    Workload("784-512-10 l2 in a box", 784, 512, 10, 1000, 10, "l2", bounds=(0.0, 1.0)),
    Workload("784-512-10 l1 in a box", 784, 512, 10, 1000, 10, "l1", bounds=(0.0, 1.0)),
    Workload("3072-512-10 l2", 3072, 512, 10, 480, 10, "l2"),
)
