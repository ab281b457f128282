"""Hostile calls and files: an error that names an argument, or an answer that keeps the library's promises.

What a call or a file is, is decoded from bytes (`fuzz.calls`, `fuzz.files`): Hypothesis draws them here, a
coverage-guided fuzzer by ``make fuzz-python``, and those that once found something lie in tests/corpus.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fuzz import calls, contents, files
from fuzz.values import LAYOUTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pyfirstorder as fo
from pyfirstorder import datasets
from pyfirstorder.files import read_npy

CORPUS = Path(__file__).parent / "corpus"
NET = fo.TwoLayerNetwork(np.eye(3, 2, dtype=np.float32), np.eye(2, 3, dtype=np.float32), np.full(3, 2, np.float32))
# The same examples every time: new ones are the fuzzer's to find.
explore = settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@given(st.binary(min_size=60, max_size=120))
@explore
def test_a_hostile_call_is_refused_by_name_or_answered_with_all_promises_kept(data):
    calls.check(data)


@given(st.binary(min_size=20, max_size=120))
@explore
def test_a_hostile_file_is_refused_with_a_word_or_read_whole(data):
    pytest.importorskip("onnx")
    pytest.importorskip("safetensors")
    files.check(data)


@pytest.mark.parametrize("path", sorted((CORPUS / "calls").iterdir()), ids=lambda path: path.name)
def test_a_call_that_once_went_wrong_goes_right(path):
    calls.check(path.read_bytes())


@pytest.mark.parametrize("path", sorted((CORPUS / "files").iterdir()), ids=lambda path: path.name)
def test_a_file_that_once_went_wrong_goes_right(path, tmp_path):
    if path.suffix == ".onnx":
        pytest.importorskip("onnx")
    assert files.check_file(f"network{path.suffix}", path) == "refused"


# ------------------------------------------------------------------ layouts


@pytest.mark.parametrize("backend", ["cpu", "numba", "reference"])
@pytest.mark.parametrize("layout", range(len(LAYOUTS)))
def test_the_layout_of_an_array_changes_no_bit(backend, layout):
    if fo.available_backends()[backend] != "available":
        pytest.skip(f"backend {backend}: {fo.available_backends()[backend]}")
    x = np.linspace(-1, 1, 10, dtype=np.float32).reshape(5, 2)
    y, radius = np.array([0, 1, 0, 1, 1]), np.linspace(0, 1, 5)
    options = {"norm": "l2", "steps": 3, "backend": backend, "bounds": (-1, 1)}
    plain = fo.pgd(NET, x, y, eps=radius, **options)
    other = fo.pgd(NET, LAYOUTS[layout](x), LAYOUTS[layout](y), eps=LAYOUTS[layout](radius), **options)
    np.testing.assert_array_equal(other.x_adv, plain.x_adv)
    np.testing.assert_array_equal(other.loss, plain.loss)


# ------------------------------------------------------------------ the ends of a type


@pytest.mark.parametrize("backend", ["cpu", "numba", "reference"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_a_start_at_the_other_end_of_the_type_is_brought_into_the_ball(backend, dtype, norm):
    if fo.available_backends()[backend] != "available":
        pytest.skip(f"backend {backend}: {fo.available_backends()[backend]}")
    largest = np.finfo(dtype).max
    x = np.array([[largest, 0], [-largest, 1]], dtype)
    net = fo.TwoLayerNetwork(np.eye(2) * 1e-30, np.eye(2), activation="tanh")
    result = fo.pgd(net, x, np.zeros(2, int), eps=0.5, x_init=-x, norm=norm, steps=0, backend=backend)
    delta = result.x_adv.astype(np.float64) - x
    assert (np.abs(delta).sum(axis=1) <= 0.5).all()


@pytest.mark.parametrize("backend", ["cpu", "numba", "reference"])
@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_points_whose_norm_float64_cannot_hold_are_projected_onto_the_ball(backend, norm):
    if fo.available_backends()[backend] != "available":
        pytest.skip(f"backend {backend}: {fo.available_backends()[backend]}")
    delta = np.full((2, 4), 1.7e308)
    moved = fo.project(delta, eps=np.array([1e308, 1e3]), norm=norm, backend=backend)
    share = {"l2": 0.5, "l1": 0.25}[norm]
    np.testing.assert_allclose(moved, [[1e308 * share] * 4, [1e3 * share] * 4], rtol=1e-12)


@pytest.mark.parametrize("backend", ["cpu", "numba", "reference"])
@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("start", ["ball", "sphere"])
def test_a_random_start_fits_the_largest_radius(backend, norm, start):
    if fo.available_backends()[backend] != "available":
        pytest.skip(f"backend {backend}: {fo.available_backends()[backend]}")
    net = fo.TwoLayerNetwork(np.eye(2) * 1e-300, np.eye(2), activation="tanh")
    x, y = np.zeros((50, 2)), np.zeros(50, int)
    options = {"norm": norm, "steps": 0, "step_size": 1.0, "random_start": start, "backend": backend}
    large = fo.pgd(net, x, y, eps=2.0**1023, **options).x_adv
    usual = fo.pgd(net, x, y, eps=1.0, **options).x_adv
    np.testing.assert_allclose(large * 2.0**-1023, usual, rtol=1e-12)


# ------------------------------------------------------------------ more than there is memory for


@pytest.mark.parametrize("count", [2**31, 2**32, 2**40, 2**60 - 1])  # the last: just below 2^63 bytes, NumPy's most
@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory as Linux does")
def test_views_larger_than_memory_are_a_memory_error_that_names_the_argument(count):
    script = f"""
import resource, numpy as np, pyfirstorder as fo
resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
net = fo.TwoLayerNetwork(np.ones((3, 2), np.float32), np.ones((2, 3), np.float32))
x, y = np.broadcast_to(np.float32(0), ({count}, 2)), np.broadcast_to(np.int64(0), {count})
calls = {{
    "x": lambda: fo.pgd(net, x, y, eps=0.1),
    "delta": lambda: fo.project(x, eps=0.1),
    "hidden_weight": lambda: fo.TwoLayerNetwork(x, np.ones({2**16}, np.float32)[None]),
}}
for name, call in calls.items():
    try:
        call()
    except MemoryError as error:
        assert str(error).startswith(name + ": "), error
    else:
        raise AssertionError(name)
"""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=120)


@pytest.mark.parametrize("options", ["early_stop=True", "evaluation='hidden', norm='l2'", ""])
@pytest.mark.skipif(sys.platform != "linux", reason="counts its memory as Linux does")
def test_restarts_larger_than_memory_take_none_before_they_are_run(tmp_path, options):
    if fo.available_backends()["cpu"] != "available":
        pytest.skip("the native engine is not installed")
    script = f"""
import signal, numpy as np, pyfirstorder as fo
class Ring(BaseException): pass
def ring(*_): raise Ring
net = fo.TwoLayerNetwork(np.eye(20, dtype=np.float32), np.eye(20, dtype=np.float32), activation="tanh")
x, y = np.zeros((1, 20), np.float32), np.zeros(1, int)
signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.5)
try:
    fo.pgd(net, x, y, eps=1e-3, steps=50, restarts=2**31 - 1, random_start=True, backend="cpu", {options})
except (Ring, MemoryError):
    pass
else:
    raise AssertionError("two billion attacks")
(peak,) = (int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
assert peak < 2**21, f"{{peak}} KiB"
"""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, cwd=tmp_path, timeout=120)


# ------------------------------------------------------------------ files


def test_a_data_file_whose_elements_are_arrays_is_refused(tmp_path):
    path = tmp_path / "x.npy"
    nested = {"descr": "(3,)<f4", "fortran_order": False, "shape": (3, 0)}
    for write in (np.lib.format.write_array_header_1_0, np.lib.format.write_array_header_2_0):
        with open(path, "wb") as file:
            write(file, nested)
        for mapped in (False, True):
            with pytest.raises(ValueError, match=r"x\.npy.*elements that are arrays"):
                read_npy(path, mapped)


class _RunsWhenRead:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize("inside", ["array", "file"])
def test_no_pickled_object_is_read(tmp_path, monkeypatch, inside):
    monkeypatch.chdir(tmp_path)
    for name in ("net.npz", "x.npy"):
        objects = np.array([[_RunsWhenRead()]], object)
        if inside == "file":
            Path(name).write_bytes(pickle.dumps(_RunsWhenRead()))
        elif name == "net.npz":
            np.savez(name, hidden_weight=objects, output_weight=objects)
        else:
            np.save(name, objects, allow_pickle=True)
    with pytest.raises(ValueError, match=r"net\.npz"):
        fo.load_network("net.npz")
    with pytest.raises(ValueError, match=r"x\.npy"):
        datasets.load("x.npy", "x.npy")
    assert not Path("ran").exists()


def test_gigabytes_packed_into_next_to_nothing_are_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("pyfirstorder.files._LARGE", 2**20)  # where a gigabyte would take seconds to pack
    path = tmp_path / "net.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("hidden_weight.npy", "w") as member:
            np.save(member, np.zeros((2, 2**18), np.float32))
        with archive.open("output_weight.npy", "w") as member:
            np.save(member, np.ones((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"net\.npz: .*hidden_weight\.npy would unpack \d+ bytes to 2097280"):
        fo.load_network(path)


@pytest.mark.parametrize("kind", ["Loop", "ConstantOfShape", "Expand"])
def test_a_shape_that_takes_any_time_or_memory_is_not_computed(tmp_path, kind):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    number = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["more"], ["again"])],
        "body",
        [number("i", TensorProto.INT64, []), number("more", TensorProto.BOOL, [])],
        [number("again", TensorProto.BOOL, [])],
    )
    maker = {
        "Loop": helper.make_node("Loop", ["", ""], ["shape"], body=body),
        "ConstantOfShape": helper.make_node("ConstantOfShape", ["n"], ["shape"]),
        "Expand": helper.make_node("Expand", ["n", "n"], ["shape"]),
    }[kind]
    layers = [("Gemm", ["flat", "w"], "h"), ("Relu", ["h"], "u"), ("Gemm", ["u", "a"], "z")]
    nodes = [maker, helper.make_node("Reshape", ["x", "shape"], ["flat"])]
    nodes += [
        helper.make_node(name, given, [to], **({"transB": 1} if name == "Gemm" else {})) for name, given, to in layers
    ]
    constants = {"w": NET.hidden_weight, "a": NET.output_weight, "n": np.array([2**40])}
    graph = helper.make_graph(
        nodes,
        "hostile",
        [number("x", TensorProto.FLOAT, [None, 2])],
        [number("z", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(part), name) for name, part in constants.items()],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    with pytest.raises(ValueError, match=rf"node 0 \({kind}\): expected a shape of few numbers"):
        fo.load_network(path)


def test_weights_beside_an_onnx_file_are_read_from_its_own_folder_alone(tmp_path):
    onnx = pytest.importorskip("onnx")
    (tmp_path / "secret").write_bytes(np.ones((3, 2), np.float32).tobytes())
    model = onnx.load_model_from_string(files.whole("network.onnx"))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    folder = tmp_path / "folder"
    folder.mkdir()
    for place in ("../secret", str(tmp_path / "secret")):
        entry.key, entry.value = "location", place
        (folder / "net.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ValueError, match=r"net\.onnx"):
            fo.load_network(folder / "net.onnx")


@pytest.mark.parametrize("kind", files.KINDS)
def test_a_changed_byte_is_refused_or_changes_what_it_stands_for_alone(kind, tmp_path):
    if kind in ("network.safetensors", "network.onnx"):
        pytest.importorskip(kind.rpartition(".")[2])
    whole, path = files.whole(kind), tmp_path / f"changed.{kind.rpartition('.')[2]}"
    answered = 0
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= (1, 0x80, 0xFF)[place % 3]
        path.write_bytes(changed)
        if files.check_file(kind, path) == "answered":
            answered += 1
            if kind == "network.npz":  # its checksums know the numbers that were saved
                contents.require_network(fo.load_network(path), kind, whole)
    assert answered


@pytest.mark.parametrize("name", ["hidden_weight", "hidden_bias", "output_weight", "output_bias", "activation"])
@pytest.mark.parametrize("kind", ["network.npz", "network.safetensors", "network.onnx"])
def test_a_wrong_number_read_from_a_file_is_noticed(kind, name, tmp_path, monkeypatch):
    if kind != "network.npz":
        pytest.importorskip(kind.rpartition(".")[2])
    path = tmp_path / kind
    path.write_bytes(files.whole(kind))
    assert files.check_file(kind, path) == "answered"
    net = fo.load_network(path)
    parts = {part: getattr(net, part) for part in ("hidden_weight", "output_weight", "hidden_bias", "output_bias")}
    parts |= {"activation": net.activation}
    parts[name] = "softplus" if name == "activation" else np.nextafter(parts[name], np.float32(9), dtype=np.float32)
    monkeypatch.setattr(fo, "load_network", lambda path: fo.TwoLayerNetwork(**parts))
    with pytest.raises(AssertionError, match=name if name != "activation" else "softplus"):
        files.check_file(kind, path)


@pytest.mark.parametrize("kind", ["data.npz", "data.npy"])
@pytest.mark.parametrize("part", [0, 1])
def test_a_wrong_sample_read_from_a_file_is_noticed(kind, part, tmp_path, monkeypatch):
    path = tmp_path / kind
    path.write_bytes(files.whole(kind))
    right = datasets.Dataset.block

    def wrong(self, begin, end):
        block = list(right(self, begin, end))
        block[part] = block[part][::-1]
        return block

    monkeypatch.setattr(datasets.Dataset, "block", wrong)
    with pytest.raises(AssertionError):
        files.check_file(kind, path)


def test_a_part_of_an_archive_under_another_name_is_not_taken_for_missing(tmp_path):
    path = tmp_path / "net.npz"
    fo.TwoLayerNetwork(np.eye(2), np.eye(2), np.ones(2)).save(path)
    content = path.read_bytes()
    at = content.rindex(b"hidden_bias")  # in the directory at the end
    path.write_bytes(content[:at] + b"Hidden_bias" + content[at + 11 :])
    with pytest.raises(ValueError, match=r"net\.npz: expected a whole \.npz file.*Hidden_bias"):
        fo.load_network(path)


def test_a_directory_that_skips_a_part_of_an_archive_is_refused(tmp_path):
    path = tmp_path / "net.npz"
    fo.TwoLayerNetwork(np.eye(2), np.eye(2), activation="tanh").save(path)
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02", 0, content.rindex(b"PK\x01\x02"))  # the entry before that of the activation
    content[at + 32] = 200  # the length of a comment on that part
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"net\.npz: expected a whole \.npz file of numbers: its directory is damaged"):
        fo.load_network(path)
