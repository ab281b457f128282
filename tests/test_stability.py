"""The bits of the native engine are those of the release before: nothing changes them unnoticed."""

from __future__ import annotations

import numpy as np
import pytest
import stability
from support import every_dtype

cpu = pytest.importorskip("pyfirstorder.backends.cpu", reason="the native engine is not installed")


@every_dtype
@pytest.mark.parametrize("isa", sorted(stability.stored()))
def test_the_engine_computes_the_bits_that_are_stored(isa, dtype):
    if isa not in cpu.supported_isas():
        pytest.skip(f"this processor does not support {isa}")
    expected = stability.stored()[isa][np.dtype(dtype).name]
    found = stability.digests(cpu.CpuBackend(isa), dtype)
    assert found.keys() == expected.keys(), "cases came or went: python tests/stability.py --store"
    changed = [name for name in found if found[name] != expected[name]]
    assert not changed, "other bits; if they are meant, say so in the changelog: python tests/stability.py --store"


def test_every_supported_instruction_set_that_has_no_other_name_is_stored():
    missing = set(cpu.supported_isas()) - set(stability.stored()) - {"neon"}  # no such machine has stored them yet
    assert not missing


def test_a_digest_sees_the_last_bit_of_one_number(monkeypatch):
    arrays = [stability.numbers(1, 3, 4), None, stability.numbers(2, 5).astype(np.float32)]
    monkeypatch.setattr(stability, "results", lambda *_: iter([("some", arrays)]))
    before = stability.digests(None, None)
    assert stability.digests(None, None) == before
    for changed in (arrays[0], arrays[2]):
        kept = changed.flat[-1]
        changed.flat[-1] = np.nextafter(kept, changed.dtype.type(2))
        assert stability.digests(None, None).keys() == before.keys()
        assert stability.digests(None, None) != before
        changed.flat[-1] = kept
    assert stability.digests(None, None) == before


def test_the_numbers_of_the_problems_are_exact_in_both_types_and_do_not_depend_on_how_many_there_are():
    numbers = stability.numbers(1, 100)
    assert len(set(numbers)) > 95
    assert (numbers.astype(np.float32) == numbers).all()
    assert (numbers[:5] == stability.numbers(1, 5)).all()
