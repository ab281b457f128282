"""Products whose rows do not depend on their neighbours.

cuBLAS chooses its kernel, and with it the order of additions, by the shape of a product.  So all products have the same
number of rows, filled up with zeros: a sample's bits depend neither on the batch nor on how it is split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pyfirstorder.problem import Array

# Rows of a product: enough to fill a GPU, and for one sample no more work than some tens of microseconds.
PRODUCT_ROWS = 1024


def product(rows: Array, matrix: Array) -> Array:
    """``rows @ matrix.T``, in products of ``PRODUCT_ROWS`` rows."""
    result = np.empty((len(rows), len(matrix)), dtype=rows.dtype, like=rows)
    for begin in range(0, len(rows), PRODUCT_ROWS):
        part = rows[begin : begin + PRODUCT_ROWS]
        count = len(part)
        if count < PRODUCT_ROWS:
            part = np.concatenate([part, np.zeros((PRODUCT_ROWS - count, part.shape[1]), dtype=part.dtype, like=part)])
        result[begin : begin + count] = (part @ matrix.T)[:count]
    return result
