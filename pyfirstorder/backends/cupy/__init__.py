"""The cupy backend: the reference's equations on a GPU, by CuPy.

NumPy's functions hand CuPy's arrays to CuPy (NEP 13 and 18), so the reference runs as it is written.  Here is what they
cannot hand over: products (`products`), the error function, elementwise equations compiled into one kernel (`fusion`),
and the way of arrays to the GPU and back.  Arrays that lie there already are used, and results left, where they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder.backends.cupy.fusion import compiler
from pyfirstorder.backends.cupy.products import product
from pyfirstorder.backends.gpu import kept_on_gpu
from pyfirstorder.backends.reference import ReferenceBackend, activations, elementwise, network
from pyfirstorder.backends.reference.attack import take_objective
from pyfirstorder.problem import Array, AttackArrays, Weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfirstorder.problem import AttackOptions, Ball, Objective

    Move = Callable[[Array], Array]

# Numbers in the rows of one block of an attack, which takes some 25 such arrays at once: 1.6 GB in float32.
BLOCK_NUMBERS = 2**24


class CupyBackend:
    """See `pyfirstorder.backends.Backend`; ``library`` is CuPy, and ``erf`` the error function of its arrays."""

    name = "cupy"
    evaluations = ("auto", "dense")
    takes_device_arrays = True

    def __init__(self, library: Any, erf: Callable[[Any], Any]) -> None:
        self._library, self._reference = library, ReferenceBackend()
        activations.erf.register(library.ndarray, erf)
        network.product.register(library.ndarray, product)
        elementwise.COMPILERS[library.ndarray] = compiler(library, erf)

    def forward(self, weights: Weights, x: Array, threads: int) -> Array:
        take, give = self._moves(x)
        return give(self._reference.forward(self._on_gpu(weights), take(x), threads))

    def input_gradient(
        self, weights: Weights, x: Array, objective: Objective, threads: int
    ) -> tuple[Array, Array, Array]:
        take, give = self._moves(x)
        loss, gradient, output = self._reference.input_gradient(
            self._on_gpu(weights), take(x), _every_array(objective, take), threads
        )
        return give(loss), give(gradient), give(output)

    def project(self, delta: Array, x: Array, ball: Ball, threads: int) -> Array:
        take, give = self._moves(delta)
        return give(self._reference.project(take(delta), take(x), _every_array(ball, take), threads))

    def multiply(self, left: Array, right: Array, threads: int) -> Array:
        take, give = self._moves(left)
        return give(take(left) @ take(right))

    def random_start(self, x: Array, ball: Ball, on_sphere: bool, seed: int, restart: int, sample_offset: int) -> Array:
        take, give = self._moves(x)
        ball = _every_array(ball, take)
        return give(self._reference.random_start(take(x), ball, on_sphere, seed, restart, sample_offset))

    def attack(
        self,
        weights: Weights,
        x: Array,
        objective: Objective,
        ball: Ball,
        options: AttackOptions,
        x_init: Array | None,
    ) -> AttackArrays:
        take, give = self._moves(x)
        on_gpu = self._on_gpu(weights)
        blocks = _blocks(len(ball.eps), *x.shape)
        ends = []
        for number, (rows, jobs) in enumerate(blocks):
            end = self._reference.attack(
                on_gpu,
                take(x[rows]),
                _every_array(take_objective(objective, rows), take),
                _every_array(ball._replace(eps=ball.eps[jobs]), take),
                options._replace(
                    step_size=take(options.step_size[jobs]),
                    sample_offset=options.sample_offset + rows.start,
                    on_progress=_part_of(options.on_progress, number, len(blocks)),
                ),
                None if x_init is None else take(x_init[rows]),
            )
            ends.append(_every_array(end, give))
        return ends[0] if len(ends) == 1 else AttackArrays(*map(_joined, zip(*ends)))

    def _moves(self, x: Array) -> tuple[Move, Move]:
        """How arguments go to the GPU, and how results go to where x is."""
        return self._library.asarray, self._library.asnumpy if isinstance(x, np.ndarray) else (lambda array: array)

    def _on_gpu(self, weights: Weights) -> Weights:
        """The weights on the current GPU, where they are kept with the network."""
        return kept_on_gpu(self._library, weights, self.name, lambda: _every_array(weights, self._library.asarray))


def _every_array(parts: Any, move: Move) -> Any:
    """The named tuple with its arrays moved."""
    return parts._replace(
        **{name: move(part) for name, part in parts._asdict().items() if hasattr(part, "__array_function__")}
    )


def _blocks(jobs: int, samples: int, features: int) -> list[tuple[slice, slice]]:
    """Rows of x, and jobs that attack them, in the order of the jobs; each sample's jobs come once a radius."""
    size = max(BLOCK_NUMBERS // features, 1)
    starts = [(radius, row) for radius in range(0, jobs, max(samples, 1)) for row in range(0, samples, size)]
    return [
        (slice(row, min(row + size, samples)), slice(radius + row, radius + min(row + size, samples)))
        for radius, row in starts
    ] or [(slice(0, 0), slice(0, 0))]


def _part_of(on_progress: Callable[[float], None] | None, number: int, blocks: int) -> Callable[[float], None] | None:
    return None if on_progress is None else lambda share: on_progress((number + share) / blocks)


def _joined(parts: Any) -> Any:
    return None if parts[0] is None else np.concatenate(parts)
