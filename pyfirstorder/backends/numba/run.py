"""An attack from Python's side: blocks of jobs, restarts, and a few steps to a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfirstorder.backends.numba.outcome import as_attack_arrays, make_outcome
from pyfirstorder.backends.numba.schedule import blocks, flops_per_step, steps_per_call, tile_size, workers
from pyfirstorder.backends.numba.state import ALIVE, make_block

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfirstorder.backends.numba.attack import Problem
    from pyfirstorder.problem import AttackArrays, AttackOptions


def run_attack(problem: Problem, shape: tuple[int, int, int], options: AttackOptions) -> AttackArrays:
    """Run every restart of every job; per job the compiled code keeps the best."""
    arguments = (*problem[:4], tuple(problem[4:]))
    plan, jobs, dtype = problem.plan, len(problem.eps), problem.x.dtype
    result = make_outcome(plan, jobs, shape, dtype)
    flops, length = flops_per_step(shape), plan.steps + 1
    report, block = _Progress(options.on_progress, jobs * options.restarts), None
    with workers(options.threads, jobs) as (functions, threads):
        for first, rows in blocks(jobs, threads, flops * length):
            if block is None:  # no later block has more rows
                block = make_block(rows, shape, dtype, traced_steps=plan.steps if plan.trace else -1)
            size, stride = tile_size(rows, threads), steps_per_call(rows, threads, flops)
            for restart in range(options.restarts):
                for begin in range(0, length, stride):
                    steps = (begin, min(begin + stride, length))
                    functions.attack(first, rows, size, restart, steps, *arguments, block, result)
                    if not block.counts[:rows, ALIVE].any():
                        break
                    report.tell(rows * steps[1] / length)
                report.done += rows
                report.tell()
    return as_attack_arrays(result, plan)


class _Progress:
    """Counts finished jobs and tells whoever wants to know."""

    def __init__(self, callback: Callable[[float], None] | None, jobs: int) -> None:
        self.callback, self.jobs, self.done = callback, jobs, 0

    def tell(self, more: float = 0) -> None:
        """A further part of the running block is done, worth so many jobs."""
        if self.callback is not None:
            self.callback((self.done + more) / self.jobs)
