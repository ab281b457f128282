"""Time of `dynamics.stationarity` a sample against the same by torch's autograd, in one process, on one thread.

python benchmarks/stationarity.py [--samples 8]: the largest eigenvalue of the projected Hessian at end points of l2
ascents, d = 784 and m = 1024 and 128, by each method; by torch as torch.func.hessian with a dense eigenvalue problem,
and as Hessian-vector products of autograd under SciPy's Lanczos.  Every answer is compared with that of the dense
Hessian.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

import pyfirstorder as fo
from pyfirstorder.dynamics import stationarity

FEATURES, EPS = 784, 1.0
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


def timed(function):
    begin = time.perf_counter()
    return function(), time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=4)
    samples = parser.parse_args().samples
    torch.set_num_threads(1)
    for units in (1024, 128):
        net = fo.random_network(FEATURES, units, dtype=np.float64)
        rng = np.random.default_rng(0)
        x0, y = rng.standard_normal((samples, FEATURES)) / 28, np.zeros(samples)
        ends = fo.pgd(net, x0, y, steps=500, step_size=1.0, eps=EPS, norm="l2", loss="squared").x_adv
        loss, answers, seconds = loss_of(net), {}, {}
        for method in ("auto", "dense", "hidden", "matrix-free"):
            if method == "hidden" and units > FEATURES:
                continue

            def run(net=net, ends=ends, y=y, x0=x0, method=method):
                return stationarity(net, ends, y, x0=x0, eps=EPS, norm="l2", loss="squared", threads=1, method=method)

            run()
            found, seconds[method] = timed(run)
            answers[method] = found.largest_eigenvalue
        for name, dense in (("torch hessian", True), ("torch Lanczos", False)):
            by_torch(loss, x0[0], ends[0], dense)
            answers[name], seconds[name] = timed(
                lambda loss=loss, ends=ends, x0=x0, dense=dense: np.array(
                    [by_torch(loss, a, b, dense) for a, b in zip(x0, ends)]
                )
            )
        counts = np.bincount(found.verdict, minlength=5)
        print(f"d={FEATURES}, m={units}: verdicts {counts}, residual up to {found.residual.max():.1e}")
        wanted = answers["torch hessian"]
        for name, answer in answers.items():
            error = np.max(np.abs(answer - wanted) / np.abs(wanted).max())
            assert error < AGREEMENT, f"{name} differs by {error}"
            ratio = seconds["torch hessian"] / seconds[name]
            print(f"  {name:14} {1e3 * seconds[name] / samples:9.2f} ms a sample, torch hessian / this {ratio:6.1f}")


if __name__ == "__main__":
    main()
