"""What an installed wheel must do, with no source tree and no compiler: run by the interpreter of that environment.

``--python-only`` is the wheel of a platform that has no compiled engine.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np

import pyfirstorder as fo

ATTACK = """
import numpy as np, pyfirstorder as fo
rng = np.random.default_rng(0)
net = fo.TwoLayerNetwork(rng.standard_normal((33, 17)), rng.standard_normal((5, 33)), activation="softplus")
x, y = rng.random((9, 17)), rng.integers(0, 5, 9)
attack = dict(eps=0.1, steps=20, bounds=(0, 1), random_start=True)
for norm in ("linf", "l2", "l1"):
    found = fo.pgd(net, x, y, norm=norm, **attack)
    wanted = fo.pgd(net, x, y, norm=norm, backend="reference", **attack)
    np.testing.assert_allclose(found.loss, wanted.loss, rtol=1e-9, err_msg=norm)
    assert np.linalg.norm(found.delta, {"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1).max() <= 0.1, norm
"""
IMPORTS = 11  # the median of so many fresh processes


def run(*arguments: str, **environment: str) -> str:
    """The output of this interpreter, with warnings as errors, in a folder that holds no source tree.

    Deprecations are those of old packages beside new ones, where the oldest that are allowed are tested.
    """
    command = [sys.executable, "-W", "error", "-W", "default::DeprecationWarning", *arguments]
    variables = {**os.environ, **environment}
    return subprocess.run(command, cwd=sys.prefix, env=variables, check=True, stdout=subprocess.PIPE, text=True).stdout


def seconds_to_import(module: str) -> tuple[float, float]:
    """Median times of a process that imports a module and ends: by the clock, and of the processor."""
    clock, processor = [], []
    for _ in range(IMPORTS + 1):
        begin, before = time.perf_counter(), os.times()
        run("-c", f"import {module}")
        clock.append(time.perf_counter() - begin)
        after = os.times()
        processor.append(sum(after[2:4]) - sum(before[2:4]))  # of children
    return statistics.median(clock[1:]), statistics.median(processor[1:])


def check(python_only: bool) -> None:
    """Attack on every instruction set, ask for the configuration, and look at what was installed."""
    installed = metadata.distribution("pyfirstorder")
    assert Path(fo.__file__).is_relative_to(sys.prefix), f"{fo.__file__} is not the installed package"
    assert fo.__version__ == installed.version
    names = {Path(str(path)).name for path in installed.files or ()}
    assert {"py.typed", "LICENSE", "_cpu.pyi"} <= names, names
    said = run("-m", "pyfirstorder", "info")
    state = fo.available_backends()["cpu"]
    assert (state == "available") != python_only, f"the native engine: {state}"
    if python_only:
        from pyfirstorder import backends

        assert backends.get("reference").name == "reference"
    else:
        from pyfirstorder.backends import _cpu

        for isa in _cpu.supported_isas():
            run("-c", ATTACK, PYFIRSTORDER_ISA=isa)
        missing = sorted(set(_cpu.compiled_isas()) - set(_cpu.supported_isas()))
        print(f"attacked on {', '.join(_cpu.supported_isas())}; not on this processor: {', '.join(missing) or 'none'}")
    print(said.strip())
    print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}, tags {tags(installed)}")
    nothing, numpy, ours = (seconds_to_import(module) for module in ("sys", "numpy", "pyfirstorder"))
    for i, name in enumerate(("by the clock", "of the processor")):
        beyond, more = numpy[i] - nothing[i], ours[i] - numpy[i]
        print(f"import, seconds {name}: numpy {beyond:.3f}, pyfirstorder {more:.3f} more")


def tags(installed: metadata.Distribution) -> str:
    """The tags of the wheel that was installed."""
    lines = (installed.read_text("WHEEL") or "").splitlines()
    return " ".join(line.removeprefix("Tag: ") for line in lines if line.startswith("Tag: "))


if __name__ == "__main__":
    check("--python-only" in sys.argv[1:])
