"""The seven rows of the targets: six attacks, one of them in two modes, and what was aimed at."""

from __future__ import annotations

from typing import NamedTuple

from pyfirstorder.bench.workloads import Workload, random_data

FAST, STRICT = "pyfirstorder cuda, fast", "pyfirstorder cuda, strict"
EAGER, COMPILED, JAX, JAX_HIGHEST = "torch eager", "torch.compile bf16", "JAX jit", "JAX jit, highest"
EPS = 8 / 255
LARGE = 10_000  # samples


class Size(NamedTuple):
    """Inputs, hidden units, outputs, samples, steps."""

    d: int
    m: int
    k: int
    samples: int
    steps: int


class Target(NamedTuple):
    """One row of the table: what a mode of ours is to reach on a shape."""

    shape: str
    ours: str
    times: dict[str, float]  # as fast as these, at least
    share: float | None = None  # of the ceiling of fp16 products, at least
    microseconds: float | None = None  # a step, at most


# Steps are as many as make a call short beside its work: a thousand for one sample.
SIZES = {
    "784-1024-10": Size(784, 1024, 10, LARGE, 40),
    "3072-4096-10": Size(3072, 4096, 10, LARGE, 10),
    "784-256-1": Size(784, 256, 1, 1, 1000),
    "768-512-1000": Size(768, 512, 1000, LARGE, 40),
    "784-64-10": Size(784, 64, 10, LARGE, 100),
    "l2 3072-512-10": Size(3072, 512, 10, LARGE, 50),
}
DRY_SIZES = {name: Size(17, 9, 1 if size.k == 1 else 5, min(size.samples, 6), 4) for name, size in SIZES.items()}

TARGETS = (
    Target("784-1024-10", FAST, {EAGER: 12, COMPILED: 2, JAX: 4}, share=0.62),
    Target("784-1024-10", STRICT, {EAGER: 5.5, JAX_HIGHEST: 5}),
    Target("3072-4096-10", FAST, {EAGER: 12, COMPILED: 1.3, JAX: 2.4}, share=0.78),
    Target("784-256-1", FAST, {EAGER: 60, COMPILED: 8, JAX: 15}, microseconds=1.5),
    Target("768-512-1000", FAST, {EAGER: 9, COMPILED: 1.5, JAX: 2.8}),
    Target("784-64-10", FAST, {EAGER: 25, COMPILED: 5, JAX: 8}),
    Target("l2 3072-512-10", FAST, {EAGER: 20, COMPILED: 5, JAX: 9}),
)


def workload(name: str, *, dry_run: bool) -> Workload:
    """The attack of a shape: a quarter of the radius a step, from the samples themselves."""
    size = (DRY_SIZES if dry_run else SIZES)[name]
    flat = name.startswith("l2")
    ball = "ℓ2 without box" if flat else "ℓ∞ in [0, 1]"
    return Workload(
        name,
        f"{ball}, d={size.d} m={size.m} k={size.k}, {size.steps} steps, B={size.samples}",
        random_data(size.d, size.m, size.k, size.samples),
        "l2" if flat else "linf",
        1.0 if flat else EPS,
        0.25 if flat else EPS / 4,
        size.steps,
        None if flat else (0.0, 1.0),
        loss="squared" if size.k == 1 else None,
    )
