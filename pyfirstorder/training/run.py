"""The loop over epochs and mini-batches, from wherever its checkpoint says that it was."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pyfirstorder import checkpoints
from pyfirstorder.training.history import Epoch
from pyfirstorder.training.trainer import Position

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfirstorder.checkpoints import Job
    from pyfirstorder.problem import Array
    from pyfirstorder.training.trainer import Trainer


class Checkpoint(NamedTuple):
    """Where a job puts down how far it came, and how often: at the end of each epoch, and within."""

    path: Path
    job: Job
    every: int | None  # mini-batches

    def load(self, trainer: Trainer, epochs: int) -> Position:
        """Where to go on."""
        remedy = "choose another checkpoint, or remove that file to begin anew"
        arrays = checkpoints.load(self.path, self.job, name="checkpoint", remedy=remedy)
        if arrays is None:
            return Position()
        position = Position.of(arrays)
        done = len(position.history) + (position.order is not None)
        if done > epochs:
            raise ValueError(f"epochs: expected at least the {done} that {self.path} has begun, got {epochs}; {remedy}")
        trainer.restore(arrays)
        return position

    def save(self, trainer: Trainer, position: Position) -> None:
        """Put it down."""
        checkpoints.save(self.path, self.job, {**trainer.arrays(), **position.arrays()})


def run(
    trainer: Trainer,
    epochs: int,
    batch_size: int,
    held_out: tuple[Array, Array] | None,
    checkpoint: Checkpoint | None,
    on_progress: Callable[[float], None] | None,
    on_epoch: Callable[[Epoch], None] | None,
) -> list[Epoch]:
    """Train up to that many epochs; what was known of each."""
    position = Position() if checkpoint is None else checkpoint.load(trainer, epochs)

    def report() -> None:
        if on_progress is not None:
            on_progress((len(position.history) + position.begin / len(trainer.rows)) / epochs)

    while len(position.history) < epochs:
        _run_epoch(trainer, batch_size, position, checkpoint, report)
        begin = time.perf_counter()
        accuracy = None if held_out is None else trainer.accuracy(*held_out)
        samples, has_labels = len(trainer.rows), trainer.targets.labels is not None
        seconds = position.seconds + time.perf_counter() - begin
        share = position.correct / samples if has_labels else None
        position = Position([*position.history, Epoch(position.loss / samples, share, accuracy, seconds)])
        if checkpoint is not None:
            checkpoint.save(trainer, position)
        if on_epoch is not None:
            on_epoch(position.history[-1])
    return position.history


def _run_epoch(
    trainer: Trainer,
    batch_size: int,
    position: Position,
    checkpoint: Checkpoint | None,
    report: Callable[[], None],
) -> None:
    """The rest of a pass over the samples in a random order."""
    samples, number = len(trainer.rows), len(position.history)
    if position.order is None:
        position.order = trainer.generator.permutation(samples)
    every = None if checkpoint is None else checkpoint.every
    for begin in range(position.begin, samples, batch_size):
        started = time.perf_counter()
        batch = position.order[begin : begin + batch_size]
        loss, correct = trainer.step(batch)
        if not math.isfinite(loss):
            rate = trainer.optimizer.rates.learning_rate
            raise ValueError(f"learning_rate: the loss is no longer finite in epoch {number + 1} at {rate}")
        position.begin = begin + len(batch)
        position.loss += loss
        position.correct += correct
        position.seconds += time.perf_counter() - started
        steps = number * math.ceil(samples / batch_size) + math.ceil(position.begin / batch_size)
        if every is not None and steps % every == 0 and position.begin < samples:
            assert checkpoint is not None
            checkpoint.save(trainer, position)
        report()
