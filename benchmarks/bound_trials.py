"""Is a certified bound ever below what an attack reached?  Random networks, samples, sets and losses.

A trial is one end point of one attack against the bound for its network, sample and set.

    python benchmarks/bound_trials.py --trials 1000000
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np

import pyfirstorder as fo

ACTIVATIONS = (
    *("relu", "leaky_relu(0.2)", "elu(0.5)", "softplus(5)", "sigmoid", "tanh", "erf", "gelu", "gelu_tanh", "silu"),
    *("quadratic", "identity"),
)
LOSSES = ("squared", "logistic", "cross_entropy", "margin", "dlr", "linear")
SAMPLES = 1000


def trial(generator: np.random.Generator) -> tuple[int, int, np.ndarray[Any, Any], str]:
    """Violations of the bound, certified samples that were fooled, gap over the bound's gain, and what was drawn."""
    loss, dtype = str(generator.choice(LOSSES)), generator.choice([np.float32, np.float64])
    m, d, k = int(generator.integers(1, 17)), int(generator.integers(1, 17)), int(generator.integers(4, 7))
    k = 1 if loss == "logistic" else k
    weights = [generator.standard_normal(shape).astype(dtype) for shape in ((m, d), (k, m), (m,), (k,))]
    net = fo.TwoLayerNetwork(*weights, activation=str(generator.choice(ACTIVATIONS)))
    x = generator.random((SAMPLES, d)).astype(dtype)
    y: Any = generator.integers(0, k, SAMPLES)
    if loss == "logistic":
        y = generator.choice([-1, 1], SAMPLES)
    elif loss in ("squared", "linear"):
        y = generator.standard_normal((SAMPLES, k)).astype(dtype)
    task: dict[str, Any] = {
        "eps": 10 ** generator.uniform(-6, 0.5, SAMPLES),
        "norm": str(generator.choice(["linf", "l2", "l1"])),
        "bounds": (0.0, 1.0) if generator.random() < 0.5 else None,
        "loss": loss,
        "targeted": bool(generator.random() < 0.3),
        "threads": 1,
    }
    certificate = fo.certify(net, x, y, **task)
    attack = fo.pgd(net, x, y, steps=10, random_start=True, seed=int(generator.integers(2**32)), **task)
    clean = fo.input_gradient(net, x, y, loss=loss, targeted=task["targeted"], threads=1)[0].astype(np.float64)
    attained = attack.best_loss.astype(np.float64)
    below = int(np.count_nonzero(~(certificate.bound >= attained)))
    fooled = 0 if attack.success is None else int(np.count_nonzero(certificate.certified & attack.success))
    gain = certificate.bound - clean
    tightness = np.where(gain > 0, (attained - clean) / np.where(gain > 0, gain, 1.0), np.nan)
    return below, fooled, tightness, f"{net} {loss} {task['norm']}"


def main() -> None:
    """Run the trials and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    warnings.simplefilter("ignore", (fo.ZeroGradientWarning))
    generator, began = np.random.default_rng(asked.seed), time.perf_counter()
    rounds = -(-asked.trials // SAMPLES)
    below = fooled = 0
    ratios = []
    for _ in range(rounds):
        violations, successes, tightness, drawn = trial(generator)
        below, fooled = below + violations, fooled + successes
        ratios.append(tightness)
        if violations or successes:
            print(f"VIOLATED: {drawn}: {violations} bounds, {successes} certified samples")
    median = np.nanmedian(np.concatenate(ratios))
    print(f"{rounds * SAMPLES} trials of {rounds} networks in {time.perf_counter() - began:.0f} s")
    print(f"bounds below an attack: {below}; certified samples that an attack fooled: {fooled}")
    print(f"median of (attained - clean) / (bound - clean): {median:.4f}")


if __name__ == "__main__":
    main()
