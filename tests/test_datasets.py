"""Data sets: bundled digits, files, held-out parts."""

from __future__ import annotations

import numpy as np
import pytest

from pyfirstorder import datasets, files


@pytest.mark.parametrize(("name", "features", "shape"), [("mnist", 784, (28, 28)), ("digits", 64, (8, 8))])
def test_bundled_digits_are_images_between_zero_and_one(name, features, shape):
    digits = datasets.load(name)
    assert digits.features == features
    assert digits.image_shape == shape
    assert digits.x.dtype == np.float32
    assert (digits.x.min(), digits.x.max()) == (0, 1)
    assert set(digits.y) == set(range(10))


def test_a_file_of_arrays_is_read_as_it_was_written(tmp_path):
    x, y = np.random.default_rng(0).random((5, 3)), np.arange(5) % 2
    np.savez(tmp_path / "data.npz", x=x, y=y)
    data = datasets.load(tmp_path / "data.npz")
    np.testing.assert_array_equal(data.x, x.astype(np.float32))
    np.testing.assert_array_equal(data.y, y)


def test_integer_images_are_scaled_to_one(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.array([[0, 255]], np.uint8), y=np.array([0]))
    np.testing.assert_array_equal(datasets.load(tmp_path / "data.npz").x, np.array([[0, 1]], np.float32))


def test_a_npy_file_stays_on_disk(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((6, 4), dtype=np.float32))
    np.save(tmp_path / "y.npy", np.zeros(6, np.int64))
    data = datasets.load(tmp_path / "x.npy", tmp_path / "y.npy")
    assert data.on_disk
    assert data.block(2, 4)[0].shape == (2, 4)


def test_the_parts_of_a_split_are_the_whole_and_depend_on_the_seed_alone():
    digits = datasets.load("digits")
    train, held_out = datasets.split(digits, 0.2, seed=1)
    again = datasets.split(digits, 0.2, seed=1)[1]
    other = datasets.split(digits, 0.2, seed=2)[1]
    rows = np.sort(np.concatenate([np.arange(len(digits))[np.asarray(part.rows)] for part in (train, held_out)]))
    np.testing.assert_array_equal(rows, np.arange(len(digits)))
    np.testing.assert_array_equal(held_out.x, again.x)
    assert not np.array_equal(held_out.x, other.x)


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.array([{}], dtype=object), y=np.array([0]))
    with pytest.raises(ValueError, match="allow_pickle"):
        datasets.load(tmp_path / "data.npz")


def test_an_unknown_name_says_what_is_known():
    with pytest.raises(ValueError, match="mnist"):
        datasets.load("nothing")


def test_a_file_that_fails_to_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")

    def fail():
        with files.written_at_once(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["result"]


@pytest.mark.parametrize("kind", ["<u2", ">u2"])
def test_images_of_either_byte_order_are_scaled_to_one(tmp_path, kind):
    np.savez(tmp_path / "data.npz", x=np.array([[0, 65535]], kind), y=np.array([0]))
    np.testing.assert_array_equal(datasets.load(tmp_path / "data.npz").x, np.array([[0, 1]], np.float32))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8])
def test_callers_cannot_change_the_data_set(tmp_path, kind):
    np.savez(tmp_path / "data.npz", x=np.ones((4, 3), kind), y=np.arange(4))
    data = datasets.load(tmp_path / "data.npz")
    for array in (*data.block(0, 2), data.x, data.y):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7


def test_numbers_beyond_float32_are_refused_with_their_row(tmp_path):
    x = np.ones((4, 3))
    x[2, 1] = 1e39
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(4))
    data = datasets.load(tmp_path / "data.npz")
    assert data.block(0, 2)[0].shape == (2, 3)
    with pytest.raises(ValueError, match="expected numbers of x that float32 can hold, got larger ones in row 2"):
        data.block(1, 4)


X, Y = np.ones((4, 3)), np.arange(4)


@pytest.mark.parametrize(
    ("arrays", "pattern"),
    [
        ({"x": X, "y": Y.astype(np.uint64) + 2**63}, "expected y to hold classes of at most 9223372036854775807"),
        ({"x": X, "y": np.array(list("abcd"))}, "expected y to hold integer classes, got <U1"),
        ({"x": X.astype(str), "y": Y}, "expected x of a floating type"),
        ({"x": X, "y": Y[:2]}, "expected y of shape"),
        ({"x": X}, "no array named y; it has x"),
        ({"images": X}, "no array named x or y; it has images"),
    ],
)
def test_a_file_of_other_arrays_is_refused_by_name(tmp_path, arrays, pattern):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(ValueError, match=rf"data\.npz: {pattern}"):
        datasets.load(tmp_path / "data.npz")


def archive(path) -> bytes:
    np.savez(path, x=X, y=Y)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "of the other kind"])
def test_a_damaged_file_is_refused_by_name(tmp_path, suffix, damage):
    np.save(tmp_path / "good.npy", X)
    array, several = (tmp_path / "good.npy").read_bytes(), archive(tmp_path / "good.npz")
    own, other = (array, several) if suffix == ".npy" else (several, array)
    contents = {"empty": b"", "text": b"data", "truncated": own[:100], "of the other kind": other}
    path = tmp_path / f"data{suffix}"
    path.write_bytes(contents[damage])
    with pytest.raises(ValueError, match=rf"data\{suffix}: expected a whole \{suffix} file"):
        datasets.load(path, None if suffix == ".npz" else tmp_path / "good.npy")
    if suffix == ".npy":
        with pytest.raises(ValueError, match=r"data\.npy: expected a whole \.npy file"):
            datasets.load(tmp_path / "good.npy", path)


def test_an_empty_data_set_can_be_split(tmp_path):
    np.savez(tmp_path / "data.npz", x=X[:0], y=Y[:0])
    parts = datasets.split(datasets.load(tmp_path / "data.npz"), 0.5)
    assert [part.x.shape for part in parts] == [(0, 3), (0, 3)]


@pytest.mark.parametrize(
    ("held_out", "seed", "error", "pattern"),
    [
        ("a", 0, TypeError, "held_out: expected a number, got 'a'"),
        (1.5, 0, ValueError, "held_out: .*got 1.5"),
        (0.5, -1, ValueError, "seed: .*got -1"),
    ],
)
def test_a_split_refuses(held_out, seed, error, pattern):
    with pytest.raises(error, match=pattern):
        datasets.split(datasets.load("digits"), held_out, seed)
