"""Every operation, norm, box, type and loop once, on sizes from 1 to 33: what compute-sanitizer watches.

CuPy's pool is put aside, so that every array is an allocation of its own, whose ends and unwritten parts are seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

import pyfirstorder as fo
from pyfirstorder import backends

if TYPE_CHECKING:
    from on_gpu.results import Results

SIZES = range(1, 34)
NORMS = ("linf", "l2", "l1")
ACTIVATIONS = ("relu", "gelu", "softplus", "tanh")


def calls(backend: str) -> Iterator[tuple[str, Callable[[int], Any]]]:
    """Name, and the call on data of a size."""
    for dtype in (np.float32, np.float64):
        for activation in ACTIVATIONS:
            yield f"forward {activation} {dtype.__name__}", _evaluation(fo.forward, dtype, activation, backend)
            yield f"input_gradient {activation} {dtype.__name__}", _evaluation(_gradient, dtype, activation, backend)
        for norm, box in itertools.product(NORMS, (None, (0.0, 1.0))):
            name = f"{norm} {'boxed' if box else 'free'} {dtype.__name__}"
            yield f"project {name}", _projection(dtype, norm, box, backend)
            for attack, loop in itertools.product((fo.pgd, fo.apgd), ("launched", "resident")):
                yield f"{attack.__name__} {name} {loop}", _attack(attack, dtype, norm, box, backend, loop)
            if norm == "linf" and box:  # steps of several bodies of its loop
                yield f"pgd {name} conditional", _attack(fo.pgd, dtype, norm, box, backend, "conditional", steps=20)
            if norm == "l2" and box is None:
                options = {"evaluation": "hidden", "direction": "normalized"}
                yield f"pgd on hidden units {name}", _attack(fo.pgd, dtype, norm, box, backend, "auto", **options)


def _problem(size: int, dtype: Any, activation: str = "relu") -> tuple[fo.TwoLayerNetwork, np.ndarray, np.ndarray]:
    """Inputs, hidden units, outputs and samples near the size, none equal to another."""
    rng = np.random.default_rng(size)
    d, m, k = size, max(1, 34 - size), 2 + size % 9
    net = fo.TwoLayerNetwork(
        rng.standard_normal((m, d)).astype(dtype), rng.standard_normal((k, m)).astype(dtype), activation=activation
    )
    samples = 1 + (5 * size) % 33
    return net, rng.random((samples, d)).astype(dtype), rng.integers(0, k, samples)


def _gradient(net: fo.TwoLayerNetwork, x: Any, *, y: Any, backend: str) -> Any:
    return fo.input_gradient(net, x, y, backend=backend)[1]


def _evaluation(function: Any, dtype: Any, activation: str, backend: str) -> Callable[[int], Any]:
    def call(size: int) -> Any:
        net, x, y = _problem(size, dtype, activation)
        return function(net, x, **({"y": y} if function is _gradient else {}), backend=backend)

    return call


def _projection(dtype: Any, norm: str, box: Any, backend: str) -> Callable[[int], Any]:
    def call(size: int) -> Any:
        _, x, _ = _problem(size, dtype)
        options = {} if box is None else {"x": x, "bounds": box}
        return fo.project(2 * x, eps=0.5, norm=norm, backend=backend, **options)

    return call


def _attack(
    function: Any, dtype: Any, norm: str, box: Any, backend: str, loop: str, **more: Any
) -> Callable[[int], Any]:
    def call(size: int) -> Any:
        net, x, y = _problem(size, dtype)
        start = {"random_start": True} if function is fo.pgd else {}
        options = {"eps": 0.3, "norm": norm, "steps": 3, "bounds": box, "restarts": 2, "backend": backend}
        engine = backends.get(backend)
        chosen, engine.loop = engine.loop, loop
        try:
            return function(net, x, y, **options | start | more).x_adv
        finally:
            engine.loop = chosen

    return call


def run(results: Results, *, dry_run: bool, seconds: float) -> None:
    """All calls, with every size at least once; ends with an error where one raises or is not finite."""
    if not dry_run:
        import cupy

        cupy.cuda.set_allocator(None)
        cupy.cuda.set_pinned_memory_allocator(None)
    done = 0
    for size, (name, call) in zip(itertools.cycle(SIZES), calls("cuda")):
        answer = np.asarray(call(size))
        if not np.all(np.isfinite(answer)):
            raise ArithmeticError(f"{name}, size {size}: not finite")
        done += 1
    results["calls"] = done
