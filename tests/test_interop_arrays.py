"""Arrays of other libraries: what goes in comes out in the same kind, with NumPy's bits, and without a copy."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import pyfirstorder as fo
from pyfirstorder import arrays, backends, validate

NET = fo.random_network(12, 16, activation="tanh", seed=1)
WIDE = fo.TwoLayerNetwork(NET.hidden_weight, np.random.default_rng(2).standard_normal((5, 16), dtype=np.float32))
X = np.random.default_rng(3).random((7, 3, 4), dtype=np.float32)
Y = np.arange(7) % 5
LIBRARIES = ("torch", "jax.numpy", "array_api_strict")
CALLS: dict[str, Any] = {
    "forward": lambda x, y: fo.forward(WIDE, x),
    "forward, scalar": lambda x, y: fo.forward(NET, x),
    "predict": lambda x, y: fo.predict(WIDE, x),
    "input_gradient": lambda x, y: fo.input_gradient(WIDE, x, y),
    "project": lambda x, y: fo.project(x, eps=0.1, norm="l2"),
    "pgd": lambda x, y: fo.pgd(WIDE, x, y, eps=0.1, bounds=(0, 1), keep="both", trace=True),
    "apgd": lambda x, y: fo.apgd(WIDE, x, y, eps=0.1, steps=5, norm="l2"),
    "robustness_curve": lambda x, y: fo.robustness_curve(WIDE, x, y, eps=[0.1, 0.2], steps=3),
    "evaluate": lambda x, y: fo.evaluate(WIDE, x, y, eps=0.1, steps=5),
    "minimal_eps": lambda x, y: fo.minimal_eps(WIDE, x, y, eps_max=1.0, tol=0.1, steps=3),
}
every_library = pytest.mark.parametrize("library", LIBRARIES)
every_call = pytest.mark.parametrize("call", CALLS)


def namespace(library: str) -> Any:
    return pytest.importorskip(library, reason=f"needs {library}")


def parts_of(result: Any) -> dict[str, Any]:
    """Every array of a result by name, those of its parts too."""
    if isinstance(result, fo.Evaluation):
        return {name: getattr(result, name) for name in ("robust", "fell_to", "x_adv")}
    if isinstance(result, (fo.AttackResult, fo.MinimalRadius)):
        found = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
        trace = found.pop("trace", None)
        return {name: part for name, part in found.items() if part is not None} | (trace._asdict() if trace else {})
    if isinstance(result, fo.RobustnessCurve):
        return {f"{i}.{name}": p for i, one in enumerate(result.results) for name, p in parts_of(one).items()}
    return {str(i): part for i, part in enumerate(result if isinstance(result, tuple) else (result,))}


@every_library
@every_call
def test_results_have_the_kind_of_x_and_the_bits_of_numpy(library, call):
    xp = namespace(library)
    expected, actual = parts_of(CALLS[call](X, Y)), parts_of(CALLS[call](xp.asarray(X), xp.asarray(Y)))
    kind = type(xp.asarray(X))
    assert actual.keys() == expected.keys()
    for name, part in actual.items():
        assert isinstance(part, kind), name
        given = arrays.read(name, part)  # JAX makes float32 of the trace's float64, int32 of counts
        np.testing.assert_array_equal(given, expected[name].astype(given.dtype), err_msg=name)


@every_library
def test_repr_and_counts_read_any_kind(library):
    xp = namespace(library)
    x, y = xp.asarray(X), xp.asarray(Y)
    end, plain = (fo.pgd(WIDE, one, labels, eps=0.1) for one, labels in ((x, y), (X, Y)))
    assert repr(end) == repr(plain)
    assert (end.zero_gradient, end.not_finite) == (0, 0)
    np.testing.assert_array_equal(arrays.read("delta", end.delta), plain.delta)
    assert repr(fo.minimal_eps(WIDE, x, y, eps_max=1.0, steps=3)) == repr(
        fo.minimal_eps(WIDE, X, Y, eps_max=1.0, steps=3)
    )
    curves = [fo.robustness_curve(WIDE, one, labels, eps=[0.1], steps=3) for one, labels in ((x, y), (X, Y))]
    assert repr(curves[0]) == repr(curves[1])


@every_library
def test_everything_beside_x_may_be_of_another_library(library):
    xp = namespace(library)
    radii, start = np.linspace(0.05, 0.2, 7, dtype=np.float32), np.clip(X + 0.01, 0, 1)
    upper = np.full((3, 4), 0.999, np.float32)
    expected = fo.pgd(WIDE, X, Y, eps=radii, step_size=radii / 4, bounds=(0, np.maximum(upper, X.max())), x_init=start)
    given = fo.pgd(
        WIDE,
        X,
        xp.asarray(Y),
        eps=xp.asarray(radii),
        step_size=xp.asarray(radii / 4),
        bounds=(0, xp.asarray(np.maximum(upper, X.max()))),
        x_init=xp.asarray(start),
    )
    assert isinstance(given.x_adv, np.ndarray)
    np.testing.assert_array_equal(given.x_adv, expected.x_adv)


@every_library
def test_weights_may_be_of_any_library(library):
    xp = namespace(library)
    net = fo.TwoLayerNetwork(xp.asarray(np.array(WIDE.hidden_weight)), xp.asarray(np.array(WIDE.output_weight)))
    np.testing.assert_array_equal(fo.forward(net, X), fo.forward(WIDE_RELU, X))


WIDE_RELU = fo.TwoLayerNetwork(WIDE.hidden_weight, WIDE.output_weight)


@pytest.mark.parametrize("library", ["torch", "jax.numpy"])  # arrays of array-api-strict cannot be pickled
def test_results_can_be_pickled_and_replaced(library):
    xp = namespace(library)
    x = xp.asarray(X)
    end = fo.pgd(WIDE, x, Y, eps=0.1, keep="both", trace=True)
    for other in (pickle.loads(pickle.dumps(end)), dataclasses.replace(end)):
        assert isinstance(other, fo.AttackResult)
        for name, part in parts_of(end).items():
            assert type(parts_of(other)[name]) is type(part), name
            np.testing.assert_array_equal(arrays.read(name, parts_of(other)[name]), arrays.read(name, part))
    assert not hasattr(end, "gradient")


# ------------------------------------------------------------------ without a copy


def address(values: np.ndarray) -> int:
    return values.__array_interface__["data"][0]


def test_torch_tensors_are_read_and_given_without_a_copy():
    torch = namespace("torch")
    x = torch.rand(5, 3, 4)
    assert address(validate.points("x", x, 12).rows) == x.data_ptr()
    values = np.arange(6.0)
    assert arrays.give(values, x).data_ptr() == address(values)


def test_labels_are_those_of_the_moment_at_which_they_were_checked():
    """An engine indexes by them, and their owner may write to them meanwhile."""
    labels = namespace("torch").arange(5)
    taken = validate.objective(WIDE, labels, 5, np.dtype(np.float32), None, False).labels
    labels += 7
    np.testing.assert_array_equal(taken, np.arange(5))


def test_jax_arrays_are_read_without_a_copy():
    jnp = namespace("jax.numpy")
    x = jnp.ones((5, 3, 4))
    assert address(validate.points("x", x, 12).rows) == x.unsafe_buffer_pointer()


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_the_engine_works_on_the_memory_of_the_caller_and_gives_its_own(library, monkeypatch):
    xp = namespace(library)
    x, engine = xp.asarray(np.random.default_rng(0).random((5, 12), dtype=np.float32)), backends.get("cpu")
    seen: list[int] = []

    def forward(weights, rows, threads):
        output = plain(weights, rows, threads)
        seen.extend((address(rows), address(output)))
        return output

    plain = engine.forward
    monkeypatch.setattr(engine, "forward", forward, raising=False)
    output = fo.forward(WIDE, x, backend="cpu")
    assert seen == [address(np.from_dlpack(x)), address(np.from_dlpack(output))]


def test_strided_tensors_are_read_right():
    torch = namespace("torch")
    x = torch.from_numpy(X)
    turned = x.permute(0, 2, 1)
    np.testing.assert_array_equal(fo.forward(WIDE, turned), fo.forward(WIDE, X.transpose(0, 2, 1).copy()))
    assert fo.pgd(WIDE, turned, Y, eps=0.1).x_adv.shape == (7, 4, 3)


# ------------------------------------------------------------------ what is refused, and with which words


def test_tensors_that_require_grad_may_be_attacked_but_not_silently_cut_from_their_graph():
    torch = namespace("torch")
    x = torch.from_numpy(X).requires_grad_()
    end = fo.pgd(WIDE, x, Y, eps=0.1)
    assert not end.x_adv.requires_grad
    np.testing.assert_array_equal(end.x_adv, fo.pgd(WIDE, X, Y, eps=0.1).x_adv)
    for call in ("forward", "input_gradient", "project"):
        with pytest.raises(TypeError, match=r"requires grad, which nothing records here; use .*\.detach\(\)"):
            CALLS[call](x, Y)
    with torch.no_grad():
        np.testing.assert_array_equal(fo.forward(WIDE, x), fo.forward(WIDE, X))


def nested(x: Any) -> Any:
    return namespace("torch").nested.nested_tensor(list(x))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    ("make", "pattern"),
    [
        (lambda t: t.bfloat16(), r"x: .*torch\.bfloat16 with shape \(7, 3, 4\).*convert with x\.float\(\)"),
        (lambda t: t.half(), r"x: expected an array of float32 or float64.*float16.*convert with x\.float\(\)"),
        (lambda t: (255 * t).byte(), r"x: .*float32 or float64.*uint8.*convert images with x\.float\(\) / 255"),
        (lambda t: t.to("meta"), r"x: .*torch\.float32"),
        (lambda t: t.to_sparse(), r"x: expected an array that NumPy can read"),
        (nested, r"x: expected an array that NumPy can read"),
    ],
    ids=["bfloat16", "float16", "images", "another device", "sparse", "nested"],
)
def test_tensors_that_cannot_be_computed_with_are_refused_by_name(make, pattern):
    torch = namespace("torch")
    with pytest.raises(TypeError, match=pattern):
        fo.pgd(WIDE, make(torch.from_numpy(X)), Y, eps=0.1)


def test_half_precision_of_jax_is_refused_by_name():
    jnp = namespace("jax.numpy")
    for dtype in ("float16", "bfloat16"):
        with pytest.raises(TypeError, match=rf'x: .*{dtype}.*x\.astype\("float32"\)'):
            fo.forward(WIDE, jnp.asarray(X, dtype))


class OnAGpu:
    """An array as CuPy or torch would say it lies on a GPU."""

    dtype, shape, device = np.dtype(np.float32), (7, 12), "cuda:0"
    __cuda_array_interface__ = None


class OnAGpuByDlpack(OnAGpu):
    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


@pytest.mark.parametrize("kind", [OnAGpu, OnAGpuByDlpack])
def test_arrays_on_a_gpu_are_refused_by_their_device(kind):
    with pytest.raises(TypeError, match=r"x: .*it is read by CuPy: pip install"):
        fo.forward(WIDE, kind())
    with pytest.raises(TypeError, match=r"y: .*cuda:0"):
        fo.pgd(WIDE, X, kind(), eps=0.1)


def test_traced_arrays_are_sent_to_the_module_that_can():
    jax = namespace("jax")
    with pytest.raises(TypeError, match=r"x: .*inside jit, vmap or grad use pyfirstorder\.interop\.jax"):
        jax.jit(lambda x: fo.forward(WIDE, x))(X)


def test_without_array_api_compat_the_message_says_what_to_install():
    code = (
        "import sys; sys.modules['array_api_compat'] = None\n"
        "import torch, pyfirstorder as fo\n"
        "fo.predict(fo.random_network(2, 3), torch.rand(1, 2))"
    )
    namespace("torch")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'arrays of torch need array-api-compat: pip install "pyfirstorder[arrays]"' in done.stderr


# ------------------------------------------------------------------ the device of x


@every_call
def test_results_lie_beside_x_whatever_the_default_device_of_torch(call):
    torch = namespace("torch")
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    expected = parts_of(CALLS[call](x, y))
    with torch.device("meta"):
        actual = parts_of(CALLS[call](x, y))
    for name, part in actual.items():
        assert part.device == x.device, name
        assert torch.equal(part, expected[name]), name


@every_call
def test_results_lie_on_the_device_of_an_array_api_array(call):
    xp = namespace("array_api_strict")
    device = xp.Device("device1")
    for name, part in parts_of(CALLS[call](xp.asarray(X, device=device), Y)).items():
        assert part.device == device, name


class OnlyDlpack:
    """An array of a library that has no namespace."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.values.__dlpack_device__()


class OnlyInterface:
    """An object with NumPy's array interface alone."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.__array_interface__ = values, values.__array_interface__


@pytest.mark.parametrize("kind", [OnlyDlpack, OnlyInterface, memoryview])
@every_call
def test_what_has_no_library_of_its_own_is_read_and_numpy_given_back(kind, call):
    expected, actual = parts_of(CALLS[call](X, Y)), parts_of(CALLS[call](kind(X), kind(Y)))
    for name, part in actual.items():
        if name.rpartition(".")[2] != "x":  # which is given back as it came
            assert type(part) is np.ndarray, name
            np.testing.assert_array_equal(part, expected[name], err_msg=name)
