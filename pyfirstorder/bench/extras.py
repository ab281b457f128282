"""What is measured beside single attacks: an epoch of adversarial training, import, memory, cost against size."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyfirstorder import datasets, training
from pyfirstorder.bench.contenders import CONTENDERS, Contender, torch_parts
from pyfirstorder.bench.workloads import Data, Workload, digits_source, random_data
from pyfirstorder.network import TwoLayerNetwork

# ------------------------------------------------------------------ H: an epoch of adversarial training

EPS, STEPS, STEP_SIZE, BATCH = 0.1, 10, 0.025, 128
LEAST_ACCURACY = 0.5  # of held-out digits after two epochs; guessing gives 0.1


@dataclass
class Timing:
    """Seconds of several runs, or why there are none."""

    name: str
    ours: bool = False
    seconds: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)


def _own_epochs(x: Any, y: Any, threads: int) -> Callable[[int], Callable[[Any], Any]]:
    def run(epochs: int) -> Callable[[Any], Any]:
        adversary = {"eps": EPS, "steps": STEPS, "step_size": STEP_SIZE, "bounds": (0, 1)}
        trained = training.train(
            x, y, hidden_features=512, epochs=epochs, batch_size=BATCH, adversary=adversary, threads=threads
        ).network
        return lambda points: trained_classes(trained, points)

    return run


def trained_classes(net: TwoLayerNetwork, points: Any) -> Any:
    """Predicted classes of a trained network."""
    from pyfirstorder import api

    return api.predict(net, points)


def _torch_epochs(attack_of: Callable[[Any], Callable[[Any, Any], Any]]) -> Any:
    def prepare(x: Any, y: Any, threads: int) -> Callable[[int], Callable[[Any], Any]]:
        import torch

        def run(epochs: int) -> Callable[[Any], Any]:
            model, inputs, labels = torch_parts(Data(_fresh_network(x.shape[1]), x, y), threads)
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
            attack = attack_of(model)
            for _ in range(epochs):
                for rows in torch.randperm(len(inputs)).split(BATCH):
                    model.requires_grad_(False)
                    points = attack(inputs[rows], labels[rows])
                    model.requires_grad_(True)
                    optimizer.zero_grad()
                    torch.nn.functional.cross_entropy(model(points), labels[rows]).backward()
                    optimizer.step()
            return lambda points: model(torch.tensor(points)).argmax(dim=1).numpy()

        return run

    return prepare


def _fresh_network(features: int) -> TwoLayerNetwork:
    rng = np.random.default_rng(0)
    w = (rng.standard_normal((512, features)) * np.sqrt(2 / features)).astype(np.float32)
    return TwoLayerNetwork(w, (rng.standard_normal((10, 512)) / np.sqrt(512)).astype(np.float32))


def _eager_attack(model: Any) -> Callable[[Any, Any], Any]:
    import torch

    def attack(x0: Any, y: Any) -> Any:
        x = x0.clone()
        for _ in range(STEPS):
            x.requires_grad_(True)
            (g,) = torch.autograd.grad(torch.nn.functional.cross_entropy(model(x), y, reduction="sum"), x)
            with torch.no_grad():
                x = torch.clamp(torch.clamp(x + STEP_SIZE * g.sign(), x0 - EPS, x0 + EPS), 0, 1)
        return x.detach()

    return attack


def _torchattacks_attack(model: Any) -> Callable[[Any, Any], Any]:
    import torchattacks

    return torchattacks.PGD(model, eps=EPS, alpha=STEP_SIZE, steps=STEPS, random_start=False)


TRAINERS = (
    ("pyfirstorder", True, _own_epochs),
    ("torch eager", False, _torch_epochs(_eager_attack)),
    ("torchattacks", False, _torch_epochs(_torchattacks_attack)),
)


def time_training(threads: int, rounds: int) -> list[Timing]:
    """Seconds of an epoch of PGD-10 adversarial training, 784-512-10, on the digits."""
    train, held_out = datasets.split(datasets.load(digits_source()), 0.2, seed=0)
    x, y = np.asarray(train.x, dtype=np.float32), np.asarray(train.y, dtype=np.int64)
    timings = []
    prepared = []
    for name, ours, prepare in TRAINERS:
        timing = Timing(name, ours)
        timings.append(timing)
        try:
            run = prepare(x, y, threads)
            accuracy = float(np.mean(run(2)(np.asarray(held_out.x, dtype=np.float32)) == np.asarray(held_out.y)))
        except ImportError as error:
            timing.note = f"missing: {error}"
            continue
        timing.note = f"{accuracy:.1%} of held-out digits after two epochs"
        if accuracy >= LEAST_ACCURACY:
            prepared.append((timing, run))
    for _ in range(rounds):
        for timing, run in prepared:
            start = time.perf_counter()
            run(1)
            timing.seconds.append(time.perf_counter() - start)
    return timings


# ------------------------------------------------------------------ I and J: importing, memory

MODULES = ("pyfirstorder", "torch", "jax", "foolbox", "torchattacks", "art.attacks.evasion")
_IMPORT = "import time, numpy; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"


def time_imports(rounds: int) -> list[Timing]:
    """Seconds of importing a library in a fresh process that has imported NumPy."""
    timings = [Timing(module, ours=module == "pyfirstorder") for module in MODULES]
    for _ in range(rounds + 1):
        for timing in timings:
            done = _python(_IMPORT.format(module=timing.name))
            if done.returncode == 0:
                timing.seconds.append(float(done.stdout.split()[-1]))
            else:
                timing.note = "missing"
    for timing in timings:
        timing.seconds = timing.seconds[1:]  # the first one fills the disk cache
    return timings


_MEMORY = """
import sys
import numpy as np
from pyfirstorder.bench.contenders import CONTENDERS
from pyfirstorder.bench.workloads import WORKLOADS, Workload, random_data
name, samples, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))

workload = Workload("J", "", random_data(784, 512, 10, samples), "linf", 0.1, 0.01, 10, (0.0, 1.0))
data = workload.make()
contender = next(contender for contender in CONTENDERS if contender.name == name)
few = workload.resized(96)
contender.prepare(few, few.make(), threads)()
run = contender.prepare(workload, data, threads)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak begins anew
before = status("VmRSS")
run()
print(status("VmHWM") - before - data.x.nbytes)
"""


@dataclass
class Memory:
    """Bytes of a call beyond inputs and x_adv, by number of samples."""

    name: str
    ours: bool
    extra: dict[int, int]
    note: str = ""


def measure_memory(threads: int, sizes: tuple[int, ...] = (1_000, 10_000, 50_000)) -> list[Memory]:
    """Peak memory of a 10-step attack beyond inputs and outputs, in processes of their own (Linux)."""
    found = []
    for contender in CONTENDERS:
        if contender.name not in ("pyfirstorder", "torch by hand", "JAX jit", "torchattacks"):
            continue
        memory = Memory(contender.name, contender.ours, {})
        for samples in sizes:
            done = _python(_MEMORY, contender.name, str(samples), str(threads))
            if done.returncode:
                memory.note = (done.stderr.strip().splitlines() or ["failed"])[-1][:200]
                break
            memory.extra[samples] = int(done.stdout.split()[-1])
        found.append(memory)
    return found


def _python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


# ------------------------------------------------------------------ cost against size

_LINES = ("pyfirstorder", "pyfirstorder, dense", "torch by hand", "JAX jit")


def _sized(samples: int = 500, d: int = 784, m: int = 512, steps: int = 20) -> Workload:
    make = random_data(d, m, 10, samples)
    return Workload("", "", make, "linf", 0.1, 2.5 * 0.1 / steps, steps, (0.0, 1.0))


AXES: dict[str, dict[int, Workload]] = {
    "samples": {n: _sized(samples=n) for n in (1, 4, 16, 64, 256, 1024)},
    "inputs": {n: _sized(d=n) for n in (64, 256, 784, 3072)},
    "hidden units": {n: _sized(m=n) for n in (64, 256, 1024, 4096)},
    "steps": {n: _sized(steps=n) for n in (5, 20, 80)},
}


@dataclass
class Line:
    """Microseconds a sample and step of one contender along one axis."""

    axis: str
    name: str
    at: list[int]
    cost: list[float]


def measure_lines(threads: int, repeats: int = 5) -> list[Line]:
    """Cost of a sample's step against batch, sizes and steps; and against threads, for this library."""
    chosen = [contender for contender in CONTENDERS if contender.name in _LINES]
    lines = []
    for axis, points in AXES.items():
        lines += _lines(axis, chosen, {at: (workload, threads) for at, workload in points.items()}, repeats)
    counts = {n: (_sized(samples=1000), n) for n in range(1, threads + 1)}
    return lines + _lines("threads", [contender for contender in chosen if contender.ours], counts, repeats)


def _lines(axis: str, contenders: list[Contender], points: dict[int, tuple[Workload, int]], repeats: int) -> list[Line]:
    """A line for each contender that is installed; they take turns at every point, to meet the same machine."""
    lines = {contender.name: Line(axis, contender.name, [], []) for contender in contenders}
    for at, (workload, threads) in points.items():
        data = workload.make()
        runs = {}
        for contender in contenders:
            try:
                runs[contender.name] = contender.prepare(workload, data, threads)
            except ImportError:
                continue
            runs[contender.name]()
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(repeats):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
        for name, measured in seconds.items():
            lines[name].at.append(at)
            lines[name].cost.append(1e6 * min(measured) / len(data.x) / workload.steps)
    return [line for line in lines.values() if line.at]
