"""Arrays of CuPy, torch and JAX that lie on a real GPU: where results lie and what they are ordered by.

Also what is left where memory is short, another GPU is meant, or a graph is recorded.
Without a GPU `test_device_arrays` runs the same paths on a stand-in.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import pyfirstorder as fo
from pyfirstorder import arrays, backends

_STATES = backends.available_backends()
HERE = [name for name in ("cupy", "cuda") if _STATES[name] == "available"]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HERE, reason=f"cupy: {_STATES['cupy']}; cuda: {_STATES['cuda']}"),
]
OPTIONS: dict[str, Any] = {"eps": 0.2, "steps": 12, "bounds": (0.0, 1.0), "random_start": True, "seed": 3}
WAIT = 500_000_000  # cycles: a quarter of a second, in which a stream that is not waited for is found out


@pytest.fixture(params=HERE or [None])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def problem(samples: int = 33) -> tuple[fo.TwoLayerNetwork, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    net = fo.TwoLayerNetwork(rng.normal(size=(48, 20)) / 4, rng.normal(size=(5, 48)), activation="silu")
    return net, rng.uniform(size=(samples, 20)).astype(np.float32), rng.integers(0, 5, samples)


@pytest.fixture
def expected(backend: str) -> Any:
    """The attack from main memory."""
    net, x, y = problem()
    return fo.pgd(net, x, y, backend=backend, **OPTIONS)


def test_arrays_of_cupy_are_read_and_given_back_where_they_lie(backend: str, expected: Any) -> None:
    cupy = pytest.importorskip("cupy")
    net, x, y = problem()
    found = fo.pgd(net, cupy.asarray(x), cupy.asarray(y), backend=backend, **OPTIONS)
    for name in ("x_adv", "loss", "output", "success", "steps"):
        assert isinstance(getattr(found, name), cupy.ndarray)
        assert_array_equal(getattr(found, name).get(), getattr(expected, name))


def test_work_of_cupy_on_a_stream_of_its_own_is_waited_for(backend: str, expected: Any) -> None:
    cupy = pytest.importorskip("cupy")
    net, x, y = problem()
    ready = cupy.asarray(x)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True):
        late = cupy.zeros_like(ready)
        _busy(cupy)
        late += ready
        found = fo.pgd(net, late, y, backend=backend, **OPTIONS)
        assert_array_equal(found.x_adv.get(), expected.x_adv)


def _busy(cupy: Any) -> None:
    """Keep the current stream at work for a while."""
    kernel = cupy.RawKernel(
        'extern "C" __global__ void wait(long long cycles)'
        "{ const long long begin = clock64(); while (clock64() - begin < cycles); }",
        "wait",
    )
    kernel((1,), (1,), (np.int64(WAIT),))


@pytest.fixture
def torch() -> Any:
    found = pytest.importorskip("torch")
    if not found.cuda.is_available():
        pytest.skip("this build of torch sees no GPU")
    return found


def test_tensors_of_torch_are_read_and_given_back_where_they_lie(backend: str, expected: Any, torch: Any) -> None:
    net, x, y = problem()
    found = fo.pgd(net, torch.from_numpy(x).cuda(), torch.from_numpy(y).cuda(), backend=backend, **OPTIONS)
    for name in ("x_adv", "loss", "output", "success", "steps"):
        part = getattr(found, name)
        assert isinstance(part, torch.Tensor)
        assert part.is_cuda
        assert_array_equal(part.cpu().numpy(), getattr(expected, name))


def test_work_of_torch_on_a_stream_of_its_own_is_waited_for(backend: str, expected: Any, torch: Any) -> None:
    net, x, y = problem()
    ready, labels = torch.from_numpy(x).cuda(), torch.from_numpy(y).cuda()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        late = torch.zeros_like(ready)
        torch.cuda._sleep(WAIT)
        late += ready
        found = fo.pgd(net, late, labels, backend=backend, **OPTIONS)
        copied = found.x_adv.clone()  # on the same stream, with nothing to wait for
    stream.synchronize()
    assert_array_equal(copied.cpu().numpy(), expected.x_adv)


def test_calls_on_tensors_work_on_the_stream_of_torch(torch: Any) -> None:
    cupy = pytest.importorskip("cupy")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), arrays.place_of(torch.zeros(3, device="cuda")):
        assert cupy.cuda.get_current_stream().ptr == stream.cuda_stream


def test_a_tensor_that_is_gone_is_not_written_over_while_it_is_read(backend: str, torch: Any) -> None:
    _, x, _ = problem(4096)
    expected = fo.project(x, eps=0.5, norm="l1", backend=backend)
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(20):  # a call that returns while the device works
            found = fo.project(torch.from_numpy(x).cuda(), eps=0.5, norm="l1", backend=backend)
            torch.full(x.shape, float("nan"), device="cuda")  # takes the memory that the samples had
            assert_array_equal(found.cpu().numpy(), expected)


def test_arrays_of_jax_are_read_and_given_back_where_they_lie(backend: str, expected: Any) -> None:
    jax = pytest.importorskip("jax")
    devices = [device for device in jax.devices() if device.platform == "gpu"]
    if not devices:
        pytest.skip("this build of JAX sees no GPU")
    net, x, y = problem()
    found = fo.pgd(net, jax.device_put(x, devices[0]), jax.device_put(y, devices[0]), backend=backend, **OPTIONS)
    for name in ("x_adv", "loss", "output", "success"):
        part = getattr(found, name)
        assert isinstance(part, jax.Array)
        assert part.devices() == {devices[0]}
        assert_array_equal(np.asarray(part), getattr(expected, name))


def test_after_a_memory_error_the_process_goes_on_as_before(backend: str, expected: Any) -> None:
    cupy = pytest.importorskip("cupy")
    pool = cupy.get_default_memory_pool()
    net, x, y = problem(1_000_000)
    pool.free_all_blocks()
    limit = pool.get_limit()
    pool.set_limit(size=pool.total_bytes() + 2**26)
    try:
        with pytest.raises(MemoryError):
            fo.pgd(net, x, y, backend=backend, **OPTIONS)
    finally:
        pool.set_limit(size=limit)
    net, x, y = problem()
    assert_array_equal(fo.pgd(net, x, y, backend=backend, **OPTIONS).x_adv, expected.x_adv)


def test_samples_on_another_gpu_are_attacked_there(backend: str, expected: Any) -> None:
    cupy = pytest.importorskip("cupy")
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("one GPU is here")
    net, x, y = problem()
    with cupy.cuda.Device(1):
        there = cupy.asarray(x)
    found = fo.pgd(net, there, y, backend=backend, **OPTIONS)
    assert found.x_adv.device.id == 1
    assert_array_equal(found.x_adv.get(), expected.x_adv)
    with pytest.raises(TypeError, match=r"y: .*it lies on GPU 0"):
        fo.pgd(net, there, cupy.asarray(y), backend=backend, **OPTIONS)


@pytest.mark.skipif("cuda" not in HERE, reason="the engine is not here")
def test_the_engine_refuses_to_be_recorded() -> None:
    cupy = pytest.importorskip("cupy")
    net, x, _ = problem()
    engine, weights, there = backends.get("cuda"), net.weights(np.dtype(np.float32)), cupy.asarray(x)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        engine.forward(weights, there, 1)  # so that weights and memory are there
        stream.synchronize()
        stream.begin_capture()
        try:
            with pytest.raises(RuntimeError, match="a graph is being recorded"):
                engine.forward(weights, there, 1)
        finally:
            stream.end_capture()


def test_a_recorded_call_is_an_error_and_the_process_goes_on(backend: str, expected: Any) -> None:
    cupy = pytest.importorskip("cupy")
    net, x, y = problem()
    there = cupy.asarray(x)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        try:
            with pytest.raises(RuntimeError):  # of the engine, or of CuPy, whose errors of CUDA are such
                fo.pgd(net, there, y, backend=backend, **OPTIONS)
        finally:
            with contextlib.suppress(RuntimeError):  # what was refused may have ended it
                stream.end_capture()
    assert_array_equal(fo.pgd(net, there, y, backend=backend, **OPTIONS).x_adv.get(), expected.x_adv)
