"""The whole attack, step by step on all jobs at once: the specification of the native loops.

Iterate t = 0 … T of a job is evaluated (output, loss, gradient) and then either ends or steps:

1. a loss, or a gradient that is still needed, that is not finite ends it where it is;
2. the best iterate is updated: a successful one is preferred to one that is not, then the larger loss;
3. with early_stop a successful iterate ends it;
4. after T steps it ends; the last iterate is evaluated like the others;
5. a gradient that is zero, with no memory of earlier steps, ends it;
6. otherwise it steps.  A step rule without memory that returns the same point has reached a fixed point, and one that
   returns the point before that has entered a cycle of two points, whose last point follows from the parity of the
   steps that are left.

Momentum follows Dong et al. 2018 (arXiv 1710.06081): v ← μ v + g/‖g‖₁ and a step along direction(v); for the raw
``gradient`` direction it is the heavy ball v ← μ v + g.  apgd follows Croce & Hein 2020 (arXiv 2003.01690) and, for ℓ1,
Croce & Hein 2021 (arXiv 2103.01208).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyfirstorder.backends.reference import apgd, directions, projections
from pyfirstorder.backends.reference.losses import succeeded
from pyfirstorder.backends.reference.network import Gradient, input_gradient
from pyfirstorder.backends.reference.philox import random_start
from pyfirstorder.problem import TRACE_QUANTITIES, AttackArrays, Ball, Status

if TYPE_CHECKING:
    from pyfirstorder.problem import Array, AttackOptions, Objective, Weights


def attack(
    weights: Weights, x: Array, objective: Objective, ball: Ball, options: AttackOptions, x_init: Array | None
) -> AttackArrays:
    """Run every restart and keep, per job, the one that succeeds, then the one with the larger last loss."""
    sample = np.arange(len(ball.eps), like=x) % max(len(x), 1)
    x0 = x[sample]
    objective = take_objective(objective, sample)
    result = None
    for restart in range(options.restarts):
        if options.random_start != "none":
            on_sphere = options.random_start == "sphere"
            start = random_start(x0, sample + options.sample_offset, ball, on_sphere, options.seed, restart)
        else:
            start = x0 if x_init is None else projections.admit(x_init[sample], x0, ball)
        run = _Run(weights, x0, start, objective, ball, options)
        run.finish()
        if result is None:
            result = run
        else:
            result.absorb(run)
        if options.on_progress is not None:
            options.on_progress((restart + 1) / options.restarts)
    assert result is not None
    arrays = AttackArrays(**{name: getattr(result, name) for name in AttackArrays._fields})
    if options.keep_best:
        return arrays
    return arrays._replace(x_best=None, x_best_loss=None, x_best_output=None, x_best_success=None)


def take_objective(objective: Objective, rows: Array | slice) -> Objective:
    """The targets of the given rows."""
    return objective._replace(
        labels=None if objective.labels is None else objective.labels[rows],
        values=None if objective.values is None else objective.values[rows],
        sources=None if objective.sources is None else objective.sources[rows],
    )


class _Run:
    """One restart of every job.  Arrays have a row per job; ``live`` lists the jobs still running."""

    def __init__(
        self, weights: Weights, x0: Array, start: Array, objective: Objective, ball: Ball, options: AttackOptions
    ) -> None:
        jobs, outputs = len(x0), len(weights.output_bias)
        self.weights, self.objective, self.ball, self.options = weights, objective, ball, options
        self.x0, self.x_adv, self.previous = x0, start.copy(), start.copy()
        self.velocity = np.zeros_like(x0)
        self.step_size = options.step_size.copy()
        self.live = np.arange(jobs, like=x0)
        self.loss, self.last_loss = np.zeros((2, jobs), dtype=x0.dtype, like=x0)
        self.output, self.last_output = np.zeros((2, jobs, outputs), dtype=x0.dtype, like=x0)
        self.success = np.zeros(jobs, dtype=bool, like=x0)
        self.best_loss = np.full_like(x0, np.nan, shape=jobs)
        self.x_best = start.copy()
        self.x_best_loss = self.best_loss.copy()
        self.x_best_output = np.full_like(x0, np.nan, shape=(jobs, outputs))
        self.x_best_success = np.zeros(jobs, dtype=bool, like=x0)
        self.steps = np.zeros(jobs, dtype=np.int64, like=x0)
        self.first_success = np.full_like(x0, -1, dtype=np.int64, shape=jobs)
        self.status = np.full_like(x0, int(Status.STEPS_USED_UP), dtype=np.int8, shape=jobs)
        shape = (jobs, len(TRACE_QUANTITIES), options.steps + 1)
        self.trace = np.full_like(x0, np.nan, dtype=np.float64, shape=shape) if options.trace else None
        steps_and_points = (jobs, options.steps + 1, x0.shape[1])
        self.iterates = np.full_like(x0, np.nan, shape=steps_and_points) if options.keep_iterates else None
        self.has_memory = options.algorithm == "apgd" or options.momentum != 0
        self.apgd = apgd.State(x0, ball, options) if options.algorithm == "apgd" else None

    def finish(self) -> None:
        """Take all jobs to their end."""
        for t in range(self.options.steps + 1):
            if not len(self.live):
                break
            gradient = self._evaluate(t)
            keep = ~(self._end_not_finite(gradient, t) | self._end_success())
            if t == self.options.steps:
                break
            keep &= ~self._end_zero_gradient(gradient, keep, t)
            self.live = self.live[keep]
            self._step(Gradient(*(part[keep] for part in gradient)), t)

    def absorb(self, new: _Run) -> None:
        """Take over, per job, what a later restart did better: its last iterate, and its best one."""
        better = _is_better(new.success, new.loss, self.success, self.loss)
        for name in ("x_adv", "loss", "output", "success", "first_success", "status", "trace", "iterates"):
            _copy_rows(getattr(self, name), getattr(new, name), better)
        better = _is_better(new.x_best_success, new.x_best_loss, self.x_best_success, self.x_best_loss)
        for name in ("x_best", "x_best_loss", "x_best_output", "x_best_success"):
            _copy_rows(getattr(self, name), getattr(new, name), better)
        self.best_loss = np.fmax(self.best_loss, new.best_loss)
        self.steps += new.steps

    def _evaluate(self, t: int) -> Gradient:
        rows = self.live
        gradient = input_gradient(self.weights, self.x_adv[rows], take_objective(self.objective, rows))
        self.last_loss[rows], self.last_output[rows] = self.loss[rows], self.output[rows]
        self.loss[rows], self.output[rows] = gradient.loss, gradient.output
        success = succeeded(gradient.output, take_objective(self.objective, rows)) & np.isfinite(gradient.loss)
        self.success[rows] = success
        self.first_success[rows[success & (self.first_success[rows] < 0)]] = t
        self.best_loss[rows] = np.fmax(self.best_loss[rows], gradient.loss)
        better = _is_better(success, gradient.loss, self.x_best_success[rows], self.x_best_loss[rows])
        chosen = rows[better]
        self.x_best[chosen], self.x_best_output[chosen] = self.x_adv[chosen], gradient.output[better]
        self.x_best_loss[chosen], self.x_best_success[chosen] = gradient.loss[better], success[better]
        if self.trace is not None:
            self.trace[rows, :, t] = self._observe(gradient)
        if self.iterates is not None:
            self.iterates[rows, t] = self.x_adv[rows]
        return gradient

    def _observe(self, gradient: Gradient) -> Array:
        rows = self.live
        delta = self.x_adv[rows].astype(np.float64) - self.x0[rows]
        g = gradient.scale[:, None].astype(np.float64) * gradient.direction
        g_norm, delta_norm = np.linalg.norm(g, axis=1), np.linalg.norm(delta, axis=1)
        product = np.linalg.norm(gradient.direction.astype(np.float64), axis=1) * delta_norm
        inner = np.sum(gradient.direction * delta, axis=1)
        cosine = np.where(product > 0, inner / np.where(product > 0, product, 1), 0)
        ball = self.ball._replace(eps=self.ball.eps[rows])
        ahead = projections.advance(
            self.x_adv[rows],
            self.x0[rows],
            g.astype(self.x_adv.dtype),
            np.ones_like(self.x0, dtype=np.float64, shape=len(rows)),
            ball,
        )
        residual = np.linalg.norm(ahead.astype(np.float64) - self.x_adv[rows], axis=1)
        return np.stack([gradient.loss, g_norm, delta_norm, cosine, residual], axis=1)

    def _end_not_finite(self, gradient: Gradient, t: int) -> Array:
        finite = np.isfinite(gradient.loss)
        if t < self.options.steps:  # the last iterate needs no gradient
            finite &= np.all(np.isfinite(gradient.direction), axis=1)
        self.status[self.live[~finite]] = Status.NOT_FINITE
        return ~finite

    def _end_success(self) -> Array:
        ended = self.success[self.live] & self.options.early_stop
        self.status[self.live[ended]] = Status.SUCCESS
        return ended

    def _end_zero_gradient(self, gradient: Gradient, keep: Array, t: int) -> Array:
        zero = keep & ~np.any(gradient.direction, axis=1)
        if self.has_memory:
            zero &= ~np.any(self.velocity[self.live], axis=1) & (t == 0 or self.apgd is None)
        self._freeze(self.live[zero], Status.ZERO_GRADIENT, t)
        return zero

    def _freeze(self, jobs: Array, status: Status, t: int) -> None:
        """End jobs whose iterates would stay what they are at step t."""
        self.status[jobs] = status
        if self.trace is not None:
            self.trace[jobs, :, t + 1 :] = self.trace[jobs, :, t, None]
        if self.iterates is not None:
            self.iterates[jobs, t + 1 :] = self.iterates[jobs, t, None]

    def _step(self, gradient: Gradient, t: int) -> None:
        rows = self.live
        self.steps[rows] += 1
        x = self.x_adv[rows]
        ball = self.ball._replace(eps=self.ball.eps[rows])
        if self.apgd is not None:
            moved = self.apgd.step(rows, x, gradient, ball, t)
        else:
            moved = self._pgd_step(rows, x, gradient, ball)
        left = np.all(np.isfinite(moved), axis=1)
        self.status[rows[~left]] = Status.NOT_FINITE
        if not self.has_memory and self.options.retire:
            left &= self._retire(moved, t)
        rows = self.live = rows[left]
        self.previous[rows], self.x_adv[rows] = x[left], moved[left]

    def _pgd_step(self, rows: Array, x: Array, gradient: Gradient, ball: Ball) -> Array:
        options, x0 = self.options, self.x0[rows]
        g = gradient.direction
        if options.direction == "gradient":
            g = gradient.scale[:, None] * g
        if options.momentum:
            if options.direction != "gradient":
                g = directions.unit_l1(g)
            g = self.velocity[rows] = x.dtype.type(options.momentum) * self.velocity[rows] + g
        count = np.full_like(x, options.sparse_count, dtype=np.int64, shape=len(rows))
        direction = directions.choose(options.direction, g, count, *projections.movable(x, x0, ball))
        return projections.advance(x, x0, direction, options.step_size[rows], ball)

    def _retire(self, moved: Array, t: int) -> Array:
        """End jobs whose step returned to this iterate or to the one before; which jobs are left."""
        rows = self.live
        fixed = np.all(moved == self.x_adv[rows], axis=1)
        cycle = np.all(moved == self.previous[rows], axis=1) & ~fixed & (t > 0)
        self._freeze(rows[fixed], Status.FIXED_POINT, t)
        jobs = rows[cycle]
        self.status[jobs] = Status.PERIOD_TWO
        ahead = np.arange(t + 1, self.options.steps + 1, like=jobs)
        if self.iterates is not None:
            self.iterates[jobs[:, None], ahead] = self.iterates[jobs[:, None], t - (ahead - t) % 2]
        if self.trace is not None:
            self.trace[jobs[:, None], :, ahead] = self.trace[jobs[:, None], :, t - (ahead - t) % 2]
        if (self.options.steps - t) % 2:  # an odd number of steps, this one included, ends on the other point
            self.x_adv[jobs] = self.previous[jobs]
            self.loss[jobs], self.output[jobs] = self.last_loss[jobs], self.last_output[jobs]
            self.success[jobs] = succeeded(self.output[jobs], take_objective(self.objective, jobs))
        return ~(fixed | cycle)


def _is_better(success: Array, loss: Array, than_success: Array, than_loss: Array) -> Array:
    """Success first, then the larger loss; a loss that is not a number is worse than any other."""
    larger = (loss > than_loss) | (np.isnan(than_loss) & ~np.isnan(loss))
    return (success & ~than_success) | ((success == than_success) & larger)


def _copy_rows(kept: Array | None, new: Array | None, rows: Array) -> None:
    if kept is not None and new is not None:
        kept[rows] = new[rows]
