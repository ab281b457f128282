"""Choices read from bytes: a fuzzer's, Hypothesis's or those of a file.  Where they end, every choice is the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Choices:
    """A reader of bytes."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def below(self, count: int) -> int:
        value, most = 0, 1
        while most < count:
            value, most = value << 8 | self._next(), most << 8
        return value % count

    def flag(self) -> bool:
        return bool(self.below(2))

    def one_of(self, options: Sequence[Any]) -> Any:
        return options[self.below(len(options))]

    def some(self, count: int) -> bytes:
        return bytes(self._next() for _ in range(count))

    def rest(self) -> bytes:
        rest, self._at = self._data[self._at :], len(self._data)
        return rest

    def _next(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0
