"""What Python calls: each operation on a range of tiles, compiled twice, for one thread and for several.

A tile is a range of ``size`` consecutive rows.  Every function runs ``for tile in prange(...)``; tiles share nothing
that they write.  The version for one thread is an ordinary loop: it starts no threads, and so needs no threading layer.

``key`` makes Numba's cache on disk keep the two apart and notice a change in any file of this package: the contents of
a closure belong to the key of a cached function, its options and the functions that it calls do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from numba import prange

from pyfirstorder.backends.numba.attack import Problem, attack_tile
from pyfirstorder.backends.numba.balls import LINF, project, project_linf, set_limits, set_radii, set_room
from pyfirstorder.backends.numba.compilation import compiled, entry_point, source_digest
from pyfirstorder.backends.numba.network import forward, input_gradient
from pyfirstorder.backends.numba.philox import random_start
from pyfirstorder.backends.numba.state import GRADIENT, SCALE, UNPROJECTED, copy, job_of

if TYPE_CHECKING:
    from collections.abc import Callable


class Entries(NamedTuple):
    """The compiled operations on ``count`` rows, ``size`` to a tile; row 0 stands for sample or job ``first``."""

    forward: Callable[..., Any]
    input_gradient: Callable[..., Any]
    project: Callable[..., Any]
    random_start: Callable[..., Any]
    attack: Callable[..., Any]


@compiled
def tile_rows(tile, size, count):
    """The rows of a tile."""
    return tile * size, min((tile + 1) * size, count)


@compiled
def true_gradient(block, row):
    """From the gradient of the rescaled residual to that of the loss."""
    gradient, scale = block.vectors[row, GRADIENT], block.numbers[row, SCALE]
    for j in range(len(gradient)):
        gradient[j] = scale * gradient[j]


@compiled
def project_row(ball, job, v, eps, delta):
    """The nearest allowed δ."""
    set_radii(ball, job, eps)
    set_room(ball, job)
    unprojected = job.vectors[UNPROJECTED]  # as in an attack, so that one compilation serves both
    copy(v, unprojected)
    if ball.norm == LINF:
        project_linf(job, unprojected, delta)
    else:
        project(ball, job, unprojected, delta)


def compile_entries(key: str, **options: bool) -> Entries:
    """The operations, compiled with those options when they are first called."""

    def run_forward(count, size, network, block):
        key  # noqa: B018
        for tile in prange((count + size - 1) // size):
            rows = tile_rows(tile, size, count)
            forward(network, block, block.live[rows[0] : rows[1]])

    def run_input_gradient(first, count, size, samples, network, targets, block):
        key  # noqa: B018
        for tile in prange((count + size - 1) // size):
            rows = tile_rows(tile, size, count)
            input_gradient(network, targets, block, block.live[rows[0] : rows[1]], first, samples)
            for row in range(rows[0], rows[1]):
                true_gradient(block, row)

    def run_project(first, count, size, ball, eps, v, x, block, delta):
        key  # noqa: B018
        for tile in prange((count + size - 1) // size):
            rows = tile_rows(tile, size, count)
            for row in range(first + rows[0], first + rows[1]):
                project_row(ball, job_of(block, tile, x[row]), v[row], eps[row], delta[row])

    def run_random_start(first, count, size, ball, eps, x, how, block, start):
        key  # noqa: B018
        on_sphere, seed, restart, offset = how
        for tile in prange((count + size - 1) // size):
            rows = tile_rows(tile, size, count)
            for row in range(first + rows[0], first + rows[1]):
                job = job_of(block, tile, x[row])
                set_limits(ball, job, eps[row])
                random_start(ball, job, on_sphere, seed, restart, offset + row, start[row])

    def run_attack(first, count, size, restart, steps, network, targets, ball, plan, inputs, block, result):
        key  # noqa: B018
        for tile in prange((count + size - 1) // size):
            problem = Problem(network, targets, ball, plan, *inputs)  # prange takes no tuple of tuples
            attack_tile(tile_rows(tile, size, count), first, restart, steps, problem, block, result)

    operations = (run_forward, run_input_gradient, run_project, run_random_start, run_attack)
    return Entries(*(entry_point(operation, **options) for operation in operations))


_DIGEST = source_digest()
SERIAL = compile_entries(f"serial {_DIGEST}")
PARALLEL = compile_entries(f"parallel {_DIGEST}", parallel=True)
