"""What is trained on: samples as rows of one floating type, and what their targets mean."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfirstorder import checks, validate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

TRAINING_LOSSES = ("cross_entropy", "squared", "logistic")
_MOST = 2**31 - 1


class Targets:
    """What y means: classes, signs or numbers, and how many outputs they need."""

    def __init__(
        self, y: ArrayLike, samples: int, loss: str, out_features: int | None, network: TwoLayerNetwork | None
    ) -> None:
        array = checks.array("y", y)
        if array.dtype.kind not in "iuf":
            hint = "; turn them into classes with y.astype(int)" if array.dtype.kind == "b" else ""
            raise TypeError(f"y: expected integer classes or floating-point numbers, got {checks.describe(y)}{hint}")
        self.loss = checks.choice("loss", loss, TRAINING_LOSSES)
        if array.ndim not in (1, 2) or len(array) != samples:
            raise ValueError(f"y: expected {samples} targets, one per sample, got shape {array.shape}")
        self.has_signs = loss == "logistic"  # which validate.objective checks
        has_classes = array.dtype.kind in "iu" and not self.has_signs
        if has_classes and array.ndim != 1:
            raise ValueError(f"y: expected class indices of shape ({samples},), got shape {array.shape}")
        if has_classes and array.min() < 0:
            raise ValueError(f"y: expected class indices from 0 on, got {array.min()} first in row {array.argmin()}")
        needed = max(2, int(array.max()) + 1) if has_classes else int(np.atleast_2d(array.T).shape[0])
        self.out_features = _outputs(needed, out_features, network)
        self.scalar_output = not has_classes and array.ndim == 1 if network is None else network.scalar_output
        self.labels = array if has_classes or self.has_signs else None  # what a prediction should be
        self.values = array
        if has_classes and loss == "squared":
            self.values = (np.arange(self.out_features) == array[:, None]).astype(np.float32)
        if self.has_signs and array.ndim == 2:
            self.labels = array[:, 0]

    def correct(self, output: Array, batch: Array) -> int:
        """How many of a mini-batch have the output that they should have."""
        if self.labels is None:
            return 0
        labels = self.labels[batch]
        right = (output[:, 0] > 0) == (labels > 0) if self.has_signs else np.argmax(output, axis=1) == labels
        return int(np.count_nonzero(right))


def _outputs(needed: int, asked: int | None, network: TwoLayerNetwork | None) -> int:
    """k, which the targets need, the caller asks for or a network has."""
    if network is not None:
        if asked is not None and checks.integer("out_features", asked, 1, _MOST) != network.out_features:
            raise ValueError(f"out_features: expected None or the {network.out_features} of network, got {asked}")
        if network.out_features < needed:
            raise ValueError(f"network: expected at least the {needed} outputs that y needs, got {network!r}")
        return network.out_features
    found = needed if asked is None else checks.integer("out_features", asked, 1, _MOST)
    if found < needed:
        raise ValueError(f"out_features: expected at least the {needed} that y needs, got {asked}")
    return found


def rows_of(name: str, x: Array, dtype: np.dtype[Any]) -> Array:
    """The samples as rows of that type."""
    array = validate.floats(name, x)
    if array.ndim < 2 or not array.size:
        raise ValueError(f"{name}: expected shape (samples, ...) with at least one sample, got {array.shape}")
    given = validate.points(name, array, math.prod(array.shape[1:])).rows
    with np.errstate(over="ignore"):
        rows = given.astype(dtype, copy=False)
    beyond = np.isinf(rows).any(axis=1)
    if beyond.any():
        raise ValueError(f"{name}: expected numbers that {dtype} can hold, got larger ones in row {np.argmax(beyond)}")
    return rows
