"""An attack on samples in a memory-mapped file, block by block, beside the same attack on an array in memory.

    python benchmarks/large_data.py [--samples 1000000] [--features 784] [--hidden 512] [--folder DIR]

The rate in memory is measured before and after, since other work on the machine changes.  The time of the file includes
reading it, evaluating the clean samples, and writing the adversarial ones to another file of its size.  Memory is what
the process has for itself (RssAnon): pages of the files belong to the system.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import pyfirstorder as fo
from pyfirstorder import blockwise, datasets
from pyfirstorder.unfinished import Unfinished

CLASSES, IN_MEMORY, WRITTEN_AT_ONCE = 10, 8192, 16384
OPTIONS = {"norm": "linf", "steps": 40, "rel_step_size": 0.1, "bounds": (0.0, 1.0), "targeted": False}


def write_data(folder: Path, samples: int, features: int) -> tuple[Path, Path]:
    """Uniform points and random labels as .npy files."""
    rng = np.random.default_rng(0)
    points, labels = folder / "x.npy", folder / "y.npy"
    datasets.create_npy(points, (samples, features))
    for begin in range(0, samples, WRITTEN_AT_ONCE):
        rows = rng.random((min(WRITTEN_AT_ONCE, samples - begin), features), dtype=np.float32)
        datasets.write_rows(points, begin, rows)
    np.save(labels, rng.integers(0, CLASSES, samples))
    return points, labels


def own_memory() -> int:
    """Bytes of this process that no file stands for."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))


def seconds_in_memory(net: fo.TwoLayerNetwork, x: np.ndarray, y: np.ndarray) -> float:
    """Seconds a sample."""
    started = time.perf_counter()
    fo.robustness_curve(net, x, y, eps=[0.1], **OPTIONS)
    return (time.perf_counter() - started) / len(x)


def main() -> None:
    """Write the file, attack it, and print both rates and the memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=784)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--folder", type=Path, default=None)
    chosen = parser.parse_args()
    rng = np.random.default_rng(1)
    w = rng.standard_normal((chosen.hidden, chosen.features), dtype=np.float32) / np.sqrt(np.float32(chosen.features))
    a = rng.standard_normal((CLASSES, chosen.hidden), dtype=np.float32) / np.sqrt(np.float32(chosen.hidden))
    net = fo.TwoLayerNetwork(w, a)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        points, labels = write_data(folder, chosen.samples, chosen.features)
        dataset = datasets.load(str(points), labels)
        eps = np.array([0.1])
        sweep = blockwise.Sweep(net, dataset, eps, OPTIONS)
        rows = blockwise.rows_of_a_block(None, dataset, 1)
        x, y = dataset.block(0, min(IN_MEMORY, chosen.samples))
        x = np.array(x)
        rates = [seconds_in_memory(net, x, y) for _ in range(3)]
        memory: list[int] = []
        unfinished = Unfinished(folder, sweep, {})
        started = time.perf_counter()
        unfinished.begin()
        sweep.run(rows, unfinished.keep, lambda done: memory.append(own_memory()), unfinished.note)
        unfinished.publish()
        from_file = (time.perf_counter() - started) / chosen.samples
        rates += [seconds_in_memory(net, x, y) for _ in range(3)]
    in_memory = float(np.median(rates))
    print(f"{chosen.samples} samples of {chosen.features} numbers, {chosen.hidden} hidden units, in blocks of {rows}")
    print(f"in memory {1e6 * in_memory:.1f} us a sample (from {1e6 * min(rates):.1f} to {1e6 * max(rates):.1f})")
    print(f"from the file {1e6 * from_file:.1f} us a sample: {in_memory / from_file:.2f} of the rate in memory")
    print(f"of that {sweep.seconds / chosen.samples / from_file:.1%} in the attack")
    print(f"own memory: {memory[0] / 2**20:.0f} MiB at the start, {max(memory) / 2**20:.0f} MiB at most")


if __name__ == "__main__":
    main()
