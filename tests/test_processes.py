"""The library inside of other people's processes: many threads, forks and spawned children, other OpenMP libraries.

Whatever goes on around a call, it ends, and with the bits that it has alone.  What may end a process or lock it up runs
in a process of its own; what it prints is what is asserted.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support import every_backend_name

import pyfirstorder as fo
from pyfirstorder import processors

ROOT = Path(fo.__file__).parents[1]
has_cpu = pytest.mark.skipif(fo.available_backends()["cpu"] != "available", reason="the native engine is not installed")
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")

PRELUDE = """
import ctypes, hashlib, os, random, resource, signal, sys, threading, time
import numpy as np
import pyfirstorder as fo

def network(features=96, hidden=128, outputs=4, activation="relu"):
    rng = np.random.default_rng(0)
    w, a = rng.standard_normal((hidden, features), np.float32), rng.standard_normal((outputs, hidden), np.float32)
    return fo.TwoLayerNetwork(w / 10, a / 11, activation=activation)

def bits(net, backend="cpu", samples=40, steps=8, norm="linf", threads=2, **more):
    x = np.random.default_rng(1).random((samples, net.in_features), np.float32)
    y = np.arange(samples) % net.out_features
    end = fo.pgd(net, x, y, eps=0.1, norm=norm, steps=steps, backend=backend, threads=threads, **more)
    return end.x_adv.tobytes() + end.loss.tobytes() + fo.forward(net, x, backend=backend, threads=threads).tobytes()
"""


def run_script(code: str, **environment: str) -> str:
    """What a process with that code prints; its end with an error, or by a signal, is a failure."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": paths, **environment},
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


# ------------------------------------------------------------------ threads


def make_network(seed: int = 0) -> fo.TwoLayerNetwork:
    rng = np.random.default_rng(seed)
    return fo.TwoLayerNetwork(rng.standard_normal((65, 40)), rng.standard_normal((4, 65)), activation="relu")


X, Y = np.random.default_rng(1).random((33, 40)), np.arange(33) % 4
WAYS = {
    "pgd": lambda net, b: fo.pgd(net, X, Y, eps=0.1, bounds=(0, 1), steps=9, backend=b, threads=2).x_adv,
    "hidden units": lambda net, b: fo.pgd(net, X, Y, eps=0.3, norm="l2", steps=9, backend=b, threads=2).x_adv,
    "apgd": lambda net, b: fo.apgd(net, X, Y, eps=0.3, norm="l1", steps=9, backend=b, threads=3).x_adv,
    "gradient": lambda net, b: fo.input_gradient(net, X, Y, backend=b, threads=2)[1],
    "project": lambda _, b: fo.project(X, eps=0.5, norm="l2", backend=b, threads=2),
}


@every_backend_name
@pytest.mark.parametrize("shared", [True, False], ids=["one network", "networks of their own"])
def test_calls_from_many_threads_at_once_have_the_bits_of_single_ones(backend_name, shared):
    alone = {name: way(make_network(), backend_name) for name, way in WAYS.items()}
    repeats = 3 if backend_name == "reference" else 12
    for _ in range(2):
        net = make_network()  # nothing is prepared of it yet: all threads prepare at once
        start = threading.Barrier(8)

        def work(number, net=net, start=start):
            mine = net if shared else make_network()
            start.wait(60)
            ends = []
            for turn in range(repeats):
                name = list(WAYS)[(number + turn) % len(WAYS)]
                ends.append((name, WAYS[name](mine, backend_name)))
            return ends

        with ThreadPoolExecutor(8) as pool:
            for ends in pool.map(work, range(8)):
                for name, end in ends:
                    np.testing.assert_array_equal(end, alone[name], err_msg=name)


# ------------------------------------------------------------------ children


def in_child(backend: str) -> bytes:
    """What a child computes."""
    return WAYS["hidden units"](make_network(), backend).tobytes() + WAYS["pgd"](make_network(), backend).tobytes()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # of JAX, where another test has loaded it
@every_backend_name
@pytest.mark.parametrize(
    "method", [pytest.param("fork", marks=posix), "spawn", pytest.param("forkserver", marks=posix)]
)
def test_children_compute_the_bits_of_their_parent(backend_name, method):
    if method != "fork" and backend_name == "reference":
        pytest.skip("nothing native")
    expected = in_child(backend_name)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(in_child, [backend_name] * 3) == [expected] * 3


FORK_IN_MID_USE = """
backend, forks = sys.argv[1] if len(sys.argv) > 1 else BACKEND, FORKS
options = {"backend": backend, "norm": "l2", "samples": 4, "steps": 3}
if backend == "cpu":
    options["evaluation"] = "hidden"  # whose W Wᵀ one of the threads makes for all
make = lambda: network(1024, 1024, activation="tanh") if backend == "cpu" else network(64, 64, activation="tanh")
expected = bits(make(), **{**options, "threads": 1})  # as in a forked child of numba's OpenMP layer: compiles that, too
moment, wrong = random.Random(0), 0
started = time.perf_counter()
bits(make(), **options)
seconds = time.perf_counter() - started
for _ in range(forks):
    net = make()
    busy = [threading.Thread(target=bits, args=(net,), kwargs=options) for _ in range(2)]
    for thread in busy:
        thread.start()
    time.sleep(moment.uniform(0, seconds))  # one thread makes W Wᵀ, and the other waits for it
    child = os.fork()
    if not child:
        signal.alarm(60)  # the end of one that waits for a thread that is not there
        os._exit(0 if bits(net, **options) == expected else 1)
    wrong += os.waitpid(child, 0)[1] != 0
    for thread in busy:
        thread.join()
print(wrong)
"""


@posix
@pytest.mark.parametrize(("backend", "forks"), [("cpu", 30), ("numba", 5)])
def test_a_fork_while_threads_are_within_calls_leaves_the_child_usable(backend, forks):
    if fo.available_backends()[backend] != "available":
        pytest.skip(f"{backend} is not available")
    code = FORK_IN_MID_USE.replace("FORKS", str(forks)).replace("BACKEND", repr(backend))
    assert run_script("import warnings; warnings.simplefilter('ignore')" + code) == "0"


SUBINTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
bits(network())
code = '''
import warnings
warnings.simplefilter("ignore")
try:
    import pyfirstorder
    said = "imported"
except ImportError as error:
    said = "refused: " + str(error)
import os
os.write(1, (said + "\\\\n").encode())
'''
try:
    made = interpreters.create()
    interpreters.run_string(made, code)
finally:
    sys.stdout.flush()
again = bits(network()) == bits(network())
print("main goes on", again)
"""


# NumPy's words, and Python's where an interpreter has a GIL of its own.
REFUSALS = ("cannot load module more than once per process", "does not support loading in subinterpreters")


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 warns where NumPy 2 refuses")
def test_a_subinterpreter_is_refused_by_an_import_error_and_the_main_one_goes_on():
    *refused, main = run_script(SUBINTERPRETER).splitlines()
    refusal = "\n".join(refused)
    assert refusal.startswith("refused: ")
    assert any(words in refusal for words in REFUSALS), refusal
    assert main == "main goes on True"


OPENMP = """
import torch
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_info
libraries = {part["filepath"] for part in threadpool_info() if part["user_api"] == "openmp"}
torch.set_num_threads(2)
net, rng = network(), np.random.default_rng(0)
points, labels = rng.random((3000, 20)), rng.integers(0, 2, 3000)
backends = [name for name in ("cpu", "numba") if fo.available_backends()[name] == "available"]
alone = {name: bits(net, name) for name in backends}
matrix = torch.ones(700, 700)

def others():
    KMeans(4, n_init=1, max_iter=3, random_state=0).fit(points)
    HistGradientBoostingClassifier(max_iter=2).fit(points, labels)
    return float((matrix @ matrix).sum())

wrong = 0
for _ in range(3):
    between = [threading.Thread(target=others) for _ in range(2)]
    for thread in between:
        thread.start()
    for name in backends:
        wrong += bits(net, name) != alone[name]
    for thread in between:
        thread.join()
    others()
    for name in backends:
        wrong += bits(net, name) != alone[name]
print(len(libraries), wrong)
"""


def test_calls_between_those_of_two_other_openmp_libraries_have_their_bits():
    for needed in ("torch", "sklearn", "threadpoolctl"):
        pytest.importorskip(needed, reason="brings an OpenMP library of its own")
    libraries, wrong = map(int, run_script(OPENMP, OMP_NUM_THREADS="2").split())
    if libraries < 2:
        pytest.skip(f"only {libraries} OpenMP library is loaded")
    assert wrong == 0


# ------------------------------------------------------------------ processors

AFFINITY = """
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
most = 0
def watch(share):
    global most
    most = max(most, len(os.listdir("/proc/self/task")))
net = network()
before = len(os.listdir("/proc/self/task"))
x = np.random.default_rng(0).random((64, 96), np.float32)
fo.pgd(net, x, np.zeros(64, int), eps=0.1, steps=2000, retire=False, backend="cpu", progress=watch)
print(fo.show_config()["processors of this process"], most - before)
"""


@LINUX
@has_cpu
def test_a_process_bound_to_one_processor_runs_one_worker():
    assert run_script(AFFINITY) == "1 1"


CGROUPS = {
    "v2": ({"proc/self/cgroup": "0::/group/job\n", "sys/fs/cgroup/group/job/cpu.max": "150000 100000\n"}, 1.5),
    "v2, of the group above": (
        {
            "proc/self/cgroup": "0::/group/job\n",
            "sys/fs/cgroup/group/job/cpu.max": "max 100000\n",
            "sys/fs/cgroup/group/cpu.max": "300000 100000\n",
        },
        3.0,
    ),
    "v2, seen from inside": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
    "v2 without a limit": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, np.inf),
    "v1": (
        {
            "proc/self/cgroup": "5:memory:/\n4:cpu,cpuacct:/docker/1a\n0::/\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
        2.0,
    ),
    "v1 without a limit": (
        {
            "proc/self/cgroup": "1:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        np.inf,
    ),
    "v2 beside v1": (
        {"proc/self/cgroup": "1:cpu:/\n0::/a\n", "sys/fs/cgroup/unified/a/cpu.max": "100000 50000\n"},
        2.0,
    ),
    "nonsense": ({"proc/self/cgroup": "what\n0::/\n", "sys/fs/cgroup/cpu.max": "soon\n"}, np.inf),
    "nothing": ({}, np.inf),
}


@pytest.mark.parametrize(("files", "expected"), CGROUPS.values(), ids=CGROUPS.keys())
def test_the_quota_of_a_control_group_is_read(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert processors.quota(tmp_path) == expected


@pytest.mark.parametrize(("quota", "threads"), [(0.5, 1), (1.0, 1), (1.5, 2), (2.0, 2), (64.0, 3), (np.inf, 3)])
def test_threads_are_no_more_than_the_quota_is_worth(monkeypatch, quota, threads):
    monkeypatch.setattr(processors, "_kept_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert processors.available() == threads


# ------------------------------------------------------------------ nothing left: memory and threads

LITTLE_MEMORY = """
# every process: as much address space as it has now, and a little more
def used():
    return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()

CALLS = {
    "linf": lambda: bits(network(512, 512), samples=64, steps=3),
    "hidden units": lambda: bits(network(512, 700, activation="tanh"), samples=64, steps=3, norm="l2"),
    "one sample": lambda: bits(network(1024, 600), samples=1, steps=3),
    "long": lambda: bits(network(512, 512, activation="tanh"), samples=900, steps=3, keep="both", trace=True),
}
def in_child(call, expected, extra):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        limit = resource.RLIM_INFINITY if extra is None else used() + int(extra * 2**20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            found = hashlib.sha256(call()).digest()
            os.write(writing, found)
            os._exit(0 if found == expected or extra is None else 1)
        except MemoryError:
            os._exit(3)
        except BaseException as error:
            print(extra, repr(error), flush=True)
            os._exit(4)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return code, pipe.read()

bits(network())  # loads what is loaded at the first call; memory for more is not there yet
endings = {0: 0, 3: 0}
for name, call in CALLS.items():
    expected = in_child(call, None, None)[1]
    for extra in np.geomspace(0.1, 100, 20):
        code = in_child(call, expected, extra)[0]
        if code not in endings:
            print(name, "ended with", code, "at", extra, "MiB", flush=True)
            endings[code] = 0
        endings[code] += 1
print(sorted(endings), endings if min(endings.values()) < 10 else "both")
"""


@LINUX
@has_cpu
def test_out_of_memory_is_a_memory_error_wherever_it_happens():
    # with more arenas, what malloc has kept for threads that have ended would do for the calls
    assert run_script(LITTLE_MEMORY, MALLOC_ARENA_MAX="1") == "[0, 3] both", (
        "either the right bits or MemoryError, and both do happen"
    )


FEW_THREADS = """
libc = ctypes.CDLL(None)
stack = 2**30
attributes = ctypes.create_string_buffer(256)
assert libc.pthread_attr_init(attributes) == 0
assert libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(stack)) == 0
assert libc.pthread_setattr_default_np(attributes) == 0
CALLS = {
    "short": lambda: bits(network(), steps=30, threads=8),
    "long": lambda: bits(network(512, 512), samples=800, steps=10, threads=8, retire=False),
    "one sample": lambda: bits(network(1024, 600), samples=1, threads=8),
    "hidden units": lambda: bits(network(512, 300, activation="tanh"), samples=200, threads=8, norm="l2"),
}
expected = {name: call() for name, call in CALLS.items()}
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
started = []
def hold(gate):
    gate.wait()
for room in (3, 1, 0):  # threads for which there is room
    child = os.fork()
    if not child:
        limit = used + 2**29 + room * stack
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        gate, held, count = threading.Event(), [], 0
        try:
            for count in range(9):
                held.append(threading.Thread(target=hold, args=(gate,)))
                held[-1].start()
        except RuntimeError:
            held.pop()
        gate.set()
        for thread in held:
            thread.join()
        same = all(call() == expected[name] for name, call in CALLS.items())
        os._exit(count if same else 100)
    started.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(*started)
"""


@LINUX
@has_cpu
def test_threads_that_cannot_start_are_done_without_and_change_no_bit():
    assert run_script(FEW_THREADS) == "3 1 0", "threads that could start in each process, or 100 where bits differ"
