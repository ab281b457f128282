"""The reference backend: plain NumPy, the equations as they are written, and the specification of all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyfirstorder.backends.reference import network, philox, projections
from pyfirstorder.backends.reference.attack import attack as _attack

if TYPE_CHECKING:
    from pyfirstorder.problem import Array, AttackArrays, AttackOptions, Ball, Objective, Weights


class ReferenceBackend:
    """See `pyfirstorder.backends.Backend`."""

    name = "reference"
    evaluations = ("auto", "dense")
    takes_device_arrays = False

    def forward(self, weights: Weights, x: Array, threads: int) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            return network.forward(weights, x)

    def input_gradient(
        self, weights: Weights, x: Array, objective: Objective, threads: int
    ) -> tuple[Array, Array, Array]:
        with np.errstate(over="ignore", invalid="ignore"):
            g = network.input_gradient(weights, x, objective)
            return g.loss, g.scale[:, None] * g.direction, g.output

    def project(self, delta: Array, x: Array, ball: Ball, threads: int) -> Array:
        return projections.project(delta, x, ball)

    def multiply(self, left: Array, right: Array, threads: int) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            return left @ right

    def random_start(self, x: Array, ball: Ball, on_sphere: bool, seed: int, restart: int, sample_offset: int) -> Array:
        return philox.random_start(x, np.arange(len(x), like=x) + sample_offset, ball, on_sphere, seed, restart)

    def attack(
        self,
        weights: Weights,
        x: Array,
        objective: Objective,
        ball: Ball,
        options: AttackOptions,
        x_init: Array | None,
    ) -> AttackArrays:
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            return _attack(weights, x, objective, ball, options, x_init)
