"""Training a two-layer network, on clean samples or on the adversary's.

Adversarial examples come from `pyfirstorder.pgd` on the network as it stands at that mini-batch (Madry et al. 2018,
arXiv 1706.06083), gradients from `pyfirstorder.gradients`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyfirstorder import api, ascent, backends, checks, validate
from pyfirstorder.backends.reference.attack import take_objective
from pyfirstorder.gradients import Parameters, initial_parameters, weight_gradients
from pyfirstorder.network import TwoLayerNetwork
from pyfirstorder.optimizers import OPTIMIZERS, make_optimizer
from pyfirstorder.progress import progress_callback

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from pyfirstorder.attacks import Progress
    from pyfirstorder.problem import Array

TRAINING_LOSSES = ("cross_entropy", "squared")
_LARGEST = float(np.finfo(np.float32).max)
_MOST = 2**31 - 1


class Epoch(NamedTuple):
    """One pass over the training set.

    ``train_loss`` and ``train_accuracy`` are means over the samples as they were trained on (adversarial ones, if there
    is an adversary), each seen by the network of its mini-batch.  Accuracies are None where the targets are numbers,
    and ``validation_accuracy``, that of the clean validation samples, also without any.
    """

    train_loss: float
    train_accuracy: float | None
    validation_accuracy: float | None
    seconds: float


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """A trained network, and how it came about: one `Epoch` per pass."""

    network: TwoLayerNetwork
    history: tuple[Epoch, ...]


def train(
    x: Array,
    y: ArrayLike,
    *,
    hidden_features: int,
    activation: str = "relu",
    loss: str = "cross_entropy",
    out_features: int | None = None,
    optimizer: str = "adam",
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    seed: int = 0,
    validation: tuple[Array, ArrayLike] | None = None,
    adversary: Mapping[str, Any] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    progress: Progress = False,
    backend: str = "auto",
    threads: int | None = None,
) -> TrainingResult:
    """Minimise the mean loss over the samples, or the mean of its maximum over a ball around each.

    Parameters
    ----------
    x : float array (n, ...)
        Samples, trained on in float32.
    y : int array (n,) or float array (n,) or (n, k)
        Classes; or, with the squared loss, numbers.  Classes are turned into one-hot targets for the squared loss.
    hidden_features : int
        m.
    activation : str
        See `TwoLayerNetwork`.
    loss : "cross_entropy" or "squared"
    out_features : int, optional
        k; the largest class plus one, or the columns of y, if left out.
    optimizer : "adam" or "sgd"
    epochs, batch_size : int
        Passes over the samples, each in a new random order, and samples per step (fewer in the last one of a pass).
    learning_rate : float
    momentum : float
        μ of sgd: v ← μ v + g, and a step along -v.
    weight_decay : float
        λ: each step also shrinks W and A by ``learning_rate * λ`` (decoupled, Loshchilov & Hutter 2019).
    seed : int
        Keys the initial weights, the order of the samples and the random starts of the adversary.
    validation : (x, y), optional
        Held-out samples and their classes.
    adversary : mapping, optional
        Arguments of `pgd`, such as ``{"eps": 0.1, "norm": "linf", "steps": 7, "random_start": True}``: every mini-batch
        is replaced by its adversarial examples for the loss that is trained on.
    on_epoch : function, optional
        Called with each `Epoch` as it ends.
    progress : bool or callable
        True for a progress bar (needs rich), or a function called with the finished share from 0 to 1.
    backend, threads
        See `forward`.

    Returns
    -------
    TrainingResult

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or value, or the loss or a weight is no longer finite.

    Notes
    -----
    Weights start as independent normal numbers of mean 0: W of variance 2/d for the rectifiers (relu, leaky_relu, elu,
    gelu, silu; He et al. 2015) and 1/d for other activations, A of variance 1/m (LeCun et al. 1998); biases start at 0.
    A network for y of shape (n,) with numbers has outputs of shape (n,).

    Examples
    --------
    >>> import numpy as np
    >>> from pyfirstorder.training import train
    >>> x = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
    >>> result = train(x, (x[:, 0] > x[:, 1]).astype(int), hidden_features=16, learning_rate=0.05)
    >>> result.history[-1].train_accuracy > 0.95
    True
    """
    rows = _rows("x", x)
    generator = np.random.default_rng(checks.integer("seed", seed, 0, 2**64 - 1))
    targets = _Targets(y, len(rows), loss, out_features)
    parameters = initial_parameters(
        rows.shape[1],
        checks.integer("hidden_features", hidden_features, 1, _MOST),
        targets.out_features,
        activation,
        generator,
    )
    trainer = _Trainer(rows, targets, parameters, activation, generator, adversary, backend, threads)
    held_out = None if validation is None else trainer.checked_validation(validation)
    optimise = make_optimizer(
        checks.choice("optimizer", optimizer, OPTIMIZERS),
        parameters,
        learning_rate=checks.real("learning_rate", learning_rate, 0.0, _LARGEST),
        momentum=checks.real("momentum", momentum, 0.0, 1.0),
        weight_decay=checks.real("weight_decay", weight_decay, 0.0, _LARGEST),
    )
    epochs = checks.integer("epochs", epochs, 0, _MOST)
    batch_size = checks.integer("batch_size", batch_size, 1, _MOST)
    history: list[Epoch] = []
    with progress_callback(progress) as on_progress:
        for epoch in range(epochs):

            def report(share: float, done: int = epoch) -> None:
                if on_progress is not None:
                    on_progress((done + share) / epochs)

            begin = time.perf_counter()
            train_loss, train_accuracy = trainer.run_epoch(batch_size, optimise, report)
            if not np.isfinite(train_loss):
                raise ValueError(f"learning_rate: the loss is no longer finite in epoch {epoch + 1} at {learning_rate}")
            accuracy = None if held_out is None else trainer.accuracy(*held_out)
            history.append(Epoch(train_loss, train_accuracy, accuracy, time.perf_counter() - begin))
            if on_epoch is not None:
                on_epoch(history[-1])
    return TrainingResult(trainer.network(), tuple(history))


class _Targets:
    """What y means: classes or numbers, and how many outputs they need."""

    def __init__(self, y: ArrayLike, samples: int, loss: str, out_features: int | None) -> None:
        array = checks.array("y", y)
        if array.dtype.kind not in "iuf":
            hint = "; turn them into classes with y.astype(int)" if array.dtype.kind == "b" else ""
            raise TypeError(f"y: expected integer classes or floating-point numbers, got {checks.describe(y)}{hint}")
        self.loss = checks.choice("loss", loss, TRAINING_LOSSES)
        self.has_classes = array.dtype.kind in "iu"
        if array.ndim not in (1, 2) or len(array) != samples:
            raise ValueError(f"y: expected {samples} targets, one per sample, got shape {array.shape}")
        if self.has_classes and (array.ndim != 1 or array.min() < 0):
            raise ValueError(f"y: expected class indices of shape ({samples},) from 0 on, got shape {array.shape}")
        needed = max(2, int(array.max()) + 1) if self.has_classes else int(np.atleast_2d(array.T).shape[0])
        self.out_features = needed if out_features is None else checks.integer("out_features", out_features, 1, _MOST)
        if self.out_features < needed:
            raise ValueError(f"out_features: expected at least the {needed} that y needs, got {out_features}")
        self.scalar_output = not self.has_classes and array.ndim == 1
        self.labels = array if self.has_classes else None
        self.values = _one_hot(array, self.out_features) if self.has_classes and loss == "squared" else array


class _Trainer:
    """The samples, the weights (changed in place by the optimiser) and, if there is one, the adversary."""

    def __init__(
        self,
        rows: Array,
        targets: _Targets,
        parameters: Parameters,
        activation: str,
        generator: np.random.Generator,
        adversary: Mapping[str, Any] | None,
        backend: str,
        threads: int | None,
    ) -> None:
        self.rows, self.targets, self.parameters, self.activation = rows, targets, parameters, activation
        self.generator, self.adversary = generator, adversary
        if adversary is not None and not isinstance(adversary, Mapping):
            raise TypeError(
                f"adversary: expected None or a mapping of arguments of pgd, got {checks.describe(adversary)}"
            )
        chosen, count = backends.get(validate.backend(backend)), validate.threads(threads)
        self.engine: dict[str, Any] = {"backend": backend, "threads": count}
        self.multiply = partial(chosen.multiply, threads=count)
        self.objective = validate.objective(
            self.network(), targets.values, len(rows), rows.dtype, targets.loss, targeted=False
        )

    def network(self) -> TwoLayerNetwork:
        """The network as it is now."""
        w, b, a, c = self.parameters
        return TwoLayerNetwork(w, a[0] if self.targets.scalar_output else a, b, c, self.activation)

    def run_epoch(
        self, batch_size: int, optimise: Callable[[Parameters], None], report: Callable[[float], None]
    ) -> tuple[float, float | None]:
        """One pass in a random order; the mean loss (NaN if weights overflow) and accuracy of what was trained on."""
        samples, labels = len(self.rows), self.targets.labels
        order = self.generator.permutation(samples)
        total_loss, correct = 0.0, 0
        for begin in range(0, samples, batch_size):
            batch = order[begin : begin + batch_size]
            x = self.rows[batch] if self.adversary is None else self._attacked(batch, self.adversary)
            objective = take_objective(self.objective, batch)
            value, output, gradients = weight_gradients(self.parameters, self.activation, x, objective, self.multiply)
            optimise(gradients)
            if not all(np.isfinite(part).all() for part in self.parameters):
                return math.nan, None
            total_loss += float(np.sum(value, dtype=np.float64))
            if labels is not None:
                correct += int(np.count_nonzero(np.argmax(output, axis=1) == labels[batch]))
            report((begin + len(batch)) / samples)
        return total_loss / samples, None if labels is None else correct / samples

    def _attacked(self, batch: Array, adversary: Mapping[str, Any]) -> Array:
        """Adversarial examples of the samples of a mini-batch, for the network as it is now."""
        seed = int(self.generator.integers(2**63))
        y = self.targets.values[batch]
        options = {"seed": seed, "loss": self.targets.loss, **self.engine, **adversary}
        return ascent.pgd(self.network(), self.rows[batch], y, **options).x_adv

    def checked_validation(self, validation: object) -> tuple[Array, Array]:
        """The held-out rows and their classes."""
        if not isinstance(validation, (tuple, list)) or len(validation) != 2:
            raise TypeError(f"validation: expected None or a pair (x, y), got {checks.describe(validation)}")
        if not self.targets.has_classes:
            raise ValueError("validation: expected None, because accuracy needs classes and y holds numbers")
        x, y = validation
        rows = _rows("validation", x)
        if rows.shape[1] != self.rows.shape[1]:
            raise ValueError(
                f"validation: expected {self.rows.shape[1]} numbers a sample, as in x, got {rows.shape[1]}"
            )
        network = self.network()
        labels = validate.objective(network, y, len(rows), rows.dtype, "cross_entropy", targeted=False).labels
        assert labels is not None
        return rows, labels

    def accuracy(self, rows: Array, labels: Array) -> float:
        """Share of the rows that the network as it is now gives their class."""
        return float(np.mean(api.predict(self.network(), rows, **self.engine) == labels))


def _rows(name: str, x: Array) -> Array:
    """The samples as float32 rows."""
    array = validate.floats(name, x)
    if array.ndim < 2 or not array.size:
        raise ValueError(f"{name}: expected shape (samples, ...) with at least one sample, got {array.shape}")
    given = validate.points(name, array, math.prod(array.shape[1:])).rows
    with np.errstate(over="ignore"):
        rows = given.astype(np.float32, copy=False)
    beyond = np.isinf(rows).any(axis=1)
    if beyond.any():
        raise ValueError(f"{name}: expected numbers that float32 can hold, got larger ones in row {np.argmax(beyond)}")
    return rows


def _one_hot(labels: Array, classes: int) -> Array:
    return (np.arange(classes) == labels[:, None]).astype(np.float32)
