"""Products of tensor cores, generic and of Hopper GPUs: whether their bits agree, and what both reach in attacks.

Two shapes whose steps are products and little else; a rate counts the operations of a step (the two products, once)
whatever the kernels do for them, so that strict mode, which multiplies three pairs of halves, can reach a third of the
ceiling of fp16 products.  This stage is a process of its own, so that a kernel which fails ends nothing else.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from on_gpu import shapes
from on_gpu.clock import Clock, median
from pyfirstorder import backends
from pyfirstorder.backends.cuda import CudaBackend, products
from pyfirstorder.backends.cuda.products import GENERIC, HOPPER, Products

if TYPE_CHECKING:
    from on_gpu.results import Results
    from pyfirstorder.bench.workloads import Data, Workload

SHAPES = ("784-1024-10", "3072-4096-10")
MODES = ("strict", "fast")
DRY_SIZES = ((17, 9, 33, 6),)


def run(results: Results, *, dry_run: bool, seconds: float) -> None:
    """The comparison first, then every shape, mode and kind of product."""
    state = backends.available_backends()["cuda"]
    if state != "available":
        results["missing"] = state
        return
    os.environ[products.VARIABLE] = HOPPER
    loaded: Any = backends.get("cuda")

    def with_products(chosen: Products) -> CudaBackend:
        return CudaBackend(loaded._library, loaded._engine, chosen)

    chosen = products.choose(loaded._engine, with_products, DRY_SIZES if dry_run else products.SIZES)
    results["words"], agree = chosen.words, chosen.for_hopper
    for shape in SHAPES:
        workload = shapes.workload(shape, dry_run=dry_run)
        data = workload.make()
        answers: dict[str, np.ndarray] = {}
        for kind in (GENERIC, HOPPER) if chosen.for_hopper else (GENERIC,):
            backends._loaded["cuda"] = with_products(Products(kind == HOPPER, ""))
            for mode in MODES:
                found = _measured(workload, data, mode, answers, dry_run)
                results[f"{shape} {mode} {kind}"] = found
                agree &= found["same_bits"]
    results["agree"] = agree  # at last: whoever reads it knows that nothing failed before


def _measured(
    workload: Workload, data: Data, mode: str, answers: dict[str, np.ndarray], dry_run: bool
) -> dict[str, Any]:
    """Microseconds a step, the rate, and whether the answer has the bits of the kind that was measured before."""
    import cupy

    there = type(data)(data.net, cupy.asarray(data.x), cupy.asarray(data.y))

    def attack() -> Any:
        return workload.run(there, backend="cuda", retire=False, precision=mode).x_adv

    answer = attack().get()
    same_bits = bool(np.array_equal(answer, answers.setdefault(mode, answer)))
    clock = Clock("cupy", dry_run)
    taken = median(clock.several(attack))
    return {
        "microseconds_a_step": 1e6 * taken / workload.steps,
        "flops_per_second": workload.flops(data) / taken,
        "same_bits": same_bits,
        "by": clock.kind,
    }
