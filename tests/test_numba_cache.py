"""The numba backend's compiled code on disk: never that of another signature, whatever other processes do."""

from __future__ import annotations

import pytest

pytest.importorskip("numba", reason="its backend needs numba")

from pyfirstorder.backends.numba.compilation import _KeyedCacheFile, entry_point


def test_a_lost_race_for_the_index_costs_a_file_and_mixes_none_up(tmp_path, monkeypatch):
    one, other = (_KeyedCacheFile(str(tmp_path), "entry", "stamp") for _ in range(2))
    one.save("float32", "code for float32")
    monkeypatch.setattr(other, "_load_index", dict)  # as read before the first was written
    other.save("float64", "code for float64")
    assert one.load("float64") == "code for float64"
    assert one.load("float32") in (None, "code for float32")


def test_a_process_that_is_killed_while_it_writes_leaves_no_wrong_entry(tmp_path, monkeypatch):
    cache = _KeyedCacheFile(str(tmp_path), "entry", "stamp")
    cache.save("float32", "code for float32")

    def die(*_):
        raise KeyboardInterrupt

    for step in ("_save_index", "_save_data"):
        with monkeypatch.context() as patch:
            patch.setattr(cache, step, die)
            with pytest.raises(KeyboardInterrupt):
                cache.save("float64", "code for float64")
        assert cache.load("float64") is None
        assert cache.load("float32") == "code for float32"


def test_entry_points_keep_their_code_so():
    assert type(entry_point(abs_of)._cache._cache_file) is _KeyedCacheFile


def abs_of(x):
    """Something to compile."""
    return abs(x)
