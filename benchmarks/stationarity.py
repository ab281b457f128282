"""Time of `dynamics.stationarity` a sample against the same by torch's autograd, in one process, on one thread.

    python benchmarks/stationarity.py [--samples 4] [--rounds 5] [--clock wall]

The largest eigenvalue of the projected Hessian at end points of l2 ascents, d = 784 and m = 1024 and 128, by each
method; by torch as torch.func.hessian with a dense eigenvalue problem, and as Hessian-vector products of autograd under
SciPy's Lanczos.  Every answer is compared with that of the dense Hessian.  A round runs every way in turn; ratios are
medians of the ratios within a round.  NumPy's LAPACK has threads of its own: set OPENBLAS_NUM_THREADS=1.  ``--clock
cpu`` counts the processor's time of this process alone, for a machine with other work.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

import pyfirstorder as fo
from pyfirstorder.dynamics import stationarity

FEATURES, EPS = 784, 1.0
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
AGREEMENT = 1e-6  # of the largest magnitude: where the two ways of torch stop


def loss_of(net: fo.TwoLayerNetwork):
    w, a = torch.tensor(net.hidden_weight.astype(np.float64)), torch.tensor(net.output_weight.astype(np.float64))
    return lambda x: 0.5 * (torch.nn.functional.softplus(x @ w.T) @ a) ** 2


def tangent(hessian_product, delta, gradient):
    """The projected, shifted Hessian as an operator, with the normal far below."""
    n = delta / np.linalg.norm(delta)
    shift = (gradient @ n) / EPS

    def product(v):
        v = np.ravel(v)
        along = n @ v
        image = hessian_product(v - along * n) - shift * (v - along * n)
        return image - (n @ image) * n - 1e6 * along * n

    return product


def by_torch(loss, x0, x, dense):
    point = torch.tensor(x)
    gradient = torch.func.grad(loss)(point).numpy()
    if dense:
        hessian = torch.func.hessian(loss)(point).numpy()
        n = (x - x0) / np.linalg.norm(x - x0)
        across = np.eye(len(n)) - np.outer(n, n)
        hessian = across @ (hessian - (gradient @ n) / EPS * np.eye(len(n))) @ across - 1e6 * np.outer(n, n)
        return np.linalg.eigvalsh(hessian)[-1]
    product = tangent(
        lambda v: torch.autograd.functional.hvp(loss, point, torch.tensor(v))[1].numpy(), x - x0, gradient
    )
    return eigsh(LinearOperator((len(x), len(x)), matvec=product, dtype=float), k=1, which="LA", tol=1e-10)[0][0]


def main() -> None:
    """Check, time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    asked = parser.parse_args()
    samples, clock = asked.samples, CLOCKS[asked.clock]
    torch.set_num_threads(1)
    for units in (1024, 128):
        net = fo.random_network(FEATURES, units, dtype=np.float64)
        rng = np.random.default_rng(0)
        x0, y = rng.standard_normal((samples, FEATURES)) / 28, np.zeros(samples)
        ends = fo.pgd(net, x0, y, steps=500, step_size=1.0, eps=EPS, norm="l2", loss="squared").x_adv
        loss = loss_of(net)
        found = stationarity(net, ends, y, x0=x0, eps=EPS, norm="l2", loss="squared", threads=1)
        counts = np.bincount(found.verdict, minlength=5)
        print(f"d={FEATURES}, m={units}: verdicts {counts}, residual up to {found.residual.max():.1e}")

        def ours(method, net=net, ends=ends, y=y, x0=x0):
            options = {"x0": x0, "eps": EPS, "norm": "l2", "loss": "squared", "threads": 1, "method": method}
            return stationarity(net, ends, y, **options).largest_eigenvalue

        def theirs(dense, loss=loss, ends=ends, x0=x0):
            return np.array([by_torch(loss, a, b, dense) for a, b in zip(x0, ends)])

        methods = ["auto", "dense", *(["hidden"] if units <= FEATURES else []), "matrix-free"]
        ways = {method: partial(ours, method) for method in methods}
        ways |= {"torch hessian": partial(theirs, True), "torch Lanczos": partial(theirs, False)}
        wanted = ways["torch hessian"]()
        for name, way in ways.items():
            error = np.max(np.abs(way() - wanted) / np.abs(wanted).max())
            assert error < AGREEMENT, f"{name} differs by {error}"
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(asked.rounds):
            for name, way in ways.items():
                begin = clock()
                way()
                taken[name].append(clock() - begin)
        for name, seconds in taken.items():
            ratios = [
                statistics.median(other / own for other, own in zip(taken[rival], seconds))
                for rival in ("torch hessian", "torch Lanczos")
            ]
            shown = 1e3 * statistics.median(seconds) / samples
            of_it = f"torch hessian {ratios[0]:6.1f}, torch Lanczos {ratios[1]:6.1f} of it"
            print(f"  {name:14} {shown:9.2f} ms a sample; {of_it}", flush=True)


if __name__ == "__main__":
    main()
