"""Where ascents on a relu network end: on kinks of its hidden units, where the loss has no gradient.

    python benchmarks/relu_kinks.py [--samples 10]

The paper's random network (d = 100, m = 1000), squared loss, ℓ2 ball of radius 0.3 around samples of length 1.  Each
line continues the ascent before it with a smaller step size, in shares of the step that reaches the sphere.  A maximum
of a smooth loss has a projected-gradient residual of zero; relu's residual stays, while its loss settles and more and
more units come to lie within a thousandth of a typical |h| of their kink.  softplus is shown beside it.
"""

from __future__ import annotations

import argparse

import numpy as np

import pyfirstorder as fo

EPS, NEAR, STEPS = 0.3, 1e-3, 2000
SHARES = (1, 0.1, 0.01, 1e-3, 1e-4)  # of the step size eps / ‖∇L(x)‖


def main() -> None:
    """Print a table for each activation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10)
    samples = parser.parse_args().samples
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, 100))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = rng.choice([-1.0, 1.0], samples)
    for activation in ("relu", "softplus"):
        net = fo.random_network(100, 1000, activation=activation, seed=1)
        print(f"{activation}: share of the first step, mean loss, median residual / eps, median units near a kink")
        for line in ends(net, x, y):
            print("  {:g}  {:.6f}  {:.1e}  {:g}".format(*line))


def ends(net: fo.TwoLayerNetwork, x: np.ndarray, y: np.ndarray) -> list[tuple[float, float, float, float]]:
    """The end points of ascents with falling step sizes, each begun where the one before ended."""
    _, gradient = fo.input_gradient(net, x, y, loss="squared")
    first_step = EPS / np.linalg.norm(gradient, axis=1)
    point, lines = x, []
    for share in SHARES:
        result = fo.pgd(
            net, x, y, eps=EPS, norm="l2", loss="squared", direction="gradient", steps=STEPS,
            step_size=share * first_step, x_init=point,
        )  # fmt: skip
        point = result.x_adv
        _, gradient = fo.input_gradient(net, point, y, loss="squared")
        delta = point - x
        moved = fo.project(delta + first_step[:, None] * gradient, eps=EPS, norm="l2")
        residual = np.linalg.norm(moved - delta, axis=1) / EPS
        h = np.abs(point @ net.hidden_weight.T)
        near = (h < NEAR * np.median(h)).sum(axis=1)
        lines.append((share, float(result.loss.mean()), float(np.median(residual)), float(np.median(near))))
    return lines


if __name__ == "__main__":
    main()
