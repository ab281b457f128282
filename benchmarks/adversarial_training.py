"""A torch training loop with PGD-10 adversaries, by torchattacks and with that one import changed.

    python benchmarks/adversarial_training.py [--epochs 2] [--threads 2]

A relu 784-512-10 network on 4,000 digits in mini-batches of 128, radius 0.1; both loops begin with the same weights and
take turns, epoch by epoch.  Printed are seconds an epoch and the accuracy of both networks under the same attack.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
import torchattacks as originals

import pyfirstorder as fo
from pyfirstorder import datasets
from pyfirstorder.interop import torch as interop
from pyfirstorder.interop import torchattacks as ours

BATCH, EPS, HELD_OUT = 128, 0.1, 0.2


def make_model() -> torch.nn.Sequential:
    """The same weights each time."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))


def train_epoch(model: Any, attack: Any, optimizer: Any, x: torch.Tensor, y: torch.Tensor, seed: int) -> float:
    """Seconds of one pass over the samples."""
    torch.manual_seed(seed)
    order = torch.randperm(len(x))
    started = time.perf_counter()
    for rows in order.split(BATCH):
        adv = attack(x[rows].view(-1, 1, 1, 784), y[rows]).view(-1, 784)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(adv), y[rows]).backward()
        optimizer.step()
    return time.perf_counter() - started


def main() -> None:
    """Train both, and print seconds and accuracies."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    rest, held = datasets.split(datasets.load("mnist"), HELD_OUT, 0)
    x, y = (torch.tensor(np.asarray(part)) for part in (rest.x, rest.y.astype(np.int64)))
    loops = {}
    for name, module in (("torchattacks", originals), ("one import changed", ours)):
        model = make_model()
        inner = torch.nn.Sequential(torch.nn.Flatten(), *model)
        attack = module.PGD(inner, eps=EPS, alpha=EPS / 4, steps=10)
        loops[name] = (model, attack, torch.optim.Adam(model.parameters(), lr=1e-3), [])
    for epoch in range(chosen.epochs):
        for model, attack, optimizer, seconds in loops.values():
            seconds.append(train_epoch(model, attack, optimizer, x, y, epoch))
    for name, (model, _, _, seconds) in loops.items():
        end = fo.pgd(
            interop.network_of(model), np.asarray(held.x), np.asarray(held.y), eps=EPS, bounds=(0, 1), steps=40
        )
        print(f"{name}: {np.median(seconds):.2f} s an epoch, robust accuracy {1 - end.success.mean():.1%}")
    medians = [np.median(seconds) for *_, seconds in loops.values()]
    print(f"{medians[0] / medians[1]:.1f} times as fast")


if __name__ == "__main__":
    main()
