"""What drop-in attacks say where they cannot stand in for the attack of another library: to use that one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyfirstorder.network import TwoLayerNetwork

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def instead(original: str) -> Iterator[None]:
    """What is refused within, of whatever argument, ends with the original to use for it."""
    words = f"use {original} for it"
    try:
        yield
    except (TypeError, ValueError) as error:
        if words in str(error):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{error}; {words}") from error


def refuse_network(name: str, model: object, wrapped: str) -> None:
    """Refuse a network of this library where a model of another one was expected, with what makes one of it."""
    if isinstance(model, TwoLayerNetwork):
        raise TypeError(
            f"{name}: expected a model of that library, got a TwoLayerNetwork; attack it with pyfirstorder.pgd or "
            f"apgd, or pass {wrapped}"
        )
