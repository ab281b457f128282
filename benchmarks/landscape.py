"""A loss surface of 201 x 201 points at d = 784, m = 1024: ours, and torch the straightforward way and the clever way.

    python benchmarks/landscape.py [--rounds 5] [--threads 1 2] [--points 201] [--clock wall]

On a machine with other work, ``--clock cpu --threads 1`` counts the processor's time of this process alone.

Straightforward: make every point of the plane, run the network on all of them in one batch; in chunks of 2,048 points,
too, which torch's allocator likes better.  Clever: project W onto the plane once, as `dynamics.landscape` does, and run
a network of two inputs.  All compute the same losses in float32 from the same weights, and are compared with float64
before they are timed.  A round runs every way in turn; ratios are medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

import pyfirstorder as fo
from pyfirstorder import dynamics

IN_FEATURES, HIDDEN, SPAN, CHUNK = 784, 1024, 1.0, 2048
ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "softplus": torch.nn.functional.softplus}
# float32 sums of 784 and 1,024 terms; losses and hidden units are of order one
TOLERANCE = 1e-4


class Case:
    """One network, sample and plane, and every way to its surface."""

    def __init__(self, activation: str, outputs: int, points: int, threads: int) -> None:
        rng = np.random.default_rng(0)
        w = rng.standard_normal((HIDDEN, IN_FEATURES), dtype=np.float32) / np.float32(np.sqrt(IN_FEATURES))
        a = rng.standard_normal((outputs, HIDDEN), dtype=np.float32) / np.float32(np.sqrt(HIDDEN))
        self.net = fo.TwoLayerNetwork(w, a, activation=activation)
        self.x = rng.random(IN_FEATURES, dtype=np.float32)
        self.y = 3 if outputs > 1 else np.float32(0.5)
        self.plane = dynamics.random_plane(self.x)
        self.points, self.threads = points, threads
        self.w, self.a = torch.from_numpy(w), torch.from_numpy(a)
        self.origin = torch.from_numpy(self.x)
        self.directions = torch.from_numpy(self.plane.directions.astype(np.float32))
        self.activation = ACTIVATIONS[activation]

    def ours(self) -> np.ndarray:
        return dynamics.landscape(
            self.net, self.x, self.y, self.plane, span=SPAN, points=self.points, threads=self.threads
        ).loss

    def ours_with_gradient(self) -> np.ndarray:
        return dynamics.landscape(
            self.net, self.x, self.y, self.plane, span=SPAN, points=self.points, threads=self.threads, gradient=True
        ).loss

    def _grid(self) -> torch.Tensor:
        axis = torch.linspace(-SPAN, SPAN, self.points)
        return torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)

    def _losses(self, output: torch.Tensor) -> np.ndarray:
        if self.a.shape[0] == 1:
            return (0.5 * (output[:, 0] - float(self.y)) ** 2).reshape(self.points, -1).numpy()
        targets = torch.full((len(output),), int(self.y))
        losses = torch.nn.functional.cross_entropy(output, targets, reduction="none")
        return losses.reshape(self.points, -1).numpy()

    @torch.no_grad()
    def straightforward(self, chunk: int | None = None) -> np.ndarray:
        grid = self._grid()
        parts = grid.split(chunk or len(grid))
        outputs = [self.activation((self.origin + part @ self.directions) @ self.w.T) @ self.a.T for part in parts]
        return self._losses(torch.cat(outputs))

    def straightforward_with_gradient(self, chunk: int = CHUNK) -> np.ndarray:
        found = []
        for part in self._grid().split(chunk):
            at = part.clone().requires_grad_()
            output = self.activation((self.origin + at @ self.directions) @ self.w.T) @ self.a.T
            if self.a.shape[0] == 1:
                total = (0.5 * (output[:, 0] - float(self.y)) ** 2).sum()
            else:
                targets = torch.full((len(output),), int(self.y))
                total = torch.nn.functional.cross_entropy(output, targets, reduction="sum")
            torch.autograd.grad(total, at)
            found.append(output.detach())
        return self._losses(torch.cat(found))

    @torch.no_grad()
    def clever(self) -> np.ndarray:
        hidden = self._grid() @ (self.directions @ self.w.T) + self.w @ self.origin
        return self._losses(self.activation(hidden) @ self.a.T)

    def truth(self) -> np.ndarray:
        """Every fifth row and column of the surface, by the whole network in float64."""
        axis = np.linspace(-SPAN, SPAN, self.points)[::5]
        grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
        net = fo.TwoLayerNetwork(
            self.w.numpy().astype(np.float64), self.a.numpy().astype(np.float64), activation=self.net.activation
        )
        y = np.full(len(grid), self.y) if self.a.shape[0] > 1 else np.full(len(grid), float(self.y))
        return fo.input_gradient(net, self.plane.points(grid), y)[0].reshape(len(axis), -1)


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def measure(
    ways: dict[str, Callable[[], np.ndarray]], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of every way in every round."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begin = clock()
            way()
            taken[name].append(clock() - begin)
    return taken


def main() -> None:
    """Check, time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--points", type=int, default=201)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--activations", nargs="+", default=list(ACTIVATIONS), choices=list(ACTIVATIONS))
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    options = parser.parse_args()
    size = f"{options.points} x {options.points} points, d={IN_FEATURES}, m={HIDDEN}"
    print(f"{size}, float32; median ms, {options.clock} time (ratio to ours)")
    for threads in options.threads:
        torch.set_num_threads(threads)
        for activation in options.activations:
            for outputs in (1, 10):
                case = Case(activation, outputs, options.points, threads)
                values = {
                    "ours": case.ours,
                    "torch, all points": case.straightforward,
                    "torch, chunks": partial(case.straightforward, CHUNK),
                    "torch, clever": case.clever,
                }
                slopes = {
                    "ours, gradient": case.ours_with_gradient,
                    "autograd, chunks": case.straightforward_with_gradient,
                }
                truth = case.truth()
                for name, way in (values | slopes).items():
                    np.testing.assert_allclose(way()[::5, ::5], truth, atol=TOLERANCE, err_msg=name)
                taken = measure(values | slopes, options.rounds, CLOCKS[options.clock])
                shown = []
                for group in (values, slopes):
                    own = taken[next(iter(group))]
                    for name in group:
                        ratio = statistics.median(other / mine for other, mine in zip(taken[name], own))
                        shown.append(f"{name} {statistics.median(taken[name]) * 1e3:.1f} ({ratio:.1f})")
                print(f"{threads} threads, {activation:8} k={outputs:2}: {', '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
