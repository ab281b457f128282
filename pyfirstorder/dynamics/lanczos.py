"""Eigenvalues of a symmetric operator that is only multiplied with vectors: Lanczos' method (ARPACK, by SciPy).

ARPACK stops when a residual is small beside the eigenvalue that it belongs to.  One at or near zero, such as that of a
point where the loss is flat in some direction, never gets there; so what ARPACK sees is shifted by a bound of all
magnitudes, and eigenvalues come to a share of that bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfirstorder.problem import Array

MOST_DENSE = 2048  # rows of a matrix whose eigenvalues are found directly: some 10 s and 100 MB on a core
ACCURACY = 1e-12  # of the bound of the magnitudes; rounding of the products alone is some 1e-15 of it
ZERO = 1e-10  # of the bound: what may be rounding
_SEED = 0  # of the starting vector: the same figures in every call


def largest(product: Callable[[Array], Array], size: int, count: int, magnitude: float, normal: Array | None) -> Array:
    """The ``count`` algebraically largest eigenvalues, ascending, of an operator whose eigenvalues are at most
    ``magnitude`` in size; the start is orthogonal to ``normal``.
    """

    def shifted(vector: Array) -> Array:
        return product(vector) + magnitude * vector

    return _eigsh(shifted, size, count, "LA", ACCURACY, normal)[0] - magnitude


def largest_in_magnitude(product: Callable[[Array], Array], size: int, count: int) -> tuple[Array, Array]:
    """The ``count`` eigenvalues of largest magnitude, and their eigenvectors as columns."""
    return _eigsh(product, size, count, "LM", 0.0, None)


def _eigsh(
    product: Callable[[Array], Array], size: int, count: int, which: str, tol: float, normal: Array | None
) -> tuple[Array, Array]:
    try:
        from scipy.sparse.linalg import LinearOperator, eigsh
    except ImportError:
        raise ImportError(
            'eigenvalues by Lanczos need scipy, which is not installed; run: pip install "pyfirstorder[lab]"'
        ) from None
    start = np.random.default_rng(_SEED).standard_normal(size)
    if normal is not None:
        start -= (normal @ start) * normal
    operator: Any = LinearOperator((size, size), matvec=product, dtype=np.float64)
    values, vectors = eigsh(operator, k=count, which=which, v0=start, tol=tol)
    order = np.argsort(values)
    return values[order], vectors[:, order]
