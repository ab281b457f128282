"""An attack at several radii on data of any size: block by block, all radii of a block in one batch.

Memory holds one block, whatever the size of the data; each block says where it begins, so that the blocks give what one
call would give.
"""

from __future__ import annotations

import re
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

import pyfirstorder as fo
from pyfirstorder import checks, records, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pyfirstorder.datasets import Dataset
    from pyfirstorder.files import PathLike
    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.plots import Examples
    from pyfirstorder.problem import Array
    from pyfirstorder.results import AttackResult, RobustnessCurve

    Store = Callable[[int, int, Array], None]
    Note = Callable[[int, int], None]

MOST_ROWS = 4096  # of a block: enough that the ends of blocks, where threads wait for each other, do not count
BLOCK_BYTES = 2**26  # adversarial examples of a block, all radii together, unless a row alone is larger
EXAMPLES_SHOWN = 8


class Sweep:
    """An attack on all samples at all radii, and what is known of it so far."""

    def __init__(self, net: TwoLayerNetwork, dataset: Dataset, eps: Array, options: dict[str, Any]) -> None:
        self.net, self.dataset, self.eps, self.options = net, dataset, eps, options
        self.engine = {name: options[name] for name in ("backend", "threads") if name in options}
        shape = (len(eps), len(dataset))
        self.success = np.zeros(shape, dtype=bool)  # a wrong class; if targeted, the one it was attacked towards
        self.loss = np.zeros(shape, dtype=np.float32)
        self.clean_right = self.clean_failed = 0  # samples of their own class; not where the attack wants them
        self.sizes, self.steps = np.zeros((2, len(eps)))  # sums of the norms of perturbations, and of steps taken
        self.zero_gradient = self.not_finite = 0
        self.seconds = 0.0
        self.examples: Examples | None = None

    def run(
        self, block_rows: int, store: Store, report: Callable[[float], None], note: Note | None = None, done: int = 0
    ) -> None:
        """Attack block by block, and hand the adversarial examples to ``store(radius, begin, rows)``.

        ``note(begin, end)`` is called after each block; the first ``done`` samples are known already, see `restore`.
        """
        for begin in range(done, len(self.dataset), block_rows):
            x, y = self.dataset.block(begin, begin + block_rows)

            def report_within(share: float, begin: int = begin, size: int = len(x)) -> None:
                report(begin + share * size)

            started = time.perf_counter()
            with warnings.catch_warnings(), self._rows_of_the_file(begin):
                warnings.simplefilter("ignore", fo.ZeroGradientWarning)  # counted instead
                warnings.simplefilter("ignore", fo.NotFiniteWarning)
                curve = fo.robustness_curve(
                    self.net,
                    x,
                    self._targets(y),
                    eps=self.eps,
                    sample_offset=begin,
                    progress=report_within,
                    **self.options,
                )
            self.seconds += time.perf_counter() - started
            clean = fo.predict(self.net, x, **self.engine)
            self.clean_right += int(np.count_nonzero(clean == y))
            self.clean_failed += int(np.count_nonzero((clean == self._goal(y)) != self.options["targeted"]))
            for i, result in enumerate(curve.results):
                self._count(i, begin, x, y, result)
                store(i, begin, result.x_adv)
            if begin == 0:
                self.examples = self._choose_examples(x, clean, clean == y, curve)
            if note is not None:
                note(begin, begin + len(x))

    def check(self) -> None:
        """Refuse, or warn of, arguments of the attack before anything is read or written: they attack no sample."""
        x, y = self.dataset.block(0, 0)
        fo.robustness_curve(self.net, x, self._targets(y), eps=self.eps, **self.options)

    def state(self) -> dict[str, Any]:
        """What is known of the samples so far, besides the arrays that have a row for each."""
        counts = (self.clean_right, self.clean_failed, self.zero_gradient, self.not_finite)
        shown = {} if self.examples is None else self.examples._asdict()
        return {
            "counts": np.array(counts),
            "sums": np.array([self.sizes, self.steps]),
            "seconds": np.array(self.seconds),
            **{f"examples_{name}": np.asarray(array) for name, array in shown.items()},
        }

    def restore(self, state: Mapping[str, Array], success: Array, loss: Array) -> None:
        """Go on from a `state`, and from what was known of the samples (E, n) done by then."""
        from pyfirstorder.plots import Examples

        self.success[:, : success.shape[1]], self.loss[:, : loss.shape[1]] = success, loss
        self.clean_right, self.clean_failed, self.zero_gradient, self.not_finite = map(int, state["counts"])
        self.sizes, self.steps = state["sums"]
        self.seconds = float(state["seconds"])
        _, *shown = (state[f"examples_{name}"] for name in Examples._fields)
        self.examples = Examples(float(state["examples_eps"]), *shown)

    @contextmanager
    def _rows_of_the_file(self, begin: int) -> Iterator[None]:
        """Errors of the block that begins there, with the rows that they name counted as in the file."""
        rows = self.dataset.rows

        def in_file(row: re.Match[str]) -> str:
            return f"row {rows[begin + int(row[1])]}"

        try:
            yield
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(re.sub(r"\brow (\d+)", in_file, str(error))) from error

    def _goal(self, y: Array) -> Array:
        """The classes that the attack starts from or, if targeted, is to reach."""
        if not self.options["targeted"]:
            return y
        return (y + 1) % self.net.out_features if self.net.out_features > 1 else -y

    def _targets(self, y: Array) -> Array:
        """The goal as the loss wants it: squared takes numbers, the others take classes."""
        goal = self._goal(y)
        if self.options.get("loss") != "squared":
            return goal
        outputs = self.net.out_features
        return (goal[:, None] == np.arange(outputs) if outputs > 1 else goal).astype(np.float32)

    def _count(self, i: int, begin: int, x: Array, y: Array, result: AttackResult) -> None:
        rows = slice(begin, begin + len(x))
        success = result.success
        if success is None:  # the loss knows no classes
            hit = fo.predict(self.net, result.x_adv, **self.engine) == self._goal(y)
            success = (hit if self.options["targeted"] else ~hit) | (self.success[i - 1, rows] if i else False)
        self.success[i, rows], self.loss[i, rows] = success, result.loss
        delta = (result.x_adv.astype(np.float64) - x).reshape(len(x), -1)
        self.sizes[i] += np.linalg.norm(delta, ord=float(self.options["norm"][1:]), axis=1).sum()
        self.steps[i] += result.steps.sum()
        self.zero_gradient += result.zero_gradient
        self.not_finite += result.not_finite

    def _choose_examples(self, x: Array, clean: Array, right: Array, curve: RobustnessCurve) -> Examples:
        """Samples, spread over the block, that were turned by the smallest radius that turned enough of them."""
        from pyfirstorder.plots import Examples

        turned = self.success[:, : len(x)] & right
        enough = np.count_nonzero(turned, axis=1) >= EXAMPLES_SHOWN
        i = int(np.argmax(enough)) if enough.any() else len(self.eps) - 1
        candidates = np.flatnonzero(turned[i]) if turned[i].any() else np.arange(len(x))
        places = np.linspace(0, len(candidates) - 1, min(EXAMPLES_SHOWN, len(candidates)))
        rows = candidates[places.astype(int)]
        shown, x_adv = x[rows].reshape(len(rows), -1), curve.results[i].x_adv[rows].reshape(len(rows), -1)
        return Examples(float(self.eps[i]), shown, x_adv, clean[rows], fo.predict(self.net, x_adv, **self.engine))

    @property
    def clean_accuracy(self) -> float:
        """Share of the samples that get their own class without an attack."""
        return self.clean_right / len(self.dataset)

    @property
    def clean_withstood(self) -> float:
        """Share of the samples at which the attack fails with radius 0."""
        return self.clean_failed / len(self.dataset)

    @property
    def withstood(self) -> Array:
        """Share of the samples at which the attack failed, at each radius and all smaller ones."""
        return 1 - self.success.mean(axis=1)

    @property
    def rate(self) -> float:
        """Samples attacked in a second; the radii, attacked in one batch, count as samples and share it."""
        return self.success.size / self.seconds

    @property
    def attack_name(self) -> str:
        """What a title calls the attack."""
        return f"{'targeted ' if self.options['targeted'] else ''}{self.options['algorithm']}"

    def settings(self, network: PathLike, held_out: float | None) -> dict[str, Array]:
        """What decided the numbers, for the result file; the threads did not."""
        options = {name: value for name, value in self.options.items() if name not in ("loss", "threads")}
        return records.settings(
            network=str(network),
            data=self.dataset.name,
            rows=self.dataset.rows,
            held_out=held_out,
            eps=self.eps,
            loss_function=self.options.get("loss", validate.default_loss(self.net.out_features)),
            **options,
        )

    def arrays(self) -> dict[str, Any]:
        """What the result file holds besides settings and adversarial examples."""
        return {
            "y": self.dataset.y,
            "success": self.success,
            "loss": self.loss,
            "clean_accuracy": self.clean_accuracy,
            "clean_withstood": self.clean_withstood,
            "withstood": self.withstood,
        }

    def rows(self) -> list[dict[str, float]]:
        """The table: a row for each radius."""
        samples, targeted = len(self.dataset), self.options["targeted"]
        return [
            {
                "eps": float(eps),
                "clean_accuracy": self.clean_accuracy,
                "target_reached" if targeted else "robust_accuracy": float(
                    self.success[i].mean() if targeted else self.withstood[i]
                ),
                "mean_loss": float(self.loss[i].mean(dtype=np.float64)),
                "mean_norm": float(self.sizes[i] / samples),
                "mean_steps": float(self.steps[i] / samples),
                "samples_per_second": self.rate,
            }
            for i, eps in enumerate(self.eps)
        ]

    def summary(self) -> str:
        """How fast it was, and what went wrong."""
        radii, samples = self.success.shape
        counted = f"{samples} sample{'s' if samples != 1 else ''} x {radii} {'radii' if radii != 1 else 'radius'}"
        lines = [f"{counted} in {self.seconds:.1f} s: {self.rate:.0f} a second"]
        if self.zero_gradient:
            lines.append(
                f"{self.zero_gradient} attacks ended where the gradient was exactly zero: see ZeroGradientWarning"
            )
        if self.not_finite:
            lines.append(f"{self.not_finite} attacks ended where the loss overflowed: see NotFiniteWarning")
        return "\n".join(lines)


def rows_of_a_block(block_size: int | None, dataset: Dataset, radii: int) -> int:
    """Samples in a block."""
    if not len(dataset):
        raise ValueError("data: expected at least one sample to attack, got none")
    if block_size is not None:
        return checks.integer("block_size", block_size, 1, 2**31 - 1)
    row_bytes = 4 * dataset.features * radii
    return max(1, min(MOST_ROWS, BLOCK_BYTES // row_bytes))


def from_clean(eps: Array, clean: float, withstood: Array) -> tuple[Array, Array]:
    """The curve of accuracies with the clean one as its first point."""
    return (eps, withstood) if eps[0] == 0 else (np.append(0.0, eps), np.append(clean, withstood))
