"""One step of training, and where training stands: all that decides what comes next, as named arrays and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder import api, ascent, backends, boxes, checks, validate
from pyfirstorder.backends.reference.attack import take_objective
from pyfirstorder.gradients import Parameters, weight_gradients
from pyfirstorder.network import TwoLayerNetwork
from pyfirstorder.problem import Status
from pyfirstorder.results import warn_of_ends
from pyfirstorder.training.history import Epoch
from pyfirstorder.training.targets import Targets, rows_of

if TYPE_CHECKING:
    from pyfirstorder.optimizers import Optimizer
    from pyfirstorder.problem import Array


@dataclass
class Position:
    """How far training came: whole epochs, and what is known of the one that it is in."""

    history: list[Epoch] = field(default_factory=list)
    order: Array | None = None  # of the samples, None between epochs
    begin: int = 0  # of the next mini-batch, in that order
    loss: float = 0.0  # sum over the samples of this epoch so far
    correct: int = 0
    seconds: float = 0.0  # spent on this epoch

    def arrays(self) -> dict[str, Array]:
        """For a checkpoint."""
        return {
            "history": np.array(self.history, dtype=np.float64).reshape(-1, len(Epoch._fields)),  # None becomes NaN
            "order": np.empty(0, np.int64) if self.order is None else self.order,
            "place": np.array([self.begin, self.correct]),
            "sums": np.array([self.loss, self.seconds]),
        }

    @staticmethod
    def of(arrays: Mapping[str, Array]) -> Position:
        """From a checkpoint."""
        rows = [[None if np.isnan(part) else float(part) for part in row] for row in arrays["history"]]
        order = arrays["order"] if len(arrays["order"]) else None
        begin, correct = map(int, arrays["place"])
        loss, seconds = map(float, arrays["sums"])
        return Position([Epoch(*row) for row in rows], order, begin, loss, correct, seconds)  # type: ignore[arg-type]


class Trainer:
    """The samples, the weights (changed in place by the optimiser) and, if there is one, the adversary."""

    def __init__(
        self,
        rows: Array,
        targets: Targets,
        parameters: Parameters,
        activation: str,
        generator: np.random.Generator,
        optimizer: Optimizer,
        adversary: Mapping[str, Any] | None,
        backend: str,
        threads: int | None,
    ) -> None:
        self.rows, self.targets, self.parameters, self.activation = rows, targets, parameters, activation
        self.generator, self.optimizer = generator, optimizer
        self.was_flat = np.zeros(len(rows), dtype=bool)  # where the adversary met a gradient of exactly zero
        self.attack = None if adversary is None else _attack_of(adversary)
        chosen, count = backends.get(validate.backend(backend)), validate.threads(threads)
        self.backend_name = chosen.name
        self.engine: dict[str, Any] = {"backend": backend, "threads": count}
        self.forward = partial(chosen.forward, threads=count)
        self.gradients = partial(
            weight_gradients,
            self.parameters,
            activation,
            multiply=partial(chosen.multiply, threads=count),
            output_layer=any(part.startswith("output") for part in optimizer.moved),
        )
        self.objective = validate.objective(
            self.network(), targets.values, len(rows), rows.dtype, targets.loss, targeted=False
        )

    def network(self) -> TwoLayerNetwork:
        """The network as it is now."""
        w, b, a, c = self.parameters
        return TwoLayerNetwork(w, a[0] if self.targets.scalar_output else a, b, c, self.activation)

    def step(self, batch: Array) -> tuple[float, int]:
        """Train on some of the samples; the sum of their losses (NaN if weights overflow), and how many were right.

        What overflows shows in that sum, so NumPy says nothing of it.
        """
        x = self.rows[batch] if self.attack is None else self._attacked(batch, self.attack)
        with np.errstate(over="ignore", invalid="ignore"):
            value, output, gradients = self.gradients(x, take_objective(self.objective, batch))
            self.optimizer.step(gradients)
        if not all(checks.all_finite(part) for part in self.parameters):
            return np.nan, 0
        return float(np.sum(value, dtype=np.float64)), self.targets.correct(output, batch)

    def _attacked(self, batch: Array, adversary: dict[str, Any]) -> Array:
        """Adversarial examples of the samples of a mini-batch, for the network as it is now."""
        seed = int(self.generator.integers(2**63))
        options = {"seed": seed, "loss": self.targets.loss, **self.engine, **adversary}
        result = ascent.ascent_of(self.network(), self.rows[batch], self.targets.values[batch], **options)
        self.was_flat[batch] |= result.status == Status.ZERO_GRADIENT
        return result.x_adv

    def arrays(self) -> dict[str, Array]:
        """What the next step depends on, for a checkpoint."""
        return {
            **self.parameters._asdict(),
            **{f"optimizer_{name}": array for name, array in self.optimizer.state().items()},
            "generator": np.array(json.dumps(self.generator.bit_generator.state)),
        }

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Go on from a checkpoint."""
        for part, kept in zip(self.parameters, self.parameters._fields):
            np.copyto(part, arrays[kept])
        start = "optimizer_"
        self.optimizer.restore({n.removeprefix(start): array for n, array in arrays.items() if n.startswith(start)})
        self.generator.bit_generator.state = json.loads(str(arrays["generator"]))

    def checked_validation(self, validation: object) -> tuple[Array, Array]:
        """The held-out rows and their classes."""
        if not isinstance(validation, (tuple, list)) or len(validation) != 2:
            raise TypeError(f"validation: expected None or a pair (x, y), got {checks.describe(validation)}")
        if self.targets.labels is None:
            raise ValueError("validation: expected None, because accuracy needs classes and y holds numbers")
        x, y = validation
        rows = rows_of("validation", x, self.rows.dtype)
        if rows.shape[1] != self.rows.shape[1]:
            raise ValueError(
                f"validation: expected {self.rows.shape[1]} numbers a sample, as in x, got {rows.shape[1]}"
            )
        loss = "logistic" if self.targets.has_signs else "cross_entropy"
        found = validate.objective(self.network(), y, len(rows), rows.dtype, loss, targeted=False)
        labels = found.labels if found.values is None else found.values[:, 0]
        assert labels is not None
        return rows, labels

    def warn_of_radius(self) -> None:
        """What `pgd` would warn of at every step."""
        if self.attack is not None:
            settings = ascent.arguments("pgd", {name: part for name, part in self.attack.items() if name != "eps"})
            boxes.warn_of_radius(self.attack["eps"], settings["norm"], settings["bounds"])

    def warn(self, stacklevel: int) -> None:
        """What `pgd` would have warned of at some step of this run, once for all of them."""
        if self.attack is None:
            return
        # One that overflows is no end of its own here: it ends the training.
        ends = np.where(self.was_flat, Status.ZERO_GRADIENT, Status.STEPS_USED_UP)
        warn_of_ends(ends[None], stacklevel=stacklevel + 1)

    def accuracy(self, rows: Array, labels: Array) -> float:
        """Share of the rows that the network as it is now gives their class; an output that overflows is of some."""
        output = self.forward(self.network().weights(rows.dtype), rows)
        return float(np.mean(api.classes_of(output) == labels))


def _attack_of(adversary: object) -> dict[str, Any]:
    """The arguments of `pgd`, each of which it has, and a radius among them."""
    if not isinstance(adversary, Mapping):
        raise TypeError(f"adversary: expected None or a mapping of arguments of pgd, got {checks.describe(adversary)}")
    strange = [name for name in adversary if not isinstance(name, str)]
    if strange:
        raise TypeError(f"adversary: expected names of arguments of pgd, got {checks.describe(strange[0])}")
    ascent.arguments("pgd", {name: part for name, part in adversary.items() if name != "eps"})
    if "eps" not in adversary:
        given = f"{', '.join(adversary)} alone" if adversary else "no argument"
        raise TypeError(f"adversary: expected a radius eps, got {given}")
    if adversary.get("targeted"):
        raise ValueError("adversary: expected targeted=False, because y are the classes to learn, and not to move to")
    return dict(adversary)
