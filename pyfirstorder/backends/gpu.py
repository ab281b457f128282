"""What the backends of a GPU have in common: CuPy, a GPU that it sees, and what is kept there with a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfirstorder.problem import Weights

    Kept = TypeVar("Kept")


def cupy_with_gpu() -> Any:
    """CuPy, or an ImportError that says what is missing."""
    try:
        import cupy
    except ImportError as error:
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == "cupy"
        state = "CuPy is not installed" if is_absent else f"CuPy does not load ({error})"
        raise ImportError(f'{state}: pip install "pyfirstorder[cupy]", or the cupy-cuda wheel of your CUDA') from error
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise ImportError(f"CuPy sees no GPU: {error}") from error
    if not devices:
        raise ImportError("CuPy sees no GPU")
    return cupy


def kept_on_gpu(library: Any, weights: Weights, name: str, make: Callable[[], Kept]) -> Kept:
    """What ``make`` makes of the weights on the current GPU, kept with the network under a name."""
    place = f"{name}:{library.cuda.Device().id}"
    if place not in weights.prepared:  # threads that make it at once agree on one
        made = make()
        library.cuda.get_current_stream().synchronize()  # from now on calls on other streams may read it
        weights.prepared.setdefault(place, made)
    kept: Kept = weights.prepared[place]
    return kept
