"""SHA-256 of what the native engine computes on fixed problems, for each instruction set and floating type.

The problems are made of integers alone, and no library decides a bit of them: numbers are the upper 24 bits of a hash
of their index, exact in both types.  So a digest changes only where the engine computes other bits.

    python tests/stability.py --store

writes the digests of the instruction sets of this machine in place of the old ones; those of others stay.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from support import ACTIVATION_NAMES, LOSS_NAMES, Problem, run, smallest_outputs

from pyfirstorder import TwoLayerNetwork
from pyfirstorder.problem import Ball, Objective

STORED = Path(__file__).with_name("stability.json")
SAMPLES, FEATURES, HIDDEN = 11, 37, 53
THREADS = 3  # any number gives the same
KEPT = 16  # of a digest's 64 letters: 64 bits, which no change hits by chance
NORMS = {"linf": 0.3, "l2": 0.9, "l1": 2.5}


def numbers(seed: int, *shape: int) -> np.ndarray:
    """Multiples of 2^-23 in [-1, 1): the upper bits of SplitMix64 (Steele, Lea & Flood 2014) of seed and index."""
    with np.errstate(over="ignore"):
        z = np.arange(1, np.prod(shape) + 1, dtype=np.uint64) + np.uint64(seed << 32)
        z *= np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(40)).astype(np.float64) / 2**23 - 1).reshape(shape)


def problem(dtype: Any, activation: str = "relu", loss: str = "cross_entropy", targeted: bool = False) -> Problem:
    """A network, points and targets."""
    k = 1 if loss == "logistic" else max(5, smallest_outputs(loss, targeted))
    parts = (numbers(1, HIDDEN, FEATURES) / 4, numbers(2, k, HIDDEN) / 4, numbers(3, HIDDEN), numbers(4, k))
    weights = TwoLayerNetwork(*(part.astype(dtype) for part in parts), activation).weights(dtype)
    labels, values = np.arange(SAMPLES) % k, numbers(5, SAMPLES, k).astype(dtype)
    if loss == "logistic":
        values = np.where(values > 0, 1, -1).astype(dtype)
    has_classes = loss in ("cross_entropy", "margin", "dlr")
    sources = (labels + 1) % k if loss == "dlr" and targeted else None
    objective = Objective(loss, targeted, labels if has_classes else None, None if has_classes else values, sources)
    return Problem(weights, numbers(6, SAMPLES, FEATURES).astype(dtype), objective)


def ball(norm: str, dtype: Any, boxed: bool) -> Ball:
    """A radius for each sample, and a box that holds all points."""
    radii = NORMS[norm] * (1 + np.arange(SAMPLES) / 8)
    sides = (np.full(FEATURES, -1, dtype), np.full(FEATURES, 1, dtype)) if boxed else (None, None)
    return Ball(norm, radii, *sides)


def results(backend: Any, dtype: Any) -> Iterator[tuple[str, Any]]:
    """Names, and the arrays that the engine computed."""
    for activation in ACTIVATION_NAMES:
        given = problem(dtype, activation)
        yield f"outputs, {activation}", [backend.forward(given.weights, given.x, THREADS)]
        yield f"gradients, {activation}", backend.input_gradient(given.weights, given.x, given.objective, THREADS)
    for loss, targeted in product(LOSS_NAMES, (False, True)):
        given = problem(dtype, "gelu", loss, targeted)
        found = backend.input_gradient(given.weights, given.x, given.objective, THREADS)
        yield f"gradients, {loss}{' targeted' * targeted}", found
    given = problem(dtype)
    yield "product", [backend.multiply(given.x, np.ascontiguousarray(given.weights.hidden_weight.T), THREADS)]
    for norm, boxed in product(NORMS, (False, True)):
        within, name = ball(norm, dtype, boxed), f"{norm}{' in a box' * boxed}"
        delta = (2 * numbers(7, SAMPLES, FEATURES)).astype(dtype)
        yield f"projections, {name}", [backend.project(delta, given.x, within, THREADS)]
        starts = [backend.random_start(given.x, within, sphere, 9, 1, 5) for sphere in (False, True)]
        yield f"random starts, {name}", starts
        for direction, momentum in product(("gradient", "sign", "normalized", "sparse"), (0.0, 0.9)):
            options = {"direction": direction, "momentum": momentum, "steps": 12, "keep_best": True, "trace": True}
            ways = {"dense"}
            if not momentum:
                ways |= {"hidden"} if norm == "l2" and not boxed and direction in ("gradient", "normalized") else set()
                ways |= {"incremental"}
            for way in sorted(ways):
                end = run(backend, given, within, evaluation=way, threads=THREADS, **options)
                yield f"pgd, {name}, {direction}{' with momentum' * bool(momentum)}, {way}", end
        end = run(backend, given, within, algorithm="apgd", steps=20, restarts=2, random_start="ball", threads=THREADS)
        yield f"apgd, {name}", end


def digests(backend: Any, dtype: Any) -> dict[str, str]:
    """The digest of each result."""
    found = {}
    for name, arrays in results(backend, dtype):
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
        found[name] = digest.hexdigest()[:KEPT]
    return found


def stored() -> dict[str, Any]:
    """By instruction set and type."""
    return json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else {}


def store() -> None:
    """Those of this machine."""
    from pyfirstorder.backends import cpu

    known = stored()
    for isa in cpu.supported_isas():
        backend = cpu.CpuBackend(isa)
        known[isa] = {np.dtype(dtype).name: digests(backend, dtype) for dtype in (np.float32, np.float64)}
        print(f"{isa}: {sum(map(len, known[isa].values()))} digests")
    STORED.write_text(json.dumps(known, indent=0, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--store"]:
        sys.exit(__doc__)
    store()
