"""How training moves weights along their gradients: stochastic gradient descent with momentum, and Adam."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfirstorder.gradients import Parameters
    from pyfirstorder.problem import Array

OPTIMIZERS = ("sgd", "adam")
# Kingma & Ba 2015 (arXiv 1412.6980), algorithm 1.
_ADAM_BETA1, _ADAM_BETA2, _ADAM_GUARD = 0.9, 0.999, 1e-8


def make_optimizer(
    name: str, parameters: Parameters, *, learning_rate: float, momentum: float, weight_decay: float
) -> Callable[[Parameters], None]:
    """A function that takes gradients and moves the parameters in place."""
    rule = Adam(parameters) if name == "adam" else MomentumDescent(parameters, momentum)

    def optimise(gradients: Parameters) -> None:
        for parameter, direction in zip(parameters, rule.directions(gradients)):
            shrink = 1 - learning_rate * weight_decay if parameter.ndim == 2 else 1.0  # weights, not biases
            np.subtract(shrink * parameter, learning_rate * direction, out=parameter)

    return optimise


class MomentumDescent:
    """Directions ``v ← μ v + g``."""

    def __init__(self, parameters: Parameters, momentum: float) -> None:
        self.momentum = momentum
        self.velocity = [np.zeros_like(parameter) for parameter in parameters]

    def directions(self, gradients: Parameters) -> list[Array]:
        self.velocity = [self.momentum * v + g for v, g in zip(self.velocity, gradients)]
        return self.velocity


class Adam:
    """Directions ``m̂ / (√v̂ + guard)`` from running means m of g and v of g², corrected for their start at zero."""

    def __init__(self, parameters: Parameters) -> None:
        self.steps = 0
        self.mean = [np.zeros_like(parameter) for parameter in parameters]
        self.square = [np.zeros_like(parameter) for parameter in parameters]

    def directions(self, gradients: Parameters) -> list[Array]:
        self.steps += 1
        b1, b2 = _ADAM_BETA1, _ADAM_BETA2
        self.mean = [b1 * m + (1 - b1) * g for m, g in zip(self.mean, gradients)]
        self.square = [b2 * v + (1 - b2) * g * g for v, g in zip(self.square, gradients)]
        mean_weight, square_weight = 1 - b1**self.steps, 1 - b2**self.steps
        return [(m / mean_weight) / (np.sqrt(v / square_weight) + _ADAM_GUARD) for m, v in zip(self.mean, self.square)]
