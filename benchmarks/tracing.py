"""Time of `dynamics.trace` against the untraced attack, with the same end points to the bit.

    python benchmarks/tracing.py [--samples 48] [--rounds 7] [--threads 1] [--clock wall]

d = 784, m = 1024, 40 steps.  In a round every way runs once; a ratio is the median of the ratios within the rounds.
"iterates" records the points, too, and takes them from a loop on input coordinates, where the others may run on hidden
units; "its loop" is `pgd` with that way of evaluation, whose ends agree up to rounding.  ``--clock cpu`` counts the
processor's time of this process alone, for a machine with other work.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

import pyfirstorder as fo
from pyfirstorder.dynamics import trace

CASES = [("linf", "sign", 0.03, 0.002), ("l2", "normalized", 1.0, 0.06), ("l2", "gradient", 1.0, 1e-3)]
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    asked = parser.parse_args()
    clock = CLOCKS[asked.clock]
    rng = np.random.default_rng(0)
    x, y = rng.random((asked.samples, 784)).astype(np.float32), rng.integers(0, 10, asked.samples)
    for activation in ("softplus", "tanh", "relu"):
        w, a = rng.standard_normal((1024, 784)) / 28, rng.standard_normal((10, 1024)) / 32
        net = fo.TwoLayerNetwork(w.astype(np.float32), a.astype(np.float32), activation=activation)
        for norm, direction, eps, step_size in CASES:
            options = {"eps": eps, "norm": norm, "direction": direction, "step_size": step_size}
            options |= {"threads": asked.threads}
            ways = {
                "trace": lambda net=net, o=options: trace(net, x, y, **o).result.x_adv,
                "iterates": lambda net=net, o=options: trace(net, x, y, iterates=True, **o).result.x_adv,
                "pgd": lambda net=net, o=options: fo.pgd(net, x, y, **o).x_adv,
            }
            same = "auto" if norm == "linf" else "incremental" if activation == "relu" else "dense"
            ways["its loop"] = lambda net=net, o=options, e=same: fo.pgd(net, x, y, evaluation=e, **o).x_adv
            ends = {name: way() for name, way in ways.items()}
            assert np.array_equal(ends["trace"], ends["pgd"]), "a trace changes the attack"
            np.testing.assert_allclose(ends["iterates"], ends["pgd"], atol=1e-3 * eps)
            taken: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(asked.rounds):
                for name, way in ways.items():
                    begin = clock()
                    way()
                    taken[name].append(clock() - begin)

            def ratio(one: str, other: str, taken: dict[str, list[float]] = taken) -> float:
                return statistics.median(a / b for a, b in zip(taken[one], taken[other]))

            print(
                f"{activation:8} {norm:4} {direction:10} trace / pgd {ratio('trace', 'pgd'):.2f}, "
                f"iterates / pgd {ratio('iterates', 'pgd'):.2f}, "
                f"iterates / its loop {ratio('iterates', 'its loop'):.2f}; "
                f"pgd {statistics.median(taken['pgd']) * 1e3:.1f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()
