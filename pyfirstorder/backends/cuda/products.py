"""Which products of tensor cores the cuda backend uses: the generic ones, or those of Hopper GPUs.

Both form the same sums in the same order, so their results must agree to the bit; whether a GPU cuts the sums of both
instructions off alike only the GPU can tell.  So the environment variable PYFIRSTORDER_GPU_PRODUCTS decides: without
it, or with ``generic``, the generic products run everywhere.  With ``hopper``, a GPU of compute capability 9.0
multiplies some small random matrices in both ways at the first use, and takes Hopper's products where not a bit
differs.  It is not the default because no GPU has confirmed these kernels yet, and one that fails on the device takes
the whole process's use of it along, which a comparison in that process cannot undo.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyfirstorder.problem import AttackOptions, Ball, Objective, Weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfirstorder.problem import Array

VARIABLE = "PYFIRSTORDER_GPU_PRODUCTS"
GENERIC, HOPPER = CHOICES = ("generic", "hopper")
Sizes = tuple[tuple[int, int, int, int], ...]  # inputs, hidden units, outputs and samples
# Several tiles of 128 rows and columns, several stages of 64 of the depth, no multiples; and more tiles than a
# GPU runs at once, so that its blocks go on from one to the next.
SIZES: Sizes = ((456, 200, 40, 150), (72, 2400, 3, 2400))


class Products(NamedTuple):
    """What was decided, and why, in words."""

    for_hopper: bool
    words: str


def wanted() -> str:
    """What the environment asks for."""
    name = os.environ.get(VARIABLE, GENERIC)
    if name not in CHOICES:
        raise ValueError(f"{VARIABLE}: expected one of {', '.join(CHOICES)}, got {name!r}")
    return name


def choose(engine: Any, backend_with: Callable[[Products], Any], sizes: Sizes = SIZES) -> Products:
    """What the current device is to use; ``backend_with`` makes a backend whose products are given."""
    if wanted() == GENERIC:
        return Products(False, GENERIC)
    if not engine.has_hopper_products():
        return Products(False, "generic: this GPU is no Hopper GPU, or the engine was built without its products")
    generic, hopper = (backend_with(Products(of_hopper, "")) for of_hopper in (False, True))
    generic.loop = hopper.loop = "launched"  # a resident kernel has products of its own
    try:
        answers = samples_of(hopper, sizes)
    except RuntimeError as error:
        return _given_up(f"the first one failed ({error})", generic, sizes)
    differing = sum(not np.array_equal(*both) for both in zip(answers, samples_of(generic, sizes)))
    if differing:
        return _given_up(f"{differing} of {len(answers)} results differ from the generic ones", generic, sizes)
    return Products(True, "hopper: their bits are those of the generic ones")


def _given_up(why: str, generic: Any, sizes: Sizes) -> Products:
    """The generic products, with a warning; an error where the device can no longer be used."""
    try:
        samples_of(generic, sizes)
    except RuntimeError as error:
        message = f"products of Hopper GPUs: {why}, and this process can no longer use the GPU; start it without "
        raise RuntimeError(f"{message}{VARIABLE}={HOPPER}") from error
    warnings.warn(f"the generic products are used instead of those of Hopper GPUs: {why}", stacklevel=2)
    return Products(False, f"generic: {why}")


def samples_of(backend: Any, sizes: Sizes) -> list[Array]:
    """Results of all kinds of products: in three terms and in one, narrow and wide outputs, all rows and some."""
    results: list[Array] = []
    for d, m, k, samples in sizes:
        rng = np.random.default_rng([d, m, k])
        w, b, a, c, x = (
            rng.standard_normal(shape).astype(np.float32) for shape in ((m, d), (m,), (k, m), (k,), (samples, d))
        )
        weights = Weights(w, b, a, c, "relu", 0.0, {})
        labels = rng.integers(0, k, samples)
        objective = Objective("cross_entropy", False, labels, None)
        results += backend.input_gradient(weights, x, objective, 1)
        ball = Ball("l2", np.full(samples, 0.5))
        for precision, early_stop in (("fast", False), ("strict", True)):
            options = _options(ball, precision, early_stop)
            results.append(backend.attack(weights, x, objective, ball, options, None).x_adv)
    return results


def _options(ball: Ball, precision: str, early_stop: bool) -> AttackOptions:
    return AttackOptions(
        algorithm="pgd",
        steps=3,
        step_size=ball.eps / 4,
        direction="normalized",
        sparse_count=1,
        momentum=0.0,
        random_start="none",
        restarts=1,
        seed=0,
        sample_offset=0,
        early_stop=early_stop,
        keep_best=False,
        trace=False,
        rho=0.75,
        retire=True,
        evaluation="dense",
        precision=precision,
        threads=1,
    )
