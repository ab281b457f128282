"""Data sets: bundled digits, files, held-out parts."""

from __future__ import annotations

import numpy as np
import pytest

from pyfirstorder import datasets


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
        with datasets.written_at_once(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["result"]
