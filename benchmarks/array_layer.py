"""What a call costs more with arrays of another library than with NumPy's, and what a call under jax.jit costs.

    python benchmarks/array_layer.py [--rounds 2000]

The network is tiny (4-8-3, two samples), so that a call is nearly all overhead; threads=1.  A round calls with NumPy's
array and with the other in turn; the figure is the difference of the medians.  Answers are compared first.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import pyfirstorder as fo

LIBRARIES = ("torch", "jax.numpy", "array_api_strict")
NET = fo.TwoLayerNetwork(
    np.random.default_rng(0).standard_normal((8, 4), dtype=np.float32),
    np.random.default_rng(1).standard_normal((3, 8), dtype=np.float32),
)
X, Y = np.random.default_rng(2).random((2, 4), dtype=np.float32), np.array([0, 2])
CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "forward": lambda x, y: fo.forward(NET, x, threads=1),
    "input_gradient": lambda x, y: fo.input_gradient(NET, x, y, threads=1)[1],
    "project": lambda x, y: fo.project(x, eps=0.1, norm="l2", threads=1),
    "pgd, its x_adv": lambda x, y: fo.pgd(NET, x, y, eps=0.1, steps=1, threads=1).x_adv,
    "evaluate, its x_adv": lambda x, y: fo.evaluate(NET, x, y, eps=0.1, steps=1, threads=1).x_adv,
}


def median_seconds(call: Callable[[], Any], other: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Medians of two calls that take turns."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for one, seconds in zip((call, other), taken):
            begin = time.perf_counter()
            one()
            seconds.append(time.perf_counter() - begin)
    return statistics.median(taken[0]), statistics.median(taken[1])


def compare(library: str, rounds: int) -> None:
    """One line for each call."""
    xp = importlib.import_module(library)
    x, y = xp.asarray(X), xp.asarray(Y)
    for name, call in CALLS.items():
        np.testing.assert_array_equal(np.from_dlpack(call(x, y)), call(X, Y))
        plain, given = median_seconds(lambda c=call: c(X, Y), lambda c=call: c(x, y), rounds)
        print(f"{library:18} {name:20} NumPy {plain * 1e6:6.1f} us, {(given - plain) * 1e6:+7.1f} us")
    if library == "jax.numpy":
        begin = time.perf_counter()
        for _ in range(rounds):
            xp.asarray(X).block_until_ready()
        print(f"{library:18} {'asarray alone':20} {(time.perf_counter() - begin) / rounds * 1e6:6.1f} us")


def under_jit(rounds: int) -> None:
    """Forward and an attack as parts of a compiled function."""
    import jax

    from pyfirstorder.interop import jax as foj

    x, y = jax.numpy.asarray(X), jax.numpy.asarray(Y)
    calls = {
        "forward": (jax.jit(lambda x: foj.forward(NET, x)), (x,)),
        "pgd": (jax.jit(lambda x, y: foj.pgd(NET, x, y, eps=0.1, steps=1).x_adv), (x, y)),
    }
    for name, (compiled, arguments) in calls.items():
        np.testing.assert_array_equal(
            compiled(*arguments), CALLS["forward" if name == "forward" else "pgd, its x_adv"](X, Y)
        )
        seconds = []
        for _ in range(rounds):
            begin = time.perf_counter()
            compiled(*arguments).block_until_ready()
            seconds.append(time.perf_counter() - begin)
        print(f"{'jax.jit':18} {name:20} {statistics.median(seconds) * 1e6:6.1f} us a call")


def main() -> None:
    """All libraries that are installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000)
    rounds = parser.parse_args().rounds
    for library in LIBRARIES:
        try:
            importlib.import_module(library)
        except ImportError as error:
            print(f"{library:18} missing: {error}")
        else:
            compare(library, rounds)
            if library == "jax.numpy":
                under_jit(rounds)


if __name__ == "__main__":
    main()
