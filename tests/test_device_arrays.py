"""Arrays that lie on a GPU: computed there, and results left there.  NumPy stands in for CuPy, as strict as that is."""

from __future__ import annotations

import re
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import stand_in
from numpy.testing import assert_array_equal
from stand_in import DeviceArray, asarray
from support import CUPY_ON_NUMPY, every_dtype, every_norm, with_and_without_box

import pyfirstorder as fo
from pyfirstorder import arrays, backends, results
from pyfirstorder.backends import cupy as cupy_backend
from pyfirstorder.backends.cupy import products
from pyfirstorder.backends.cupy.fusion import compiler
from pyfirstorder.backends.reference.activations import ACTIVATIONS
from pyfirstorder.dynamics import trace


@pytest.fixture(autouse=True)
def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with CuPy and a GPU."""
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    monkeypatch.setitem(backends._loaded, "cupy", CUPY_ON_NUMPY)
    monkeypatch.setitem(backends._loaded, "cuda", ImportError("not here, even where it was compiled"))
    monkeypatch.delitem(arrays._givers, DeviceArray, raising=False)


def problem(dtype: Any = np.float32) -> tuple[fo.TwoLayerNetwork, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    net = fo.TwoLayerNetwork(rng.normal(size=(30, 12)), rng.normal(size=(4, 30)), activation="silu")
    return net, rng.uniform(size=(9, 3, 4)).astype(dtype), rng.integers(0, 4, 9)


def same(given: Any, expected: np.ndarray) -> None:
    """On the device, with the bits of the same backend called with NumPy's arrays."""
    assert type(given) is DeviceArray
    assert given.dtype == expected.dtype
    assert_array_equal(given.get(), expected)


@every_dtype
def test_functions_leave_their_results_on_the_device(dtype: Any) -> None:
    net, x, y = problem(dtype)
    for function in (fo.forward, fo.predict):
        same(function(net, asarray(x)), function(net, x, backend="cupy"))
    for given, expected in zip(
        fo.input_gradient(net, asarray(x), asarray(y)), fo.input_gradient(net, x, y, backend="cupy")
    ):
        same(given, expected)
    same(fo.project(asarray(x), eps=0.5, norm="l2"), fo.project(x, eps=0.5, norm="l2", backend="cupy"))


@every_norm
@with_and_without_box
def test_attacks_leave_their_results_on_the_device(norm: str, boxed: bool) -> None:
    net, x, y = problem()
    options: dict[str, Any] = {
        "eps": 0.4,
        "norm": norm,
        "steps": 6,
        "bounds": (0.0, 1.0) if boxed else None,
        "random_start": True,
        "restarts": 2,
        "keep": "both",
        "trace": True,
    }
    there, here = fo.pgd(net, asarray(x), y, **options), fo.pgd(net, x, y, backend="cupy", **options)
    for name in ("x_adv", "loss", "output", "success", "best_loss", "steps", "first_success", "status", "x_best"):
        same(getattr(there, name), getattr(here, name))
    assert there.trace is not None
    assert here.trace is not None
    same(there.trace.cosine, here.trace.cosine)
    assert repr(there) == repr(here)
    for name in ("restarts", "keep"):
        del options[name]
    del options["trace"]
    same(fo.apgd(net, asarray(x), y, **options).x_adv, fo.apgd(net, x, y, backend="cupy", **options).x_adv)


def test_what_belongs_to_samples_may_lie_in_either_place() -> None:
    net, x, y = problem()
    eps = np.linspace(0.1, 0.5, len(x))
    box = (np.zeros(x.shape[1:]), np.ones(x.shape[1:]))
    expected = fo.pgd(net, x, y, eps=eps, bounds=box, steps=5, x_init=x, backend="cupy").x_adv
    for move in (asarray, lambda array: array):
        end = fo.pgd(
            net, asarray(x), move(y), eps=move(eps), bounds=(move(box[0]), move(box[1])), steps=5, x_init=move(x)
        )
        same(end.x_adv, expected)


def test_targeted_dlr_on_the_device() -> None:
    net, x, y = problem()
    options: dict[str, Any] = {"eps": 0.3, "steps": 4, "loss": "dlr", "targeted": True}
    same(fo.pgd(net, asarray(x), y, **options).x_adv, fo.pgd(net, x, y, backend="cupy", **options).x_adv)


def test_rows_that_are_not_finite_are_marked_on_the_device() -> None:
    net, x, y = problem()
    x[2, 1, 1] = np.nan
    with pytest.raises(ValueError, match="x: expected finite numbers, got NaN or infinity first in row 2"):
        fo.pgd(net, asarray(x), y, eps=0.1)
    end = fo.pgd(net, asarray(x), y, eps=0.1, on_invalid="mark")
    assert end.status.get()[2] == fo.Status.INVALID_INPUT
    assert_array_equal(end.x_adv.get()[2], x[2])


def steep() -> fo.TwoLayerNetwork:
    """A network whose outputs are finite at 1e-25 and infinite at 1."""
    hidden_weight = np.array([[1e30, 1e30, 1e30], [5e29, 5e29, 5e29]], np.float32)
    return fo.TwoLayerNetwork(hidden_weight, np.eye(2, dtype=np.float32), activation="quadratic")


@pytest.mark.parametrize("function", ["forward", "predict", "input_gradient", "pgd"])
def test_values_on_the_device_that_are_not_finite_are_counted_and_warned_of(function: str) -> None:
    x = asarray(np.repeat([[1e-25], [1], [1e-25], [1], [1]], 3, axis=1).astype(np.float32))
    more: list[Any] = [] if function in ("forward", "predict") else [np.ones(5, np.int64)]
    options: dict[str, Any] = {"eps": 1e-30} if function == "pgd" else {}
    with pytest.warns(fo.NotFiniteWarning, match=r"of 3 of 5 (attacked )?points") as seen:
        getattr(fo, function)(steep(), x, *more, **options)
    assert seen[0].filename == __file__


def test_the_host_waits_for_one_number_to_know_whether_to_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    for name, read in (("__int__", int), ("__bool__", bool), ("__float__", float)):
        monkeypatch.setattr(DeviceArray, name, lambda array, read=read: taken.append(array.size) or read(array._values))
    monkeypatch.setattr(DeviceArray, "get", lambda array: taken.append(array.size) or array._values)
    loss, gradient = asarray(np.ones(9)), asarray(np.ones((9, 3, 4)))
    results.warn_of_overflow("loss or gradient", loss, gradient, stacklevel=1)
    assert taken == [1]


def test_an_empty_batch_on_the_device_has_nothing_to_warn_of() -> None:
    net, x, y = problem()
    assert fo.forward(net, asarray(x[:0])).shape == (0, 4)
    assert fo.input_gradient(net, asarray(x[:0]), y[:0])[0].shape == (0,)


def test_values_are_checked_on_the_device() -> None:
    net, x, y = problem()
    with pytest.raises(ValueError, match="y: expected class indices from 0 to 3, got 4 in row 1"):
        fo.pgd(net, asarray(x), asarray(np.where(np.arange(len(y)) == 1, 4, y)), eps=0.1)
    with pytest.raises(ValueError, match="x: expected values within bounds"):
        fo.pgd(net, asarray(x), y, eps=0.1, bounds=(0.0, 0.5))
    with pytest.raises(TypeError, match="x: expected an array of float32 or float64"):
        fo.forward(net, asarray(x.astype(np.int32)))


def same_numbers(given: Any, expected: Any) -> None:
    """Attributes of two results: arrays that lie on the device, or numbers."""
    for name, part in vars(expected).items():
        found = getattr(given, name)
        if isinstance(part, np.ndarray) and type(found) is DeviceArray:
            found = found.get()
        if isinstance(part, np.ndarray):
            assert_array_equal(found, part, err_msg=name)


@pytest.mark.parametrize("warm_start", [False, True], ids=["cold", "warm"])
def test_curves_of_points_on_the_device(warm_start: bool) -> None:
    net, x, y = problem()
    options: dict[str, Any] = {"eps": [0.01, 0.05, 0.3], "norm": "l2", "steps": 5, "warm_start": warm_start}
    given = fo.robustness_curve(net, asarray(x), y, **options)
    expected = fo.robustness_curve(net, x, y, backend="cupy", **options)
    assert given.clean_accuracy == expected.clean_accuracy
    same_numbers(given, expected)
    for on_device, result in zip(given.results, expected.results):
        same(on_device.x_adv, result.x_adv)
        same(on_device.success, result.success)


@every_norm
def test_smallest_radii_of_points_on_the_device(norm: str) -> None:
    net, x, y = problem()
    x = x.reshape(len(x), -1)
    x[4, 3] = np.nan
    options: dict[str, Any] = {"norm": norm, "eps_max": 2.0, "tol": 0.05, "steps": 5, "on_invalid": "mark"}
    given = fo.minimal_eps(net, asarray(x), y, **options)
    expected = fo.minimal_eps(net, x, y, backend="cupy", **options)
    assert np.isfinite(expected.eps).any()
    for name in ("eps", "lower", "x_adv", "success"):
        same(getattr(given, name), getattr(expected, name))


def test_the_box_limits_radii_on_the_device() -> None:
    net, x, y = problem()
    options: dict[str, Any] = {"bounds": (0.0, 1.0), "tol": 0.1, "steps": 3}
    same(fo.minimal_eps(net, asarray(x), y, **options).eps, fo.minimal_eps(net, x, y, backend="cupy", **options).eps)


@pytest.mark.parametrize("labels_on_device", [False, True])
def test_evaluation_of_points_on_the_device(labels_on_device: bool) -> None:
    net, x, y = problem()
    options: dict[str, Any] = {"eps": 0.05, "norm": "l2", "steps": 6}
    given = fo.evaluate(net, asarray(x), asarray(y) if labels_on_device else y, **options)
    expected = fo.evaluate(net, x, y, backend="cupy", **options)
    assert (given.clean_accuracy, given.robust_accuracy) == (expected.clean_accuracy, expected.robust_accuracy)
    for name in ("x_adv", "robust", "fell_to"):
        same(getattr(given, name), getattr(expected, name))


def test_a_backend_of_main_memory_is_refused() -> None:
    net, x, _ = problem()
    with pytest.raises(ValueError, match="backend: 'reference' computes in main memory, and x lies on a GPU"):
        fo.forward(net, asarray(x), backend="reference")


def test_nothing_large_is_copied_to_main_memory_unasked() -> None:
    net, x, y = problem()
    message = "it lies on .*, and is not copied to main memory unasked"
    with pytest.raises(TypeError, match=f"y: .*{message}"):
        fo.pgd(net, x, asarray(y), eps=0.1)
    with pytest.raises(TypeError, match=f"hidden_weight: .*{message}"):
        fo.TwoLayerNetwork(asarray(np.eye(2)), np.eye(2))


def test_without_cupy_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, _ = problem()
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(TypeError, match=re.escape('pip install "pyfirstorder[cupy]"')):
        fo.forward(net, asarray(x))


def test_without_a_gpu_no_backend_takes_such_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, _ = problem()
    monkeypatch.setitem(backends._loaded, "cupy", ImportError("CuPy sees no GPU"))
    with pytest.raises(ImportError, match=r"no backend takes arrays on a GPU .*cupy: CuPy sees no GPU"):
        fo.forward(net, asarray(x))


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_blocks_do_not_change_the_answer(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, y = problem()
    options: dict[str, Any] = {"eps": [0.1, 0.3], "norm": "l2", "steps": 5, "random_start": True, "backend": "cupy"}
    whole = fo.robustness_curve(net, x, y, **options).results
    monkeypatch.setattr(cupy_backend, "BLOCK_NUMBERS", rows * net.in_features)
    for apart, together in zip(fo.robustness_curve(net, x, y, **options).results, whole):
        assert_array_equal(apart.x_adv, together.x_adv)
        assert_array_equal(apart.steps, together.steps)


def test_progress_of_blocks_rises_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, y = problem()
    monkeypatch.setattr(cupy_backend, "BLOCK_NUMBERS", 4 * net.in_features)
    shares: list[float] = []
    fo.pgd(net, x, y, eps=0.1, steps=2, restarts=2, random_start=True, backend="cupy", progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) >= 6  # three blocks of two restarts


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9])
def test_a_product_in_blocks_is_the_product(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "PRODUCT_ROWS", 4)
    rng = np.random.default_rng(0)
    rows, matrix = rng.integers(-3, 4, (count, 5)).astype(np.float32), rng.integers(-3, 4, (6, 5)).astype(np.float32)
    same(products.product(asarray(rows), asarray(matrix)), rows @ matrix.T)


class Library:
    """CuPy with another ``fuse``."""

    def __init__(self, fuse: Any) -> None:
        self.fuse = fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(stand_in, name)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_equations_can_be_traced_by_cupy_s_functions_alone(name: str) -> None:
    seen = []

    def fuse(kernel_name: str) -> Any:
        return lambda function: lambda *proxies: seen.append(kernel_name) or function(*proxies)

    compiled = compiler(Library(fuse), stand_in.erf)
    h = np.linspace(-4, 4, 33)
    for function in (ACTIVATIONS[name].value, ACTIVATIONS[name].derivative):
        assert_array_equal(compiled(function)(asarray(h), 0.7).get(), function(h, 0.7))
    assert len(seen) == 2


@pytest.mark.parametrize("error", [NotImplementedError, stand_in.CompileException])
def test_an_equation_that_cannot_be_fused_runs_all_the_same(error: type[Exception]) -> None:
    attempts = []

    def fuse(kernel_name: str) -> Any:
        def refuse(*proxies: Any) -> Any:
            attempts.append(kernel_name)
            raise error("not fusable")

        return lambda function: refuse

    compiled = compiler(Library(fuse), stand_in.erf)(np.tanh)
    for _ in range(2):
        same(compiled(asarray(np.ones(3))), np.tanh(np.ones(3)))
    assert len(attempts) == 1


# ------------------------------------------------------------------ which GPU, which stream


def on_gpu(number: int, values: Any) -> DeviceArray:
    with stand_in.Device(number):
        return asarray(values)


def fake_torch(monkeypatch: pytest.MonkeyPatch) -> type[DeviceArray]:
    """A kind of array that says to be torch's, whose stream on GPU n is 100 + n."""
    streams = SimpleNamespace(current_stream=lambda number: SimpleNamespace(cuda_stream=100 + number))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=streams, is_grad_enabled=lambda: False))
    kind = type("Tensor", (DeviceArray,), {"__module__": "torch"})
    monkeypatch.setattr(stand_in, "from_dlpack", lambda values: asarray(DeviceArray(values._values)))
    monkeypatch.setitem(arrays._givers, kind, lambda values, device: values)
    return kind


class Watched:
    """A backend that notes on which GPU and stream it is called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(CUPY_ON_NUMPY, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append((name, stand_in.Device().id, stand_in.cuda.get_current_stream().ptr))
            return found(*arguments, **named)

        return call


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    backend = Watched()
    monkeypatch.setitem(backends._loaded, "cupy", backend)
    return backend


def every_function(net: fo.TwoLayerNetwork, x: Any, y: Any) -> list[Any]:
    """Call each, and return the arrays and the results that it gives."""
    return [
        fo.forward(net, x),
        fo.predict(net, x),
        *fo.input_gradient(net, x, y),
        fo.project(x, eps=0.1),
        fo.pgd(net, x, y, eps=0.1, steps=2),
        fo.apgd(net, x, y, eps=0.1, steps=2),
        *fo.robustness_curve(net, x, y, eps=[0.1], steps=2).results,
        fo.minimal_eps(net, x, y, eps_max=0.2, tol=0.1, steps=2),
        fo.evaluate(net, x, y, eps=0.1, steps=2),
        trace(net, x, y, eps=0.1, steps=2),
    ]


def test_everything_is_computed_on_the_gpu_where_x_lies(watched: Watched) -> None:
    net, x, y = problem()
    found = every_function(net, on_gpu(3, x), y)
    arrays_of_them = [getattr(each, "x_adv", each) for each in found]
    assert {each.device.id for each in arrays_of_them if isinstance(each, DeviceArray)} == {3}
    assert sum(isinstance(each, DeviceArray) for each in arrays_of_them) == len(found) - 1
    for each in found:
        assert repr(each)  # reads its numbers, wherever they lie
    assert {call[0] for call in watched.calls} == {"forward", "input_gradient", "project", "attack"}
    assert {call[1:] for call in watched.calls} == {(3, 0)}
    assert stand_in.Device().id == 0


@pytest.mark.parametrize("release", [13, 14])
def test_everything_is_computed_on_the_stream_of_torch(
    release: int, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    if release < 14:
        monkeypatch.setattr(stand_in.cuda, "Stream", stand_in.ExternalStream)
    net, x, y = problem()
    kind = fake_torch(monkeypatch)
    with stand_in.Device(2):
        tensor = kind(x)
    for each in every_function(net, tensor, y):
        assert repr(each)
    assert {call[1:] for call in watched.calls} == {(2, 102)}
    assert stand_in.cuda.get_current_stream().ptr == 0


def test_other_libraries_find_all_done_when_a_call_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type("Array", (DeviceArray,), {"__module__": "jax"})
    monkeypatch.setattr(stand_in, "ndarray", type("Ndarray", (), {}))  # what the array is not
    for array, waits in ((kind(problem()[1]), 1), (problem()[1], 0)):
        with stand_in.Stream(7) as stream:
            with arrays.place_of(array):
                assert stream.waits == 0
            assert stream.waits == waits


def test_arrays_on_two_gpus_are_refused_by_name() -> None:
    net, x, y = problem()
    with pytest.raises(TypeError, match=r"y: .*it lies on GPU 1, and what it belongs to on GPU 0"):
        fo.pgd(net, asarray(x), on_gpu(1, y), eps=0.1)


def test_a_call_that_fails_leaves_the_gpu_as_it_was() -> None:
    net, x, y = problem()
    with pytest.raises(ValueError, match="steps"):
        fo.pgd(net, on_gpu(3, x), y, eps=0.1, steps=-1)
    assert stand_in.Device().id == 0


def test_weights_are_on_the_gpu_before_another_stream_can_read_them() -> None:
    net, x, _ = problem()
    with stand_in.Stream(7) as stream:
        for _ in range(2):
            fo.forward(net, asarray(x))
    assert stream.waits == 1


def test_an_engine_that_no_driver_or_gpu_here_can_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "it was built with CUDA 13.0, and the driver knows CUDA 12.2 at most"
    compiled = ModuleType("pyfirstorder.backends._cuda")
    compiled.__spec__ = ModuleSpec(compiled.__name__, None)
    compiled.why_unusable = lambda: reason  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyfirstorder.backends._cuda", compiled)
    monkeypatch.setattr(backends, "_cuda", compiled, raising=False)
    monkeypatch.setattr(stand_in.cuda, "runtime", SimpleNamespace(getDeviceCount=lambda: 1), raising=False)
    monkeypatch.setattr(backends, "_loaded", {})
    assert fo.available_backends()["cuda"] == reason
