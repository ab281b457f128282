"""The Numba backend: scalar loops compiled at their first call, for where the native engine could not be built.

One job at a time takes a step, tiles of a few jobs share the reading of the weights, and threads share the tiles
(`schedule`).  Memory per thread does not grow with the batch.  The first call of an operation in a type compiles it,
which takes up to half a minute, and the code is kept on disk for the next process (`entries`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyfirstorder.backends.numba.arguments import ball_arrays, frozen, network_arrays, plan, targets
from pyfirstorder.backends.numba.attack import Problem
from pyfirstorder.backends.numba.run import run_attack
from pyfirstorder.backends.numba.schedule import blocks, flops_per_step, tile_size, workers
from pyfirstorder.backends.numba.state import GRADIENT, NEW_LOSS, NEW_OUTPUT, X, make_block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyfirstorder.backends.numba.state import Block
    from pyfirstorder.problem import Array, AttackArrays, AttackOptions, Ball, Objective, Weights

__all__ = ["NumbaBackend"]


class NumbaBackend:
    """See `pyfirstorder.backends.Backend`."""

    name = "numba"
    evaluations = ("auto", "dense")
    takes_device_arrays = False

    def forward(self, weights: Weights, x: Array, threads: int) -> Array:
        network = network_arrays(weights)
        output = np.empty((len(x), network.shape[2]), x.dtype)
        with workers(threads, len(x)) as (functions, count):
            for first, rows, block in _evaluations(x, network.shape, count):
                functions.forward(rows, tile_size(rows, count), network.arrays, block)
                output[first : first + rows] = block.outputs[:, NEW_OUTPUT]
        return output

    def input_gradient(
        self, weights: Weights, x: Array, objective: Objective, threads: int
    ) -> tuple[Array, Array, Array]:
        network, target, samples = network_arrays(weights), targets(objective, x.dtype), len(x)
        loss, gradient = np.empty(samples, x.dtype), np.empty_like(x)
        output = np.empty((samples, network.shape[2]), x.dtype)
        with workers(threads, samples) as (functions, count):
            for first, rows, block in _evaluations(x, network.shape, count):
                size, here = tile_size(rows, count), slice(first, first + rows)
                functions.input_gradient(first, rows, size, samples, network.arrays, target, block)
                loss[here], gradient[here] = block.numbers[:, NEW_LOSS], block.vectors[:, GRADIENT]
                output[here] = block.outputs[:, NEW_OUTPUT]
        return loss, gradient, output

    def project(self, delta: Array, x: Array, ball: Ball, threads: int) -> Array:
        shape, projected = (x.shape[1], 0, 0), np.empty_like(delta)
        arrays, inputs = ball_arrays(ball, shape[0], x.dtype), (frozen(ball.eps), frozen(delta), frozen(x))
        with workers(threads, len(x)) as (functions, count):
            for first, rows in blocks(len(x), count, flops_per_step(shape)):
                size = tile_size(rows, count)
                block = make_block(-(-rows // size), shape, x.dtype)
                functions.project(first, rows, size, arrays, *inputs, block, projected)
        return projected

    def multiply(self, left: Array, right: Array, threads: int) -> Array:
        return left @ right  # for training alone, beside attacks that cost many times more

    def random_start(self, x: Array, ball: Ball, on_sphere: bool, seed: int, restart: int, sample_offset: int) -> Array:
        shape, start = (x.shape[1], 0, 0), np.empty_like(x)
        arrays, inputs = ball_arrays(ball, shape[0], x.dtype), (frozen(ball.eps), frozen(x))
        how = (bool(on_sphere), np.uint64(seed), int(restart), int(sample_offset))
        with workers(1, len(x)) as (functions, count):
            for first, rows in blocks(len(x), count, flops_per_step(shape)):
                block = make_block(1, shape, x.dtype)
                functions.random_start(first, rows, rows, arrays, *inputs, how, block, start)
        return start

    def attack(
        self,
        weights: Weights,
        x: Array,
        objective: Objective,
        ball: Ball,
        options: AttackOptions,
        x_init: Array | None,
    ) -> AttackArrays:
        network = network_arrays(weights)
        problem = Problem(
            network.arrays,
            targets(objective, x.dtype),
            ball_arrays(ball, x.shape[1], x.dtype),
            plan(options),
            frozen(x),
            frozen(np.zeros((0, 1), x.dtype) if x_init is None else x_init),
            frozen(ball.eps),
            frozen(options.step_size),
        )
        return run_attack(problem, network.shape, options)


def _evaluations(x: Array, shape: tuple[int, int, int], threads: int) -> Iterator[tuple[int, int, Block]]:
    """First row, number of rows and the filled block of each call."""
    for first, rows in blocks(len(x), threads, flops_per_step(shape)):
        block = make_block(rows, shape, x.dtype, vectors=2)
        block.vectors[:, X] = x[first : first + rows]
        yield first, rows, block
