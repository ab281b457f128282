"""The native engine among other code: instruction sets by name, Ctrl-C, other Python threads, symbols of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import pyfirstorder as fo

cpu = pytest.importorskip("pyfirstorder.backends.cpu", reason="the native engine is not installed")
SOURCE = Path(__file__).parents[1] / "csrc" / "cpu" / "engine.cpp"

CPU = "name, size = 'cpu', 1024"
FIBRES = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import stand_in
from pyfirstorder import backends
from pyfirstorder.backends import _cuda_fibres
from pyfirstorder.backends.cuda import CudaBackend
backends._loaded["cuda"] = CudaBackend(stand_in.library(), _cuda_fibres)
name, size = "cuda", 8
"""
LONG_ATTACK = """
import signal
import time
import numpy as np
import pyfirstorder as fo
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
net = fo.random_network(size, size, activation="relu")
x, y = np.zeros((64, size), np.float32) + 0.5, np.zeros(64, np.float32)
fo.pgd(net, x, y, eps=0.1, steps=1, loss="squared", backend=name)
print("started", flush=True)
try:
    fo.pgd(net, x, y, eps=0.1, steps=1_000_000, loss="squared", retire=False, backend=name)
except KeyboardInterrupt:
    print("ended", time.clock_gettime(time.CLOCK_MONOTONIC), flush=True)
    again = fo.pgd(net, x, y, eps=0.1, steps=1, loss="squared", backend=name)
    print("interrupted and usable", np.isfinite(again.loss).all(), flush=True)
"""
# 0.2 s are promised; a machine that is busy with other tests may take the processor away for longer.
MOST_SECONDS_TO_END = 2.0


def python(code: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        cwd=Path(sys.executable).parent,  # not the source tree, which would be imported instead
    )


@pytest.mark.parametrize("engine", [CPU, FIBRES], ids=["cpu", "cuda-on-fibres"])
def test_control_c_ends_a_long_attack_and_leaves_the_process_usable(engine):
    if engine is FIBRES:
        pytest.importorskip("pyfirstorder.backends._cuda_fibres", reason="the stand-in for a GPU was not built")
    process = python(engine + LONG_ATTACK)
    assert process.stdout.readline() == "started\n"
    time.sleep(0.3)  # well into the attack, which would take hours
    sent = time.clock_gettime(time.CLOCK_MONOTONIC)  # the same clock in both processes
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    ended, usable = output.splitlines() or ("", "")
    assert usable == "interrupted and usable True", errors
    seconds = float(ended.removeprefix("ended ")) - sent
    print(f"Ctrl-C ended the attack within {seconds:.3f} s")
    assert seconds < MOST_SECONDS_TO_END


def test_other_python_threads_run_during_an_attack():
    net = fo.random_network(256, 256, activation="relu")
    x, y = np.zeros((512, 256), np.float32) + 0.5, np.zeros(512, np.float32)
    ended = threading.Event()

    def attack():
        fo.pgd(net, x, y, eps=0.1, steps=1000, loss="squared", retire=False, backend="cpu", threads=1)
        ended.set()

    worker = threading.Thread(target=attack)
    worker.start()
    turns = 0
    while not ended.is_set():
        turns += 1
        time.sleep(0.001)
    worker.join()
    assert turns > 20  # a call that kept the interpreter would allow two or three


@pytest.mark.parametrize(("norm", "bounds"), [("linf", (0, 1)), ("l2", None)])
def test_threads_that_begin_at_once_on_a_new_network_wait_for_each_other(norm, bounds):
    """The first of them prepares what attacks of the network share (A W, W Wᵀ), and needs the interpreter to end."""
    rng = np.random.default_rng(0)
    x, y = rng.random((4, 784), np.float32), np.arange(4)
    for _ in range(5):
        hidden, output = rng.standard_normal((512, 784), np.float32), rng.standard_normal((10, 512), np.float32)
        net = fo.TwoLayerNetwork(hidden, output)
        fo.forward(net, x)
        barrier, ends = threading.Barrier(6), []

        def attack(net=net, barrier=barrier, ends=ends):
            barrier.wait()
            ends.append(fo.pgd(net, x, y, eps=0.1, steps=60, norm=norm, bounds=bounds, threads=1, backend="cpu").x_adv)

        workers = [threading.Thread(target=attack, daemon=True) for _ in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert len(ends) == 6
        for end in ends:
            np.testing.assert_array_equal(end, ends[0])


@pytest.mark.parametrize("isa", cpu.supported_isas())
def test_the_environment_forces_an_instruction_set(isa):
    process = python("from pyfirstorder.backends.cpu import CpuBackend; print(CpuBackend().isa)", PYFIRSTORDER_ISA=isa)
    output, errors = process.communicate(timeout=60)
    assert output == f"{isa}\n", errors


def test_an_unknown_instruction_set_is_an_error_that_names_the_known_ones():
    process = python("import pyfirstorder as fo; fo.available_backends()", PYFIRSTORDER_ISA="avx1024")
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "PYFIRSTORDER_ISA: expected one of" in errors
    assert "'avx1024', which is unknown" in errors


def test_the_fastest_supported_instruction_set_is_the_default(monkeypatch):
    monkeypatch.delenv(cpu.ISA_VARIABLE, raising=False)
    assert cpu.active_isa() == cpu.supported_isas()[0]


@pytest.mark.skipif(not (shutil.which("g++") and shutil.which("nm")), reason="needs g++ and nm")
@pytest.mark.skipif(not SOURCE.exists(), reason="the C++ sources are not here")
def test_every_symbol_that_a_linker_could_merge_is_in_the_namespace_of_its_instruction_set(tmp_path):
    flags = ["-PYFIRSTORDER_TARGET=level", "-PYFIRSTORDER_VECTOR_BYTES=16", "-PYFIRSTORDER_VECTOR_REGISTERS=16"]
    flags += ["-PYFIRSTORDER_HAS_FMA=0"]
    defines = [flag.replace("-P", "-DP", 1) for flag in flags]
    compiled = tmp_path / "engine.o"
    # without optimisation every inline function that is used is emitted
    command = ["g++", "-std=gnu++17", "-O0", "-fno-exceptions", "-fno-rtti", "-Wno-psabi", *defines]
    subprocess.run([*command, "-c", str(SOURCE), "-o", str(compiled)], check=True, capture_output=True)
    listed = subprocess.run(["nm", "-C", str(compiled)], check=True, capture_output=True, text=True).stdout
    shared = [line for line in listed.splitlines() if line[17:18] in {"W", "V", "u"}]
    assert len(shared) > 100
    assert not [line for line in shared if "pyfirstorder::level::" not in line]
