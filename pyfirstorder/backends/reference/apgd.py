"""APGD's memory: momentum towards the last step, and a step size that halves when the loss stops rising.

Croce & Hein 2020 (arXiv 2003.01690), algorithm 1, for ℓ∞ and ℓ2: with η the step size and a = 3/4 (1 at first),
``u = P(x + η direction(g))``, ``x⁺ = P(x + a (u - x) + (1 - a) (x - x⁻))``; at the checkpoints a job whose loss rose in
too few steps, or whose best loss and step size have both not changed since the last one, halves η and restarts from its
best point.  Croce & Hein 2021 (arXiv 2103.01208), for ℓ1: no momentum, the sparse direction, and at each checkpoint the
count of moved coordinates follows the sparsity of the best point; η starts anew from there when that still shrinks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder.backends.reference import directions, projections

if TYPE_CHECKING:
    from pyfirstorder.backends.reference.network import Gradient
    from pyfirstorder.problem import Array, AttackOptions, Ball

MOMENTUM = 0.25  # 1 - a
FIRST_WINDOW, SMALLEST_WINDOW, WINDOW_DECREASE = 0.22, 0.06, 0.03  # shares of all steps
L1_WINDOW = 0.04
L1_FIRST_SHARE = 0.2  # of the coordinates, moved by the first steps
L1_SPARSITY_DIVISOR = 1.5  # coordinates moved: those of the best point over this
L1_STILL_SHRINKING = 0.95
L1_STEP_DIVISOR, L1_LARGEST_DIVISOR = 1.5, 10.0


class State:
    """What each job remembers between steps."""

    def __init__(self, x0: Array, ball: Ball, options: AttackOptions) -> None:
        jobs, features = x0.shape
        self.options, self.x0, self.l1 = options, x0, ball.norm == "l1"
        self.first_step_size = ball.eps * (1.0 if self.l1 else 2.0)
        self.step_size = self.first_step_size.copy()
        self.base = x0.copy()  # the point that the last step started from
        self.x_best, self.g_best = x0.copy(), np.zeros_like(x0)
        self.best_loss = np.full_like(x0, -np.inf, shape=jobs)
        self.last_loss = self.best_loss.copy()
        self.checked_loss = self.best_loss.copy()  # best loss at the last checkpoint
        self.halved = np.ones_like(x0, dtype=bool, shape=jobs)  # whether the last checkpoint changed the step size
        self.rises, self.since_check = np.zeros((2, jobs), dtype=np.int64, like=x0)
        share = L1_WINDOW if self.l1 else FIRST_WINDOW
        self.window = np.full_like(x0, max(int(share * options.steps), 1), dtype=np.int64, shape=jobs)
        self.support = np.full_like(x0, features, dtype=np.float64, shape=jobs)
        self.count = np.full_like(x0, sparse_count(L1_FIRST_SHARE, features), dtype=np.int64, shape=jobs)

    def step(self, rows: Array, x: Array, gradient: Gradient, ball: Ball, t: int) -> Array:
        """The next iterates of the given jobs."""
        self._remember_best(rows, x, gradient)
        if t > 0:
            self.rises[rows] += gradient.loss > self.last_loss[rows]
            self.since_check[rows] += 1
        else:
            self.checked_loss[rows] = gradient.loss
        self.last_loss[rows] = gradient.loss
        restarted = self._checkpoint(rows)
        x = np.where(restarted[:, None], self.x_best[rows], x)
        g = np.where(restarted[:, None], self.g_best[rows], gradient.direction)
        return self._move(rows, x, g, ball, t)

    def _remember_best(self, rows: Array, x: Array, gradient: Gradient) -> None:
        better = gradient.loss > self.best_loss[rows]
        jobs = rows[better]
        self.best_loss[jobs] = gradient.loss[better]
        self.x_best[jobs], self.g_best[jobs] = x[better], gradient.direction[better]

    def _checkpoint(self, rows: Array) -> Array:
        """Adapt the step size of the jobs whose window is full; which of them restart from their best point."""
        due = self.since_check[rows] == self.window[rows]
        jobs = rows[due]
        restart = self._adapt_l1(jobs) if self.l1 else self._adapt(jobs)
        self.since_check[jobs] = self.rises[jobs] = 0
        restarted = np.zeros(len(rows), dtype=bool, like=rows)
        restarted[due] = restart
        return restarted

    def _adapt(self, jobs: Array) -> Array:
        stalled = ~self.halved[jobs] & (self.checked_loss[jobs] >= self.best_loss[jobs])
        halve = stalled | (self.rises[jobs] <= self.window[jobs] * self.options.rho)
        self.halved[jobs], self.checked_loss[jobs] = halve, self.best_loss[jobs]
        self.step_size[jobs[halve]] /= 2
        steps = self.options.steps
        decrease, smallest = max(int(WINDOW_DECREASE * steps), 1), max(int(SMALLEST_WINDOW * steps), 1)
        self.window[jobs] = np.maximum(self.window[jobs] - decrease, smallest)
        return halve

    def _adapt_l1(self, jobs: Array) -> Array:
        features = self.x0.shape[1]
        support = np.count_nonzero(self.x_best[jobs] != self.x0[jobs], axis=1).astype(np.float64)
        shrinking = support / self.support[jobs] < L1_STILL_SHRINKING
        self.count[jobs] = sparse_count(support / features / L1_SPARSITY_DIVISOR, features)
        first = self.first_step_size[jobs]
        smaller = np.maximum(self.step_size[jobs] / L1_STEP_DIVISOR, first / L1_LARGEST_DIVISOR)
        self.step_size[jobs] = np.where(shrinking, first, smaller)
        self.support[jobs] = np.maximum(support, 1)  # a best point that is x0 itself has none
        return shrinking

    def _move(self, rows: Array, x: Array, g: Array, ball: Ball, t: int) -> Array:
        x0, step_size = self.x0[rows], self.step_size[rows]
        direction = directions.choose(self.options.direction, g, self.count[rows], *projections.movable(x, x0, ball))
        moved = projections.advance(x, x0, direction, step_size, ball)
        if t > 0 and not self.l1:
            keep = x.dtype.type(MOMENTUM)
            blend = (1 - keep) * (moved - x) + keep * (x - self.base[rows])
            moved = projections.advance(x, x0, blend, np.ones_like(x, dtype=np.float64, shape=len(rows)), ball)
        self.base[rows] = x
        return moved


def sparse_count(share: Any, features: int) -> Any:
    """How many coordinates the sparse direction moves for a share of them, as in the authors' code."""
    left = np.minimum(np.maximum((1.0 - share) * features, 0.0), features - 1.0)
    return features - left.astype(np.int64)
