"""What an attack of many blocks has done so far, kept on the disk until all of it is done.

A folder beside the results takes the adversarial examples of each block and what is counted of them; then a small file
says how far the attack came, in one stroke.  So a process may be killed at any moment: rows beyond that count are
written again.  The results appear under their own names when all are there, and the folder goes last.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

from pyfirstorder import backends, checkpoints, datasets, files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyfirstorder.blockwise import Sweep
    from pyfirstorder.checkpoints import Job
    from pyfirstorder.datasets import Dataset
    from pyfirstorder.problem import Array

FOLDER = ".unfinished"
_STATE, _SUCCESS, _LOSS = "state.npz", "success.npy", "loss.npy"
_ROWS_READ = 4096  # at a time, to find the digest of data of any size


class Unfinished:
    """The part of an attack that is done; ``job`` says of which, see `job_of`."""

    def __init__(self, output: Path, sweep: Sweep, job: Job) -> None:
        self.sweep, self.job, self.folder = sweep, job, output / FOLDER
        self.places = files_on_disk(output, sweep.eps)  # where the adversarial examples of data on disk go at the end
        self.parts = [self.folder / place.name for place in self.places]
        self.done = 0  # samples

    def load(self, replace: bool = False) -> int:
        """How many samples are done: those of this job, which the sweep then knows of.

        Raises
        ------
        ValueError
            If another job was left unfinished here, unless it is to be replaced.
        """
        remedy = "choose another --output, or add --overwrite"
        state = self.folder / _STATE
        try:
            arrays = checkpoints.load(state, self.job, name="output", remedy=remedy)
        except ValueError:
            if not replace:
                raise
            arrays = None
        done = 0 if arrays is None else int(arrays["done"])
        if arrays is None or not self._has_parts(done):
            self.discard()
            return 0
        rows = slice(None, done)
        success, loss = (files.read_npy(self.folder / name, mapped=True)[rows].T for name in (_SUCCESS, _LOSS))
        self.sweep.restore(arrays, success, loss)
        self.done = done
        return done

    def _has_parts(self, done: int) -> bool:
        """Whether all is there; what this job found may have gone to its place already if it had found everything."""
        moved = self.places if done == len(self.sweep.dataset) and self.sweep.dataset.on_disk else self.parts
        found = all(part.exists() or place.exists() for part, place in zip(self.parts, moved))
        return found and all((self.folder / name).exists() for name in (_SUCCESS, _LOSS))

    def begin(self) -> None:
        """Files for all samples; their rows take no room on the disk until they are written."""
        dataset, radii = self.sweep.dataset, len(self.sweep.eps)
        self.folder.mkdir(parents=True, exist_ok=True)
        for part in self.parts:
            datasets.create_npy(part, (len(dataset), *dataset.stored.shape[1:]))
        datasets.create_npy(self.folder / _SUCCESS, (len(dataset), radii), np.dtype(bool))
        datasets.create_npy(self.folder / _LOSS, (len(dataset), radii))

    def keep(self, radius: int, begin: int, rows: Array) -> None:
        """Put down adversarial examples."""
        datasets.write_rows(self.parts[radius], begin, rows)

    def note(self, begin: int, end: int) -> None:
        """Put down that these samples, the ones after those before, are done."""
        for name, values in ((_SUCCESS, self.sweep.success), (_LOSS, self.sweep.loss)):
            datasets.write_rows(self.folder / name, begin, values[:, begin:end].T)
        checkpoints.save(self.folder / _STATE, self.job, {**self.sweep.state(), "done": end})
        self.done = end

    def how_it_goes_on(self) -> str:
        """What an interrupted attack says."""
        return f"{self.done} of {len(self.sweep.dataset)} samples are done; the same command goes on"

    def x_adv(self) -> Array:
        """All adversarial examples, radius by radius."""
        return np.stack([files.read_npy(part) for part in self.parts])

    def publish(self) -> None:
        """Adversarial examples of data on disk, to their places."""
        for part, place in zip(self.parts, self.places):
            if part.exists():
                files.bring_to_disk(part)
                part.replace(place)

    def discard(self) -> None:
        """Forget it all; what says how far it came goes first."""
        (self.folder / _STATE).unlink(missing_ok=True)
        if self.folder.exists():
            shutil.rmtree(self.folder)


def job_of(sweep: Sweep, settings: dict[str, Array]) -> Job:
    """What decides the numbers of an attack: weights, samples, settings and the backend that computes."""
    net = sweep.net
    weights = (net.hidden_weight, net.hidden_bias, net.output_weight, net.output_bias)
    return checkpoints.fingerprint(
        weights=checkpoints.digest(weights) + net.activation,
        samples=checkpoints.digest(_samples(sweep.dataset)),
        engine=backends.get(sweep.engine.get("backend", "auto")).name,
        **{name: value for name, value in settings.items() if name != "version"},
    )


def _samples(dataset: Dataset) -> Iterator[Array]:
    for begin in range(0, len(dataset), _ROWS_READ):
        yield from dataset.block(begin, begin + _ROWS_READ)


def files_on_disk(output: Path, eps: Array) -> list[Path]:
    """Where adversarial examples of data on disk go, by radius."""
    return [output / f"x_adv_eps_{float(radius)!r}.npy" for radius in eps]
