"""The backends by name, and the interface that each provides.

A backend is one module and one line of ``_LOADERS``.  A loader imports its module and returns the backend, or raises
ImportError with the line that says what to install.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfirstorder.problem import Array, AttackArrays, AttackOptions, Ball, Objective, Weights


class Backend(Protocol):
    """The operations that the API needs; arguments are validated, see `pyfirstorder.problem`."""

    name: str

    @property
    def takes_device_arrays(self) -> bool:
        """Whether arrays may lie on a GPU; results then lie there, too."""

    @property
    def evaluations(self) -> tuple[str, ...]:
        """The ways of evaluation that it has, of problem.EVALUATIONS."""

    def forward(self, weights: Weights, x: Array, threads: int) -> Array:
        """Logits (B, k) of x (B, d)."""

    def input_gradient(
        self, weights: Weights, x: Array, objective: Objective, threads: int
    ) -> tuple[Array, Array, Array]:
        """Ascended value (B,), its gradient (B, d) and the logits (B, k)."""

    def project(self, delta: Array, x: Array, ball: Ball, threads: int) -> Array:
        """The nearest allowed delta (B, d) around x."""

    def multiply(self, left: Array, right: Array, threads: int) -> Array:
        """``left @ right``, for the weight gradients of training; any strides."""

    def random_start(self, x: Array, ball: Ball, on_sphere: bool, seed: int, restart: int, sample_offset: int) -> Array:
        """A uniform point (B, d) of the ball around each x, or of its boundary, clipped to the box."""

    def attack(
        self,
        weights: Weights,
        x: Array,
        objective: Objective,
        ball: Ball,
        options: AttackOptions,
        x_init: Array | None,
    ) -> AttackArrays:
        """Run every job to its end."""


def _load_cpu() -> Backend:
    from pyfirstorder.backends.cpu import CpuBackend

    return CpuBackend()


def _load_numba() -> Backend:
    from pyfirstorder.backends.numba import NumbaBackend

    return NumbaBackend()


def _load_cupy() -> Backend:
    from pyfirstorder.backends.cupy.loading import load

    return load()


def _load_cuda() -> Backend:
    from pyfirstorder.backends.cuda.loading import load

    return load()


def _load_reference() -> Backend:
    from pyfirstorder.backends.reference import ReferenceBackend

    return ReferenceBackend()


# In the order in which "auto" prefers them.
_LOADERS: dict[str, Callable[[], Backend]] = {
    "cpu": _load_cpu,
    "numba": _load_numba,
    "reference": _load_reference,
    "cupy": _load_cupy,
    "cuda": _load_cuda,
}
_loaded: dict[str, Backend | ImportError] = {}
_warned_of: set[str] = set()


def _warn_of_slow(chosen: Backend) -> None:
    """Say once that "auto" had to do without the native engine."""
    missing = _loaded.get("cpu")
    if isinstance(missing, ImportError) and chosen.name not in _warned_of:
        _warned_of.add(chosen.name)
        patience = ", which takes up to a minute to compile when it is first used" if chosen.name == "numba" else ""
        warnings.warn(f"using the slower {chosen.name!r} backend{patience}: {missing}", stacklevel=level_of_caller())


def level_of_caller() -> int:
    """How many frames above the one that asks the first one outside of this package is, as warnings count them."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "pyfirstorder":
        frame, level = frame.f_back, level + 1
    return level


def _load(name: str) -> Backend | ImportError:
    if name not in _loaded:
        try:
            _loaded[name] = _LOADERS[name]()
        except ImportError as error:
            _loaded[name] = error
    return _loaded[name]


def names() -> tuple[str, ...]:
    """All backends, the preferred first."""
    return tuple(_LOADERS)


def available_backends() -> dict[str, str]:
    """What each backend says of itself: "available", or why it is not.

    Returns
    -------
    dict
        Name of the backend to "available" or the reason and the remedy, the preferred backend first.

    Examples
    --------
    >>> import pyfirstorder as fo
    >>> fo.available_backends()["reference"]
    'available'
    """
    states = {name: _load(name) for name in _LOADERS}
    return {name: str(state) if isinstance(state, ImportError) else "available" for name, state in states.items()}


def get(name: str, on_device: bool = False) -> Backend:
    """The backend of that name, or the first available one for "auto", that takes arrays from where they lie."""
    if on_device:
        return _get_for_device(name)
    if name == "auto":
        for candidate in _LOADERS:
            backend = _load(candidate)
            if not isinstance(backend, ImportError):
                _warn_of_slow(backend)
                return backend
    backend = _load(name)
    if isinstance(backend, ImportError):
        raise ImportError(f"backend {name!r} is not available: {backend}")
    return backend


def _get_for_device(name: str) -> Backend:
    """A backend whose arrays lie on a GPU."""
    if name != "auto":
        backend = get(name)
        if not backend.takes_device_arrays:
            raise ValueError(f"backend: {name!r} computes in main memory, and x lies on a GPU; expected 'auto'")
        return backend
    missing = []
    for candidate in reversed(_LOADERS):
        loaded = _load(candidate)
        if isinstance(loaded, ImportError):
            missing.append(f"{candidate}: {loaded}")
        elif loaded.takes_device_arrays:
            return loaded
    raise ImportError(f"no backend takes arrays on a GPU ({'; '.join(missing)})")
