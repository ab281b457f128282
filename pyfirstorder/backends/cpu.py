"""The native backend: the C++ engine, compiled once per instruction set and chosen when it is first used.

The environment variable PYFIRSTORDER_ISA forces an instruction set by name; a name that is unknown, or that this
processor does not support, is an error.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder.problem import EVALUATIONS, AttackArrays

if TYPE_CHECKING:
    from pyfirstorder.problem import Array, AttackOptions, Ball, Objective, Weights

if importlib.util.find_spec("pyfirstorder.backends._cpu") is None:
    raise ImportError(
        "the native engine could not be built when pyfirstorder was installed, mostly for want of a C++17 compiler "
        "(GCC or Clang); get one and, in the folder of the source, run: pip install --force-reinstall --no-deps ."
    )
from pyfirstorder.backends import _cpu

ISA_VARIABLE = "PYFIRSTORDER_ISA"


def supported_isas() -> list[str]:
    """Instruction sets that this build has and this processor supports, the fastest first."""
    return list(_cpu.supported_isas())


def active_isa() -> str:
    """The instruction set in use: the one that PYFIRSTORDER_ISA names, else the fastest."""
    supported = supported_isas()
    forced = os.environ.get(ISA_VARIABLE)
    if not forced:
        return supported[0]
    if forced not in supported:
        known = _cpu.compiled_isas()
        problem = "is not supported by this processor" if forced in known else "is unknown"
        raise ValueError(f"{ISA_VARIABLE}: expected one of {', '.join(supported)}, got {forced!r}, which {problem}")
    return forced


class CpuBackend:
    """See `pyfirstorder.backends.Backend`; of one instruction set, by default the active one."""

    name = "cpu"
    evaluations = EVALUATIONS
    takes_device_arrays = False

    def __init__(self, isa: str | None = None) -> None:
        self.isa = active_isa() if isa is None else isa

    def forward(self, weights: Weights, x: Array, threads: int) -> Array:
        return _cpu.forward(self._packed(weights), x, threads)

    def input_gradient(
        self, weights: Weights, x: Array, objective: Objective, threads: int
    ) -> tuple[Array, Array, Array]:
        return _cpu.input_gradient(self._packed(weights), x, objective, threads)

    def project(self, delta: Array, x: Array, ball: Ball, threads: int) -> Array:
        return _cpu.project(self.isa, delta, x, ball, threads)

    def multiply(self, left: Array, right: Array, threads: int) -> Array:
        return _cpu.multiply(self.isa, np.ascontiguousarray(left), np.ascontiguousarray(right), threads)

    def random_start(self, x: Array, ball: Ball, on_sphere: bool, seed: int, restart: int, sample_offset: int) -> Array:
        return _cpu.random_start(self.isa, x, ball, on_sphere, seed, restart, sample_offset)

    def attack(
        self,
        weights: Weights,
        x: Array,
        objective: Objective,
        ball: Ball,
        options: AttackOptions,
        x_init: Array | None,
    ) -> AttackArrays:
        return AttackArrays(*_cpu.attack(self._packed(weights), x, objective, ball, options, x_init))

    def _packed(self, weights: Weights) -> Any:
        """The weights in this engine's layout, made once per network and type."""
        key = f"cpu-{self.isa}"
        if key not in weights.prepared:  # threads that pack at once agree on one, whose W Wᵀ is then made once
            weights.prepared.setdefault(key, _cpu.pack(self.isa, *weights[:6]))
        return weights.prepared[key]
