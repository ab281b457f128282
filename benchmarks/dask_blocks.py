"""What a block costs on a dask cluster beyond its attack: milliseconds, and bytes that are shipped.

A local cluster of worker processes with one thread each predicts the classes of rows of zeros, which takes next to no
time, in many blocks and in few; the slope is the cost of a block.  The rows are made on the workers, so that what is
shipped is the network, tasks and answers.
"""

from __future__ import annotations

import argparse
import pickle
import time

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

import pyfirstorder as fo
from pyfirstorder.interop import dask as on_dask


def times_received(dask_worker) -> int:
    """How often this worker got a network from another one."""
    incoming = dask_worker.transfer_incoming_log
    return sum(str(key).startswith("network-") for transfer in incoming for key in transfer["keys"])


def seconds(net: fo.TwoLayerNetwork, rows: int, blocks: int) -> float:
    """The best of three predictions."""
    x = da.zeros((rows * blocks, net.in_features), chunks=(rows, net.in_features), dtype=np.float32)
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        assert len(on_dask.predict(net, x).compute()) == rows * blocks
        taken.append(time.perf_counter() - started)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=1000)
    arguments = parser.parse_args()
    blocks, few = arguments.blocks, max(1, arguments.blocks // 10)
    net = fo.random_network(784, 512)
    options = {"n_workers": arguments.workers, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        each = (seconds(net, 1, blocks) - seconds(net, 1, few)) / (blocks - few)
        received = client.run(times_received)
    x = da.zeros((blocks, net.in_features), chunks=(1, net.in_features), dtype=np.float32)
    tasks = sum(len(pickle.dumps(task)) for task in dict(on_dask.predict(net, x).dask).values())
    network = len(pickle.dumps(net))
    computations = 6  # three of many blocks, three of few
    print(f"{each * 1e3:.2f} ms a block beyond its attack")
    print(f"{network:,} bytes of network, sent from worker to worker {sum(received.values()) / computations:.1f} times")
    print(f"{(tasks - network) / blocks:,.0f} bytes of tasks a block: one that makes its x, and its prediction")


if __name__ == "__main__":
    main()
