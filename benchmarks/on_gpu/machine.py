"""The machine: its GPU, versions, and the ceilings of this run, which no attack can pass."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from on_gpu.clock import Clock, median

if TYPE_CHECKING:
    from on_gpu.results import Results

QUERY = "name,driver_version,memory.total,clocks.max.sm,power.limit,compute_cap"
PRODUCT, BYTES = 8192, 2**30  # of the products (rows, columns and depth), and of a copy
DRY_PRODUCT, DRY_BYTES = 64, 2**16


def device(results: Results, *, dry_run: bool, seconds: float) -> None:
    """What nvidia-smi says, and what takes part."""
    from pyfirstorder.bench import machine

    try:
        said = subprocess.run(
            ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"], capture_output=True, text=True, check=True
        ).stdout.partition("\n")[0]
        results["gpu"] = dict(zip(QUERY.split(","), map(str.strip, said.split(","))))
    except (OSError, subprocess.CalledProcessError) as error:
        results["gpu"] = f"missing: {error}"
    machine.LIBRARIES = (*machine.LIBRARIES, "cupy", "cupy-cuda12x", "cupy-cuda13x", "triton")
    results["versions"] = machine.describe()


def ceilings(results: Results, *, dry_run: bool, seconds: float) -> None:
    """Operations a second of products in each type, and bytes read and written a second."""
    for maker in (_by_torch, _by_cupy):
        try:
            products, copy = maker(dry_run)
        except ImportError as error:
            results[f"missing {maker.__name__.removeprefix('_by_')}"] = str(error)
            continue
        clock = Clock(maker.__name__.removeprefix("_by_"), dry_run)
        size = DRY_PRODUCT if dry_run else PRODUCT
        for name, product in products.items():
            taken = median(clock.several(product))
            results[name] = {"flops_per_second": 2 * size**3 / taken, "by": clock.kind}
        moved = 2 * (DRY_BYTES if dry_run else BYTES)
        results["memory"] = {"bytes_per_second": moved / median(clock.several(copy)), "by": clock.kind}
        return
    results["missing"] = "neither torch nor CuPy is here"


Timed = Callable[[], Any]


def _by_torch(dry_run: bool) -> tuple[dict[str, Timed], Timed]:
    import torch

    place, size = ("cpu", DRY_PRODUCT) if dry_run else ("cuda", PRODUCT)
    if not dry_run and not torch.cuda.is_available():
        raise ImportError("this torch sees no GPU")
    source = torch.ones(DRY_BYTES if dry_run else BYTES, dtype=torch.uint8, device=place)
    target = torch.empty_like(source)

    def product_of(kind: Any, precision: str) -> Timed:
        left, right = (torch.randn(size, size, device=place).to(kind) for _ in range(2))
        target = torch.empty_like(left)

        def run() -> None:
            torch.set_float32_matmul_precision(precision)
            torch.mm(left, right, out=target)

        return run

    products = {
        "fp16": product_of(torch.float16, "highest"),
        "bf16": product_of(torch.bfloat16, "highest"),
        "tf32": product_of(torch.float32, "high"),
        "fp32": product_of(torch.float32, "highest"),
    }
    return products, lambda: target.copy_(source)


def _by_cupy(dry_run: bool) -> tuple[dict[str, Timed], Timed]:
    import cupy

    size = DRY_PRODUCT if dry_run else PRODUCT
    source = cupy.ones(DRY_BYTES if dry_run else BYTES, dtype="uint8")

    def product_of(kind: str) -> Timed:
        left = cupy.ones((size, size), dtype=kind)
        return lambda: left @ left

    return {"fp16": product_of("float16"), "fp32": product_of("float32")}, source.copy
