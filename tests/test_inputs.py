"""What may be passed: every layout and spelling, defaults, images, empty batches, and rows marked as not finite."""

from __future__ import annotations

import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from support import every_backend_name, every_backend_name_and_stand_in

import pyfirstorder as fo
from pyfirstorder import Status, backends, checks
from pyfirstorder.backends import gpu

NET = fo.TwoLayerNetwork(np.ones((3, 4)) * [[1.0], [-1.0], [0.5]], np.eye(3), activation="tanh")
SIGN_NET = fo.TwoLayerNetwork(np.eye(4), np.ones(4))
PAIR_NET = fo.TwoLayerNetwork(np.eye(2), np.eye(2))
X = np.linspace(0, 1, 20).reshape(5, 4)
Y = np.array([0, 1, 2, 0, 1])


def with_entry(array: np.ndarray, index, value) -> np.ndarray:
    changed = array.copy()
    changed[index] = value
    return changed


@pytest.mark.parametrize(
    ("spellings", "norm"),
    [
        (("linf", "Linf", "LINF", "inf", "infinity", np.inf, float("inf"), np.float32(np.inf)), "linf"),
        (("l2", "L2", "2", 2, 2.0, np.int64(2)), "l2"),
        (("l1", "L1", "1", 1, 1.0, np.float64(1)), "l1"),
    ],
)
def test_norms_may_be_spelled_in_every_usual_way(spellings, norm):
    expected = fo.project(X, eps=0.3, norm=norm)
    for spelling in spellings:
        np.testing.assert_array_equal(fo.project(X, eps=0.3, norm=spelling), expected)


def test_a_bound_of_minus_zero_is_a_bound_of_zero():
    for lower in (-0.0, 0.0, np.full(4, -0.0)):
        moved = fo.pgd(NET, X, Y, eps=1.0, bounds=(lower, 1), steps=3).x_adv
        assert not np.signbit(moved).any()


def strided(x: np.ndarray) -> np.ndarray:
    wide = np.full((2 * len(x), 2 * x.shape[1]), np.nan)
    wide[::2, ::2] = x
    return wide[::2, ::2]


def read_only(x: np.ndarray) -> np.ndarray:
    copy = x.copy()
    copy.flags.writeable = False
    return copy


LAYOUTS = {
    "read-only": read_only,
    "strided": strided,
    "reversed twice": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "Fortran order": np.asfortranarray,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "unaligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
    "nested lists": lambda x: x.tolist(),
    "a subclass": lambda x: x.view(np.ma.MaskedArray),
}


@every_backend_name
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_the_layout_of_x_makes_no_difference(backend_name, layout):
    expected = fo.pgd(NET, X, Y, eps=0.1, norm="l2", bounds=(-1, 2), backend=backend_name)
    x = LAYOUTS[layout](X)
    got = fo.pgd(NET, x, Y, eps=0.1, norm="l2", bounds=(-1, 2), x_init=LAYOUTS[layout](X), backend=backend_name)
    np.testing.assert_array_equal(got.x_adv, expected.x_adv)
    assert got.x_adv.dtype == np.float64
    assert got.x_adv.flags.c_contiguous


@every_backend_name
def test_a_broadcast_x_is_read_like_its_copy(backend_name):
    x = np.broadcast_to(X[:1], X.shape)
    got = fo.pgd(NET, x, Y, eps=0.1, backend=backend_name)
    np.testing.assert_array_equal(got.x_adv, fo.pgd(NET, x.copy(), Y, eps=0.1, backend=backend_name).x_adv)


@every_backend_name
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint64, ">i4"])
def test_labels_of_every_integer_type_are_understood(backend_name, kind):
    got = fo.pgd(NET, X, Y.astype(kind), eps=0.1, backend=backend_name)
    np.testing.assert_array_equal(got.x_adv, fo.pgd(NET, X, Y.tolist(), eps=0.1, backend=backend_name).x_adv)


@every_backend_name
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_images_come_back_in_their_own_shape_and_type(backend_name, kind):
    x = X.reshape(5, 1, 2, 2).astype(kind)
    result = fo.pgd(NET, x, Y, eps=0.1, keep="both", bounds=(np.zeros((1, 2, 2)), 1.0), backend=backend_name)
    assert result.x is x
    assert result.x_adv.shape == result.x_best.shape == result.delta.shape == x.shape
    assert result.x_adv.dtype == result.loss.dtype == result.output.dtype == kind
    loss, gradient = fo.input_gradient(NET, x, Y, backend=backend_name)
    assert gradient.shape == x.shape
    assert gradient.dtype == loss.dtype == kind


@every_backend_name
def test_an_empty_batch_gives_empty_results(backend_name):
    x, y = np.zeros((0, 2, 2), np.float32), np.zeros(0, int)
    result = fo.pgd(NET, x, y, eps=0.1, restarts=2, random_start=True, trace=True, backend=backend_name)
    assert result.x_adv.shape == (0, 2, 2)
    assert result.output.shape == (0, 3)
    assert result.trace.loss.shape == (0, 41)
    assert repr(result) == "AttackResult(0 samples, 0 successful, mean loss nan, 0 steps)"
    assert fo.forward(NET, x, backend=backend_name).shape == (0, 3)
    assert fo.predict(NET, x, backend=backend_name).shape == (0,)
    assert fo.project(x, eps=1.0, norm="l1", backend=backend_name).shape == (0, 2, 2)


@every_backend_name
def test_a_network_with_one_row_of_output_weights_gives_flat_outputs(backend_name):
    assert fo.forward(SIGN_NET, X, backend=backend_name).shape == (5,)
    result = fo.pgd(SIGN_NET, X, np.ones(5, int), eps=0.1, backend=backend_name)
    assert result.output.shape == (5,)
    np.testing.assert_array_equal(result.success, fo.predict(SIGN_NET, result.x_adv, backend=backend_name) != 1)


def test_the_default_loss_follows_the_targets():
    def loss_of(net, y, loss=None):
        return fo.input_gradient(net, X, y, loss=loss)[0]

    np.testing.assert_array_equal(loss_of(SIGN_NET, np.ones(5)), loss_of(SIGN_NET, np.ones(5), "squared"))
    np.testing.assert_array_equal(loss_of(SIGN_NET, np.ones(5, int)), loss_of(SIGN_NET, np.ones(5, int), "logistic"))
    np.testing.assert_array_equal(loss_of(NET, Y), loss_of(NET, Y, "cross_entropy"))


def test_the_default_step_size_is_two_and_a_half_radii_over_the_steps():
    default = fo.pgd(NET, X, Y, eps=0.2, steps=8)
    for spelled in ({"step_size": 2.5 * 0.2 / 8}, {"rel_step_size": 2.5 / 8}):
        np.testing.assert_array_equal(fo.pgd(NET, X, Y, eps=0.2, steps=8, **spelled).x_adv, default.x_adv)


@pytest.mark.parametrize(("norm", "direction"), [("linf", "sign"), ("l2", "normalized"), ("l1", "sparse")])
def test_the_default_direction_is_the_steepest_of_the_norm(norm, direction):
    default = fo.pgd(NET, X, Y, eps=0.2, norm=norm)
    np.testing.assert_array_equal(fo.pgd(NET, X, Y, eps=0.2, norm=norm, direction=direction).x_adv, default.x_adv)


@every_backend_name
@pytest.mark.parametrize("algorithm", [fo.pgd, fo.apgd], ids=["pgd", "apgd"])
def test_rows_that_are_not_finite_are_marked_and_leave_the_others_alone(backend_name, algorithm):
    x = with_entry(with_entry(X, (1, 2), np.nan), (4, 0), -np.inf)
    options = {"eps": 0.1, "bounds": (0.0, 1.0), "keep": "both", "trace": True, "random_start": True}
    marked = algorithm(NET, x, Y, on_invalid="mark", backend=backend_name, **options)
    clean = algorithm(NET, X, Y, backend=backend_name, **options)
    bad = np.array([False, True, False, False, True])
    np.testing.assert_array_equal(marked.x_adv[bad], x[bad])
    np.testing.assert_array_equal(marked.status == Status.INVALID_INPUT, bad)
    assert np.isnan(marked.loss[bad]).all()
    assert not marked.success[bad].any()
    assert (marked.steps[bad] == 0).all()
    np.testing.assert_array_equal(marked.x_adv[~bad], clean.x_adv[~bad])
    np.testing.assert_array_equal(marked.trace.loss[~bad], clean.trace.loss[~bad])


@every_backend_name
def test_zero_gradients_are_counted_and_warned_of_where_the_caller_stands(backend_name):
    dead = fo.TwoLayerNetwork(np.eye(4), np.eye(3, 4), hidden_bias=np.full(4, -10.0))
    with pytest.warns(fo.ZeroGradientWarning, match=r"the gradient of 5 of 5 attacked points was exactly zero") as seen:
        result = fo.pgd(dead, X, Y, eps=0.1, backend=backend_name)
    assert result.zero_gradient == 5
    assert seen[0].filename == __file__


@every_backend_name
def test_a_bound_that_the_type_cannot_hold_keeps_points_inside_of_it(backend_name):
    x = np.full((1, 2), 0.5, np.float32)
    end = fo.pgd(PAIR_NET, x, np.array([0]), eps=5.0, bounds=(0.1, 0.7), backend=backend_name).x_adv
    assert (end.astype(np.float64) >= 0.1).all()
    assert (end.astype(np.float64) <= 0.7).all()


@every_backend_name
def test_the_start_of_a_marked_row_is_not_looked_at(backend_name):
    x = with_entry(with_entry(X, (1, 2), np.nan), (4, 0), -np.inf)
    options = {"eps": 0.1, "steps": 3, "backend": backend_name}
    marked = fo.pgd(NET, x, Y, x_init=x, on_invalid="mark", **options)
    good = [0, 2, 3]
    np.testing.assert_array_equal(marked.x_adv[good], fo.pgd(NET, X, Y, x_init=X, **options).x_adv[good])
    assert np.isnan(marked.delta[[1, 4]]).any(axis=1).all()


@every_backend_name_and_stand_in
def test_a_loss_that_overflows_is_counted_and_warned_of_where_the_caller_stands(backend_name):
    steep = fo.TwoLayerNetwork(np.eye(4), np.eye(4) * 1e200)
    x = with_entry(np.ones((2, 4)), (1, slice(None)), 1e-250)
    with pytest.warns(fo.NotFiniteWarning, match="the loss or gradient of 1 of 2 attacked points") as seen:
        result = fo.pgd(steep, x, np.zeros((2, 4)), eps=1e-300, loss="squared", backend=backend_name)
    assert result.not_finite == 1
    assert result.status[0] == Status.NOT_FINITE
    assert seen[0].filename == __file__


def test_an_array_whose_mask_hides_nothing_is_read_like_any_other():
    x = np.ma.masked_array(X, mask=np.zeros_like(X, bool))
    np.testing.assert_array_equal(fo.forward(NET, x), fo.forward(NET, X))


def test_doing_without_the_native_engine_is_said_where_the_caller_stands(monkeypatch):
    missing = dict.fromkeys(("cpu", "numba"), ImportError("no engine"))
    monkeypatch.setattr(backends, "_loaded", missing)
    monkeypatch.setattr(backends, "_warned_of", set())
    net, x = fo.TwoLayerNetwork(np.eye(2), np.eye(2)), np.ones((1, 2))
    for call in (fo.predict, fo.forward):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            call(net, x)
        assert [warning.filename for warning in seen] == ([__file__] if call is fo.predict else [])
    backends._warned_of.clear()
    with pytest.warns(UserWarning, match="'numba' backend, which takes up to a minute to compile") as seen:
        backends._warn_of_slow(SimpleNamespace(name="numba"))


def test_numbers_across_the_boundaries_of_their_type_are_read_aligned():
    packed = np.zeros(5, np.dtype([("flag", "u1"), ("x", "f4", 3), ("y", "i8")]))
    packed["x"], packed["y"] = np.arange(15).reshape(5, 3), np.arange(5) % 2
    assert not packed["x"].flags.aligned
    assert not packed["y"].flags.aligned
    for name in ("x", "y"):
        read = checks.array(name, packed[name])
        assert read.flags.aligned
        assert_array_equal(read, packed[name])


def test_the_configuration_is_shown_as_lines_and_read_by_names():
    config = fo.show_config()
    assert str(config) == repr(config) == "\n".join(f"{name}: {fact}" for name, fact in config.items())
    assert f"\nbackend reference: {config['backend reference']}\n" in str(config)
    assert dict(config) == {**config}


def test_a_missing_library_of_a_gpu_is_said_in_plain_words(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r'^CuPy is not installed: pip install "pyfirstorder\[cupy\]", or '):
        gpu.cupy_with_gpu()


def test_a_library_of_a_gpu_that_does_not_load_says_why(monkeypatch, tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError('libcuda.so.1 is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    with pytest.raises(ImportError, match=r"^CuPy does not load \(libcuda.so.1 is missing\): pip install "):
        gpu.cupy_with_gpu()
