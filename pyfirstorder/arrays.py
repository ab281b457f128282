"""Arrays of any library: read in place as NumPy's or CuPy's, and results given back in their kind.

An array that speaks DLPack is read without a copy, by NumPy where it lies in main memory and by CuPy where it lies on a
GPU.  Results go back through ``asarray`` or ``from_dlpack`` of the caller's library, which share memory where they can.
Libraries are known by what their arrays say of themselves (array-api-compat), not by name, but for a hint in a message.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from pyfirstorder.problem import Array

    Give = Callable[[Array], Any]

# Kinds of device of the DLPack standard that lie in main memory: CPU, and what CUDA and ROCm pin or manage there.
_MAIN_MEMORY = (1, 3, 11, 13)
_CUDA = 2
_PROTOCOLS = ("__dlpack__", "__array_namespace__", "__cuda_array_interface__")
_TRACED = {
    "jax": "inside jit, vmap or grad use pyfirstorder.interop.jax",
    "torch": "inside torch.compile use pyfirstorder.interop.torch",
}


def is_foreign(value: object) -> bool:
    """Whether a value is an array of a library other than NumPy."""
    kind = type(value)
    known = _foreign.get(kind)
    if known is None:
        speaks = any(hasattr(kind, protocol) for protocol in _PROTOCOLS) or _library(value) == "tensorflow"
        known = _foreign[kind] = speaks and not isinstance(value, (np.ndarray, np.generic))
    return known


_foreign: dict[type, bool] = {}  # by type: asking one costs more than all else that is done for an array


def _library(value: object) -> str:
    return type(value).__module__.partition(".")[0]


def read(name: str, value: Any, on_device: bool = False) -> Array:
    """The NumPy array that shares the memory of a foreign one, or CuPy's where it may be on a GPU and is.

    Of an array that records gradients, its values.
    """
    if getattr(value, "requires_grad", False):
        value = value.detach()
    try:
        if getattr(value, "is_cpu", False):  # torch says at once where an array lies; its DLPack takes 15 us of Python
            return value.numpy() if type(value).__name__ == "Tensor" else np.asarray(value)
        if _lies_elsewhere(value):
            if on_device and _device(value) == _CUDA:
                return _read_by_cupy(value)
            raise TypeError(f"it lies on {getattr(value, 'device', 'a GPU')}, and is not copied to main memory unasked")
        return np.from_dlpack(value) if hasattr(value, "__dlpack__") else np.asarray(value)
    except Exception as error:  # each library has its own for what NumPy cannot hold, and for what has no values yet
        reason = str(error).strip().partition("\n")[0]
        if _is_traced(value):
            reason = _TRACED[_library(value)]
        elif str(getattr(value, "dtype", "")).endswith("float16"):
            reason += f"; convert with {conversion(name, value)}"
        raise TypeError(f"{name}: expected an array that NumPy can read, got {describe(value)}; {reason}") from error


def conversion(name: str, value: object) -> str:
    """What its user writes to get float32."""
    if not is_foreign(value):
        return f"{name}.astype(np.float32)"
    return f"{name}.float()" if hasattr(value, "float") else f'{name}.astype("float32")'


def _lies_elsewhere(value: Any) -> bool:
    return _device(value) not in _MAIN_MEMORY


def _device(value: Any) -> int:
    """Kind of device of the DLPack standard."""
    if hasattr(value, "__dlpack_device__"):
        return int(value.__dlpack_device__()[0])
    return _CUDA if hasattr(value, "__cuda_array_interface__") else _MAIN_MEMORY[0]


def _read_by_cupy(value: Any) -> Array:
    cupy = _cupy()
    current = cupy.cuda.Device().id
    if isinstance(value, cupy.ndarray):
        array = value
    else:
        array = cupy.from_dlpack(value) if hasattr(value, "__dlpack__") else cupy.asarray(value)
    if array.device.id != current:
        raise ValueError(f"it lies on GPU {array.device.id}, and what it belongs to on GPU {current}")
    return array


def _cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise ImportError(f'on a GPU it is read by CuPy: pip install "pyfirstorder[cupy]" ({error})') from error
    return cupy


def place_of(value: Any) -> AbstractContextManager[Any]:
    """Where an array is read, computed on, and what comes of it given back.

    That is its own GPU, and the stream on which its library works there: torch says which.  Of others it is CuPy's
    current stream; what they did before is ordered by DLPack, and before they go on all is done.
    """
    if type(value) is np.ndarray or not is_foreign(value) or getattr(value, "is_cpu", False):
        return nullcontext()
    try:
        cupy = _cupy() if _device(value) == _CUDA else None
        number = 0 if cupy is None else _number_of_gpu(cupy, value)
    except Exception:  # whatever an array raises, and a missing CuPy: `read` says what is wrong
        return nullcontext()
    return nullcontext() if cupy is None else _on_gpu(cupy, value, number)


def _number_of_gpu(cupy: Any, value: Any) -> int:
    if hasattr(value, "__dlpack_device__"):
        return int(value.__dlpack_device__()[1])
    return int(cupy.asarray(value).device.id)


@contextmanager
def _on_gpu(cupy: Any, value: Any, number: int) -> Iterator[None]:
    with cupy.cuda.Device(number):
        if any(base.__module__.partition(".")[0] == "torch" for base in type(value).__mro__):
            address: int = sys.modules["torch"].cuda.current_stream(number).cuda_stream
            with _stream(cupy, address, number):
                yield
            return
        yield
        if not isinstance(value, cupy.ndarray):  # whose owner may use its memory again, on a stream that is not known
            cupy.cuda.get_current_stream().synchronize()


class _ForeignStream(NamedTuple):
    """A stream as other libraries read it."""

    address: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.address  # version of the protocol


def _stream(cupy: Any, address: int, number: int) -> Any:
    """A stream of another library on the GPU of that number, as CuPy's since release 14 or before."""
    if hasattr(cupy.cuda.Stream, "from_external"):
        return cupy.cuda.Stream.from_external(_ForeignStream(address))
    return cupy.cuda.ExternalStream(address, number)


def is_on_device(array: object) -> bool:
    """Whether an array that `read` returned lies on a GPU."""
    return not isinstance(array, np.ndarray)


def beside(array: Array, other: Array) -> Array:
    """The array where the other one lies."""
    return np.asarray(array, like=other) if is_on_device(other) and not is_on_device(array) else array


def in_main_memory(array: Any) -> Array:
    """The array, copied where it lies on a GPU."""
    return array.get() if is_on_device(array) else array


def _is_traced(value: object) -> bool:
    """Whether a compiler is looking at what becomes of the value, which is not there yet."""
    return any("Tracer" in base.__name__ or base.__name__ == "FakeTensor" for base in type(value).__mro__)


def describe(value: Any) -> str:
    """Kind, type and shape."""
    shape = None if getattr(value, "is_nested", False) else getattr(value, "shape", None)  # torch's nested have none
    size = None if shape is None else tuple(shape)
    return f"an array of {_library(value)} of type {getattr(value, 'dtype', '?')} with shape {size}"


def refuse_gradients(name: str, value: object, instead: str) -> None:
    """Refuse an array whose gradient is being recorded, where the record would silently end here."""
    if getattr(value, "requires_grad", False):
        torch = sys.modules.get("torch")
        if torch is None or torch.is_grad_enabled():
            raise TypeError(f"{name}: requires grad, which nothing records here; use {instead}, or {name}.detach()")


def giver(like: object) -> Give | None:
    """A function from NumPy arrays to the kind of ``like``, on its device; None where that is NumPy."""
    kind = type(like)
    if kind not in _givers:
        _givers[kind] = _find_giver(like)
    into = _givers[kind]
    if into is None:
        return None
    device = getattr(like, "device", None)
    return lambda values: into(values, device)


_givers: dict[type, Callable[[Array, Any], Any] | None] = {}  # by type, of values and a device


def _find_giver(like: object) -> Callable[[Array, Any], Any] | None:
    if not is_foreign(like):
        return None
    if _library(like) == "tensorflow":  # the one that array-api-compat does not know
        return lambda values, device: sys.modules["tensorflow"].convert_to_tensor(values)
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(like, cupy.ndarray):  # as results on a GPU are, whichever is the current one
        return lambda values, device: values if isinstance(values, cupy.ndarray) else cupy.asarray(values)
    try:
        from array_api_compat import array_namespace
    except ImportError as error:
        raise ImportError(
            f'arrays of {_library(like)} need array-api-compat: pip install "pyfirstorder[arrays]"'
        ) from error
    try:
        library = array_namespace(like)
    except TypeError:  # DLPack and nothing else
        return None
    takes_device = _library(like) != "jax"  # there it costs 300 us

    def into(values: Array, device: Any) -> Any:
        if is_on_device(values):
            return library.from_dlpack(values)
        return library.asarray(values, device=device) if takes_device else library.asarray(values)

    return into


def give(values: Array, like: object) -> Any:
    """The values as an array of the kind of ``like``."""
    into = giver(like)
    return values if into is None else into(values)
