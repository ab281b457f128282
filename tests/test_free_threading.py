"""What threads of Python share while no interpreter lock orders them: all that is kept between calls, and arrays.

On a Python with the lock these tests run, too, and are milder.  What may end a process runs in one of its own.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import pyfirstorder as fo
from pyfirstorder import backends, boxes, settings
from pyfirstorder.interop import kept_networks

has_cpu = pytest.mark.skipif(fo.available_backends()["cpu"] != "available", reason="the native engine is not installed")
free_threaded = pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python always has its interpreter lock"
)
THREADS, ROUNDS = 8, 6


def run_script(code: str) -> str:
    """What a process with that code prints, in which warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import numpy as np\nimport pyfirstorder as fo\n" + code],
        cwd=Path(fo.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@free_threaded
@has_cpu
def test_the_interpreter_lock_stays_off():
    code = """
import sys
net = fo.random_network(20, 30)
fo.pgd(net, np.zeros((3, 20), np.float32), np.zeros(3), eps=0.1, loss="squared", steps=3, backend="cpu")
print(sys._is_gil_enabled())
"""
    assert run_script(code) == "False"


# ------------------------------------------------------------------ what is kept between calls

RNG = np.random.default_rng(0)
W, A = RNG.standard_normal((48, 30)), RNG.standard_normal((4, 48))
X, Y = RNG.random((21, 30)), np.arange(21) % 4


def kept_network() -> fo.TwoLayerNetwork:
    """One of more networks than are kept, so that threads push each other's out."""
    return kept_networks.network(kept_networks.Parts(W, None, A, None), "tanh")


def pushed_out(number: int) -> float:
    net = kept_networks.network(kept_networks.Parts(W + number % 11, None, A, None), "tanh")
    return float(fo.forward(net, X).sum())


def refusal(net: fo.TwoLayerNetwork, eps: float) -> str:
    with pytest.raises(ValueError, match="class indices") as caught:
        fo.pgd(net, X, Y + 4, eps=eps)
    return str(caught.value)


# Each takes the number of a round, and gives what does not depend on the others.
WAYS = {
    "weights of both types": lambda net, i: fo.forward(net, X.astype((np.float32, np.float64)[i % 2])),
    "distinct settings": lambda net, i: fo.pgd(net, X, Y, eps=0.1, steps=3, momentum=0.01 * i, seed=i).x_adv,
    "distinct boxes": lambda net, i: fo.pgd(net, X, Y, eps=0.1, steps=3, bounds=(-0.01 * i, 1 + 0.01 * i)).x_adv,
    "hidden units": lambda net, i: fo.pgd(net, X, Y, eps=0.3 + i, norm="l2", steps=3).x_adv,
    "radii": lambda net, i: fo.robustness_curve(net, X, Y, eps=[0.1, 0.2 + i], steps=3).robust_accuracy,
    "progress": lambda net, i: fo.pgd(net, X, Y, eps=0.1, steps=3 + i, progress=lambda share: None).x_adv,
    "a copy": lambda net, i: fo.forward(pickle.loads(pickle.dumps(net)), X),
    "kept networks": lambda net, i: fo.forward(kept_network(), X),
    "other kept networks": lambda net, i: pushed_out(i),
    "an error": lambda net, i: refusal(net, 0.1 * i),
}


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_what_is_kept_between_calls_is_made_by_many_threads_at_once(backend, monkeypatch):
    if fo.available_backends()[backend] != "available":
        pytest.skip(f"{backend} is not available")
    monkeypatch.setattr(backends, "_LOADERS", {backend: backends._LOADERS[backend]})
    alone = [{name: way(fo.TwoLayerNetwork(W, A), i) for name, way in WAYS.items()} for i in range(ROUNDS)]
    start = threading.Barrier(THREADS)
    shared = {}

    def begin_anew():
        monkeypatch.setattr(backends, "_loaded", {})
        monkeypatch.setattr(kept_networks, "_kept", [])
        settings._kept.cache_clear()
        boxes._box_of_numbers.cache_clear()
        shared["net"] = fo.TwoLayerNetwork(W, A)  # of the round before it is dropped while others may be within calls

    def work(number):
        ends = []
        for i in range(ROUNDS):
            if start.wait(60) == 0:
                begin_anew()
            start.wait(60)
            for turn in range(len(WAYS)):
                name = list(WAYS)[(number + turn) % len(WAYS)]
                ends.append((i, name, WAYS[name](shared["net"], i)))
        return ends

    with ThreadPoolExecutor(THREADS) as pool:
        for ends in pool.map(work, range(THREADS)):
            assert len(ends) == ROUNDS * len(WAYS)
            for i, name, end in ends:
                np.testing.assert_array_equal(end, alone[i][name], err_msg=f"{name}, round {i}")


# ------------------------------------------------------------------ arrays that are written to meanwhile


@pytest.mark.parametrize("backend", ["cpu", "numba", "reference"])
def test_labels_that_another_thread_overwrites_are_those_of_some_moment_or_refused(backend):
    """An engine indexes by them, so what it uses is what was checked."""
    if fo.available_backends()[backend] != "available":
        pytest.skip(f"{backend} is not available")
    code = f"""
import threading, time
rng = np.random.default_rng(0)
net = fo.TwoLayerNetwork(rng.standard_normal((40, 20), np.float32), rng.standard_normal((3, 40), np.float32))
x, y = rng.random((400, 20), np.float32), np.zeros(400, np.int64)
call = lambda: fo.pgd(net, x, y, eps=0.1, steps=20, retire=False, backend={backend!r}, threads=1)
call()
ended = threading.Event()
def write():
    while not ended.is_set():
        y[:] = 2**58  # far from all memory
        time.sleep(0.0001)
        y[:] = 1
        time.sleep(0.0005)
writer = threading.Thread(target=write, daemon=True)
writer.start()
count = {{"done": 0, "refused": 0}}
begin = time.perf_counter()
while min(count.values()) < 5 and time.perf_counter() - begin < 100:
    try:
        call()
        count["done"] += 1
    except ValueError as error:
        assert "class indices" in str(error), error
        count["refused"] += 1
        time.sleep(0.001)  # for the writer, where there is an interpreter lock
ended.set()
writer.join()
print(min(count.values()) >= 5, count)
"""
    assert run_script(code).startswith("True")
