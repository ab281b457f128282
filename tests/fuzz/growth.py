"""No growth over many calls: 10⁵ of every public function, or as many as are asked for, and the memory at the end.

Memory is what Linux counts as resident.  The first tenth of the calls fills what is kept (checked settings, boxes,
packed weights, the pools of malloc); after it nothing may be added but noise.
"""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path

import numpy as np

import pyfirstorder as fo

NOISE = 4 * 2**20  # bytes; a leak of 64 bytes a call, the smallest block with its header, is 6 MB over 10⁵ calls


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def main(calls: int) -> None:
    """Call, and compare."""
    rng = np.random.default_rng(0)
    net = fo.random_network(8, 16, activation="relu")
    x, y = rng.standard_normal((3, 8)).astype("f4"), np.array([1, -1, 1])
    run = {
        "forward": lambda i: fo.forward(net, x),
        "input_gradient": lambda i: fo.input_gradient(net, x, y),
        "project": lambda i: fo.project(x, eps=0.1 + i, norm="l1"),
        "pgd": lambda i: fo.pgd(net, x, y, eps=0.1 + i, steps=2, norm="l2", keep="both", trace=True),
        "apgd": lambda i: fo.apgd(net, x, y, eps=0.1 + i, steps=2, bounds=(-9.0 - i, 9.0 + i)),
        "refused": lambda i: refuse(net, x),
        "network": lambda i: fo.forward(fo.TwoLayerNetwork(net.hidden_weight, net.output_weight), x),
    }
    for name, call in run.items():
        begin = time.perf_counter()
        for i in range(calls):
            if i == calls // 10:
                gc.collect()
                before = resident()
            call(i)
        gc.collect()
        grown, seconds = resident() - before, time.perf_counter() - begin
        print(f"{name}: {calls} calls, {seconds:.1f} s, {grown / 1024:.0f} KiB more", flush=True)
        assert grown < NOISE, f"{name} grows: {grown} bytes in {calls - calls // 10} calls"


def refuse(net: fo.TwoLayerNetwork, x: np.ndarray) -> None:
    """A call that ends in an error."""
    try:
        fo.pgd(net, x, np.array([1, 0, 1]), eps=0.1)
    except ValueError:
        return
    raise AssertionError("a label of 0 was taken for a sign")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
