"""Memory of a call beyond its inputs and outputs: the same for a thousand samples and for a hundred thousand."""

from __future__ import annotations

import subprocess
import sys

import pytest

SAMPLES = (1_000, 10_000, 100_000)
ALLOWED_GROWTH = 2 << 20  # bytes: pages and allocator, not samples (100,000 samples of 784 floats are 314 MB)

MEASURE = """
import sys
import numpy as np
import pyfirstorder as fo

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))

samples = int(sys.argv[1])
net = fo.TwoLayerNetwork(np.ones((256, 784), np.float32) / 784, np.eye(10, 256, dtype=np.float32))
x = np.zeros((samples, 784), np.float32)
x[:] = 0.5  # touch every page
y = np.zeros(samples, np.int64)
fo.pgd(net, x[:64], y[:64], eps=0.1, steps=1, backend="cpu", threads=2)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak begins anew
before = status("VmRSS")
r = fo.pgd(net, x, y, eps=0.1, steps=1, bounds=(0, 1), random_start=True, backend="cpu", threads=2)
peak = status("VmHWM")
outputs = sum(a.nbytes for a in (r.x_adv, r.loss, r.output, r.success, r.best_loss, r.steps, r.first_success, r.status))
print(peak - before - outputs)
"""


def workspace(samples: int) -> int:
    done = subprocess.run(
        [sys.executable, "-P", "-c", MEASURE, str(samples)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_workspace_does_not_grow_with_the_batch() -> None:
    sizes = {samples: workspace(samples) for samples in SAMPLES}
    print({samples: f"{size / 2**20:.1f} MiB" for samples, size in sizes.items()})
    assert max(sizes.values()) - min(sizes.values()) <= ALLOWED_GROWTH
