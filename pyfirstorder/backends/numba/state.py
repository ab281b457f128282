"""What a job needs while it is in flight: few arrays with named places, so that a function takes few arguments.

A compiled function takes an array as seven numbers and more, all of them compiled again in every function that hands
the array on, so an array for every quantity would make compilation slow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyfirstorder.backends.numba.compilation import compiled
from pyfirstorder.problem import TRACE_QUANTITIES

if TYPE_CHECKING:
    from pyfirstorder.problem import Array

# Vectors of length d.  The first two are those of an evaluation outside an attack.
(
    X,  # the iterate
    GRADIENT,  # for the rescaled residual
    PREVIOUS,  # the iterate before
    MOVED,  # the iterate to come
    CHOSEN,  # the direction of the step
    VELOCITY,  # of momentum
    LOWEST,  # for linf the smallest allowed point, else the smallest allowed delta
    HIGHEST,
    UNPROJECTED,  # scratch space of `steps.advance` and of the sparse direction
    X_BEST,
    BASE,  # apgd: the point that the last step started from
    APGD_X_BEST,
    APGD_GRADIENT_BEST,
) = range(13)
# Of length m
HIDDEN, SLOPE = range(2)  # σ(h), then σ'(h) ⊙ Aᵀ r; σ'(h)
# Of length k
NEW_OUTPUT, RESIDUAL, OUTPUT, LAST_OUTPUT, X_BEST_OUTPUT = range(5)
# Numbers of the type of the network
NEW_LOSS, SCALE, LOSS, LAST_LOSS, BEST_LOSS, X_BEST_LOSS, APGD_BEST, APGD_LAST, APGD_CHECKED = range(9)
# float64
EPS, UNIT, ACCEPT, TARGET, STEP_SIZE, APGD_STEP_SIZE, APGD_SUPPORT = range(7)
# Integers and flags
(
    ALIVE,
    SUCCESS,
    X_BEST_SUCCESS,
    STEPS,
    FIRST_SUCCESS,
    STATUS,
    RISES,  # apgd: steps that raised the loss since the last checkpoint
    SINCE_CHECK,
    WINDOW,  # steps from that checkpoint to the next
    COORDINATES,  # moved by the sparse direction
    HALVED,  # whether the last checkpoint changed the step size
) = range(11)
# float64 vectors of length d and k
TERMS, SPARE = range(2)  # scratch space: for sums, and for one vector more
LOGITS, LOGITS_RESIDUAL = range(2)


class Block(NamedTuple):
    """The jobs in flight, one row each; T is the type of the network."""

    vectors: Array  # T (rows, 13, d)
    units: Array  # T (rows, 2, m)
    outputs: Array  # T (rows, 5, k)
    numbers: Array  # T (rows, 9)
    logits: Array  # float64 (rows, 2, k)
    wide: Array  # float64 (rows, 2, d)
    sizes: Array  # float64 (rows, 7)
    counts: Array  # int64 (rows, 11)
    trace: Array  # float64 (rows, quantities, steps + 1), or without rows
    live: Array  # int64 (rows,), the rows at work, tile by tile


class Job(NamedTuple):
    """One row of a block, and the sample that it attacks."""

    x0: Array
    vectors: Array
    outputs: Array
    numbers: Array
    wide: Array
    sizes: Array
    counts: Array
    trace: Array


def make_block(
    rows: int, shape: tuple[int, int, int], dtype: np.dtype[Any], *, vectors: int = 13, traced_steps: int = -1
) -> Block:
    """Room for so many jobs on a network of shape (d, m, k), all rows live; a trace if it has any steps."""
    features, hidden, outputs = shape
    return Block(
        np.empty((rows, vectors, features), dtype),
        np.empty((rows, 2, hidden), dtype),
        np.empty((rows, 5, outputs), dtype),
        np.empty((rows, 9), dtype),
        np.empty((rows, 2, outputs), np.float64),
        np.empty((rows, 2, features), np.float64),
        np.empty((rows, 7), np.float64),
        np.empty((rows, 11), np.int64),
        np.empty((0 if traced_steps < 0 else rows, len(TRACE_QUANTITIES), traced_steps + 1), np.float64),
        np.arange(rows),
    )


@compiled
def job_of(block, row, x0):
    """The job of a row."""
    return Job(
        x0,
        block.vectors[row],
        block.outputs[row],
        block.numbers[row],
        block.wide[row],
        block.sizes[row],
        block.counts[row],
        block.trace[row],
    )


@compiled
def copy(source, target):
    """Plain loops: the general assignment of slices takes ten times as long to compile."""
    for i in range(len(source)):
        target[i] = source[i]


@compiled
def fill(value, target):
    """All entries."""
    for i in range(len(target)):
        target[i] = value
