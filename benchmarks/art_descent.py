"""ART's projected gradient descent and ours in its place: milliseconds, and how many end points are equal.

The same PyTorchClassifier, starts and number of threads; the best of some rounds of each class by turns.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescent as Original
from art.estimators.classification import PyTorchClassifier

from pyfirstorder import validate
from pyfirstorder.interop.art import ProjectedGradientDescent

RADII = {np.inf: 0.1, 2: 1.5, 1: 10.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(validate.threads(None))
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10)
    )
    generator = np.random.default_rng(0)
    x = generator.random((arguments.samples, 1, 28, 28), dtype=np.float32)
    x[generator.random(x.shape) < 0.5] = 0
    y = generator.integers(0, 10, len(x))
    for clip_values in ((0, 1), None):
        classifier = PyTorchClassifier(model, torch.nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=clip_values)
        for norm, eps in RADII.items():
            seconds, ends = {}, {}
            for _ in range(arguments.rounds):
                for attack in (Original, ProjectedGradientDescent):
                    options = {"norm": norm, "eps": eps, "eps_step": eps / 8, "max_iter": 20, "verbose": False}
                    made = attack(classifier, batch_size=arguments.batch_size, **options)
                    started = time.perf_counter()
                    ends[attack] = made.generate(x, y)
                    seconds.setdefault(attack, []).append(time.perf_counter() - started)
            theirs, ours = (min(seconds[attack]) for attack in (Original, ProjectedGradientDescent))
            apart = np.abs(ends[Original] - ends[ProjectedGradientDescent]).max(axis=(1, 2, 3))
            print(
                f"norm {norm}, clip values {clip_values}: ART {theirs * 1e3:.0f} ms, here {ours * 1e3:.0f} ms, "
                f"{theirs / ours:.1f} times as fast, {np.mean(apart < 1e-3 * eps):.1%} of the end points equal"
            )


if __name__ == "__main__":
    main()
