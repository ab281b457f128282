"""Time of `dynamics.trace` against the untraced attack, on one thread, with the same end points.

python benchmarks/tracing.py [--samples 48]: d = 784, m = 1024, 40 steps.  "loop" is `pgd` with the same way of
evaluation as the trace has, because untraced l2 attacks may run on hidden units, and traced ones do not: the residual
needs the gradient itself.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import pyfirstorder as fo
from pyfirstorder.dynamics import trace

CASES = [("linf", "sign", 0.03, 0.002), ("l2", "normalized", 1.0, 0.06), ("l2", "gradient", 1.0, 1e-3)]
REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=48)
    samples = parser.parse_args().samples
    rng = np.random.default_rng(0)
    x, y = rng.random((samples, 784)).astype(np.float32), rng.integers(0, 10, samples)
    for activation in ("softplus", "relu"):
        w, a = rng.standard_normal((1024, 784)) / 28, rng.standard_normal((10, 1024)) / 32
        net = fo.TwoLayerNetwork(w.astype(np.float32), a.astype(np.float32), activation=activation)
        for norm, direction, eps, step_size in CASES:
            options = {"eps": eps, "norm": norm, "direction": direction, "step_size": step_size, "threads": 1}
            same = "auto" if norm == "linf" else "dense" if activation == "softplus" else "incremental"
            ways = {
                "pgd": lambda net=net, o=options: fo.pgd(net, x, y, **o).x_adv,
                "loop": lambda net=net, o=options, e=same: fo.pgd(net, x, y, evaluation=e, **o).x_adv,
                "trace": lambda net=net, o=options: trace(net, x, y, **o).result.x_adv,
                "iterates": lambda net=net, o=options: trace(net, x, y, iterates=True, **o).result.x_adv,
            }
            best = dict.fromkeys(ways, np.inf)
            for _ in range(REPEATS):
                for name, way in ways.items():
                    begin = time.perf_counter()
                    ends = way()
                    best[name] = min(best[name], time.perf_counter() - begin)
            assert np.array_equal(ends, ways["loop"]()), "a trace changes the attack"
            ratios = ", ".join(f"{name} / pgd {best[name] / best['pgd']:.2f}" for name in ("loop", "trace", "iterates"))
            print(f"{activation:8} {norm:4} {direction:10} trace / loop {best['trace'] / best['loop']:.2f}; {ratios}")


if __name__ == "__main__":
    main()
