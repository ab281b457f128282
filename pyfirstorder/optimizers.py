"""How training moves weights along their gradients: stochastic gradient descent with momentum, and Adam.

With a penalty ``½ λ₂ (‖W‖² + ‖A‖²)`` the gradient of a weight w is ``g + λ₂ w``; decay shrinks the weight beside the
step instead (Loshchilov & Hutter 2019, arXiv 1711.05101)::

    w ← (1 − η λ) w − η direction(g + λ₂ w)

Biases know neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyfirstorder.gradients import Parameters
    from pyfirstorder.problem import Array

OPTIMIZERS = ("sgd", "adam")
# Kingma & Ba 2015 (arXiv 1412.6980), algorithm 1.
_ADAM_BETA1, _ADAM_BETA2, _ADAM_GUARD = 0.9, 0.999, 1e-8


class Rates(NamedTuple):
    """How far a step goes."""

    learning_rate: float  # η
    momentum: float  # of sgd
    weight_decay: float  # λ
    l2_penalty: float  # λ₂


class Optimizer:
    """Moves some of the parameters in place, from the gradients of all."""

    def __init__(self, name: str, parameters: Parameters, moved: tuple[str, ...], rates: Rates) -> None:
        self.rates, self.moved = rates, moved
        self.parameters = {part: getattr(parameters, part) for part in moved}
        self.rule = Adam(self.parameters) if name == "adam" else MomentumDescent(self.parameters, rates.momentum)

    def step(self, gradients: Parameters) -> None:
        """One step."""
        rate, _, decay, penalty = self.rates
        found = {part: getattr(gradients, part) for part in self.moved}
        if penalty:
            for part, w in self.parameters.items():
                found[part] = found[part] + penalty * w if w.ndim == 2 else found[part]
        for part, direction in self.rule.directions(found).items():
            w = self.parameters[part]
            np.subtract((1 - rate * decay) * w if w.ndim == 2 else w, rate * direction, out=w)

    def state(self) -> dict[str, Array]:
        """What the next step depends on besides parameters and gradients."""
        slots = {f"{slot}_{part}": array for slot, parts in self.rule.slots.items() for part, array in parts.items()}
        return {**slots, "steps": np.array(self.rule.steps)}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Go on from where `state` was taken."""
        self.rule.steps = int(state["steps"])
        for slot, parts in self.rule.slots.items():
            for part, array in parts.items():
                parts[part] = np.array(state[f"{slot}_{part}"], dtype=array.dtype).reshape(array.shape)


class MomentumDescent:
    """Directions ``v ← μ v + g``."""

    def __init__(self, parameters: Mapping[str, Array], momentum: float) -> None:
        self.steps, self.momentum = 0, momentum
        self.slots = {"velocity": {part: np.zeros_like(w) for part, w in parameters.items()}}

    def directions(self, gradients: Mapping[str, Array]) -> dict[str, Array]:
        self.steps += 1
        velocity = {part: self.momentum * self.slots["velocity"][part] + g for part, g in gradients.items()}
        self.slots["velocity"] = velocity
        return velocity


class Adam:
    """Directions ``m̂ / (√v̂ + guard)`` from running means m of g and v of g², corrected for their start at zero."""

    def __init__(self, parameters: Mapping[str, Array]) -> None:
        self.steps = 0
        self.slots = {slot: {part: np.zeros_like(w) for part, w in parameters.items()} for slot in ("mean", "square")}

    def directions(self, gradients: Mapping[str, Array]) -> dict[str, Array]:
        self.steps += 1
        b1, b2 = _ADAM_BETA1, _ADAM_BETA2
        mean = {part: b1 * self.slots["mean"][part] + (1 - b1) * g for part, g in gradients.items()}
        square = {part: b2 * self.slots["square"][part] + (1 - b2) * g * g for part, g in gradients.items()}
        self.slots = {"mean": mean, "square": square}
        mean_weight, square_weight = 1 - b1**self.steps, 1 - b2**self.steps
        return {
            part: (m / mean_weight) / (np.sqrt(square[part] / square_weight) + _ADAM_GUARD) for part, m in mean.items()
        }
