"""How many digits an attack leaves unchanged when the network is certain of them.

A float32 softmax rounds to one-hot once the largest logit leads by about 17, and for a larger lead (about 104) the
gradient of cross-entropy is exactly zero, so that fast-gradient-sign and projected-gradient attacks that use it do not
move.  This trains a 784-200-10 relu network on digits until it is that certain, and counts held-out digits that a step
along the plain float32 gradient, `pgd` with one step (fast gradient sign) and `pgd` with 40 steps leave as they were.

    python benchmarks/saturation.py
"""

from __future__ import annotations

import numpy as np

import pyfirstorder as fo
from pyfirstorder import datasets, training

EPS, EPOCHS, LEARNING_RATE = 0.1, 150, 0.01


def plain_float32_gradient(net: fo.TwoLayerNetwork, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cross-entropy's gradient as a framework computes it: softmax minus one-hot, in float32."""
    h = x @ net.hidden_weight.T + net.hidden_bias
    z = np.maximum(h, 0) @ net.output_weight.T + net.output_bias
    softmax = np.exp(z - z.max(axis=1, keepdims=True))
    softmax /= softmax.sum(axis=1, keepdims=True)
    residual = softmax - np.eye(net.out_features, dtype=np.float32)[y]
    return ((h > 0) * (residual @ net.output_weight)) @ net.hidden_weight


def main() -> None:
    """Train, attack and print the shares."""
    train, held_out = datasets.split(datasets.load("mnist"), 0.2, seed=0)
    net = training.train(
        train.x, train.y, hidden_features=200, epochs=EPOCHS, learning_rate=LEARNING_RATE, batch_size=32, seed=0
    ).network
    x, y = np.asarray(held_out.x), np.asarray(held_out.y)
    z = fo.forward(net, x)
    largest = np.sort(z, axis=1)
    lead = np.median(largest[:, -1] - largest[:, -2])
    print(f"held-out accuracy {np.mean(z.argmax(axis=1) == y):.1%}, median lead of the largest logit {lead:.0f}")
    gradient = plain_float32_gradient(net, x, y)
    print(f"left unchanged by the plain float32 gradient: {np.mean(~gradient.any(axis=1)):.1%}")
    for name, steps in (("fast gradient sign", 1), ("pgd, 40 steps", 40)):
        result = fo.pgd(net, x, y, eps=EPS, steps=steps, rel_step_size=1.0 if steps == 1 else None, bounds=(0, 1))
        unchanged = np.mean(np.all(result.x_adv == x, axis=1))
        print(f"left unchanged by {name}: {unchanged:.1%}; robust accuracy {np.mean(~result.success):.1%}")


if __name__ == "__main__":
    main()
