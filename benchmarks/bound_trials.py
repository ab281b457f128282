"""Is a certified bound ever below what an attack reached?  Random networks, samples, sets and losses.

A trial is one end point of one attack against the bound for its network, sample and set.  Radii go down to 1e-6, where
bound and attack differ by roundings alone.  Beside counts: how close the attacks came, as the share
``(attained - clean) / (bound - clean)`` of what the bound allows, whose worst value may come up to 1, and
how far a bound was exceeded, if one was.

    python benchmarks/bound_trials.py --trials 1000000
    python benchmarks/bound_trials.py --trials 2000 --method exact    # mixed-integer programs of small relu networks
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import pyfirstorder as fo

if TYPE_CHECKING:
    from pyfirstorder.problem import Array

ACTIVATIONS = (
    *("relu", "leaky_relu(0.2)", "elu(0.5)", "softplus(5)", "sigmoid", "tanh", "erf", "gelu", "gelu_tanh", "silu"),
    *("quadratic", "identity"),
)
LOSSES = ("squared", "logistic", "cross_entropy", "margin", "dlr", "linear")
SAMPLES = {"linear": 1000, "interval": 1000, "exact": 10}  # of a network
LARGEST = {"linear": 17, "interval": 17, "exact": 9}  # hidden units and inputs stay below


class Trials(NamedTuple):
    """What a network's trials gave."""

    below: int  # bounds that an attack exceeded
    fooled: int  # samples that were certified and fooled
    excess: float  # attained - bound, the largest
    tightness: Array  # (attained - clean) / (bound - clean)
    drawn: str


def trial(generator: np.random.Generator, method: str) -> Trials:
    """Attacks on the samples of one random network, with one random loss and kind of set."""
    loss, dtype = str(generator.choice(LOSSES)), generator.choice([np.float32, np.float64])
    m, d = (int(size) for size in generator.integers(1, LARGEST[method], 2))
    k, samples = int(generator.integers(4, 7)), SAMPLES[method]
    k = 1 if loss == "logistic" else k
    weights = [generator.standard_normal(shape).astype(dtype) for shape in ((m, d), (k, m), (m,), (k,))]
    is_exact = method == "exact"
    net = fo.TwoLayerNetwork(*weights, activation=str(generator.choice(ACTIVATIONS[: 2 if is_exact else None])))
    x = generator.random((samples, d)).astype(dtype)
    y: Any = generator.integers(0, k, samples)
    if loss == "logistic":
        y = generator.choice([-1, 1], samples)
    elif loss in ("squared", "linear"):
        y = generator.standard_normal((samples, k)).astype(dtype)
    task: dict[str, Any] = {
        "eps": 10 ** generator.uniform(-6, 0.5, samples),
        "norm": str(generator.choice(["linf", "l1"] if is_exact else ["linf", "l2", "l1"])),
        "bounds": (0.0, 1.0) if generator.random() < 0.5 else None,
        "loss": loss,
        "targeted": bool(generator.random() < 0.3),
        "threads": 1,
    }
    certificate = fo.certify(net, x, y, method=method, **task)
    attack = fo.pgd(net, x, y, steps=10, random_start=True, seed=int(generator.integers(2**32)), **task)
    clean = fo.input_gradient(net, x, y, loss=loss, targeted=task["targeted"], threads=1)[0].astype(np.float64)
    attained = attack.best_loss.astype(np.float64)
    below = int(np.count_nonzero(~(certificate.bound >= attained)))
    fooled = 0 if attack.success is None else int(np.count_nonzero(certificate.certified & attack.success))
    gain = certificate.bound - clean
    tightness = np.where(gain > 0, (attained - clean) / np.where(gain > 0, gain, 1.0), np.nan)
    excess = float(np.max(attained - certificate.bound))
    return Trials(below, fooled, excess, tightness, f"{net} {loss} {task['norm']}")


def main() -> None:
    """Run the trials and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--method", choices=list(SAMPLES), default="linear")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    warnings.simplefilter("ignore", (fo.ZeroGradientWarning))
    generator, began = np.random.default_rng(asked.seed), time.perf_counter()
    rounds = -(-asked.trials // SAMPLES[asked.method])
    found = []
    for _ in range(rounds):
        found.append(trial(generator, asked.method))
        if found[-1].below or found[-1].fooled:
            print(f"VIOLATED: {found[-1].drawn}: {found[-1].below} bounds, {found[-1].fooled} certified samples")
    shares = np.concatenate([one.tightness for one in found])
    count, seconds = rounds * SAMPLES[asked.method], time.perf_counter() - began
    print(f"{count} trials of {rounds} networks in {seconds:.0f} s, method {asked.method}")
    below, fooled = sum(one.below for one in found), sum(one.fooled for one in found)
    print(f"bounds below an attack: {below}; certified samples that an attack fooled: {fooled}")
    excess = max(one.excess for one in found)
    print(f"largest attained - bound: {excess:.3g}{' (none is exceeded)' if excess <= 0 else ''}")
    print(f"(attained - clean) / (bound - clean): median {np.nanmedian(shares):.4f}, worst {np.nanmax(shares):.12g}")


if __name__ == "__main__":
    main()
