"""The input Hessian of the loss, ``∇²L = Wᵀ [diag(σ''(h) ⊙ Aᵀr) + Sᵀ R S] W``, S = A diag(σ'(h)), and its eigenvalues.

r and R are the loss's first and second derivatives in the output.  The Hessian is ``Fᵀ M F`` with M in the middle:
F = W (m, d) in general, and F = S W (k, d), M = R, for piecewise-linear σ, whose σ'' is zero wherever it exists; the
Hessian is then that of the linear region that the point lies in.  So its eigenvalues are those of the d × d matrix or,
with ``Fᵀ = Q T`` (Q orthonormal columns), of ``T M Tᵀ`` and d - rows(F) zeros: of the smaller of both problems.  Where
even that is large, the largest are found by Lanczos' method (scipy), with F's products as the only use of F.

Everything is float64, whatever the type of the points: second derivatives of float32 are too rough for a verdict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyfirstorder import backends, validate
from pyfirstorder.attacks import make_objective
from pyfirstorder.dynamics import lanczos
from pyfirstorder.dynamics.curvature import blocks
from pyfirstorder.interrupts import of_matrix
from pyfirstorder.problem import PIECEWISE_LINEAR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike

    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array


class InputHessian(NamedTuple):
    """``Fᵀ M F`` at one point, M = diag(unit_curvature) + Sᵀ R S."""

    factor: Array  # F (r, d)
    unit_curvature: Array  # (r,)
    signal: Array  # S (k, r)
    output_hessian: Array  # R (k, k)
    magnitude: float  # a bound of the magnitudes of the eigenvalues
    multiply: Callable[[Array, Array], Array]
    kept: dict[str, Any]  # what is derived from F alone, shared by points with the same F

    def times(self, u: Array) -> Array:
        """The products (n, d) of the Hessian with rows u (n, d).

        F stands on the left, because u has few rows and the engine packs what stands on the right.
        """
        if "transposed" not in self.kept:
            self.kept["transposed"] = np.ascontiguousarray(self.factor.T)
        q = self.multiply(self.factor, u.T).T
        back = self.unit_curvature * q + ((q @ self.signal.T) @ self.output_hessian) @ self.signal
        return self.multiply(self.kept["transposed"], back.T).T

    def dense(self) -> Array:
        """The Hessian itself, (d, d)."""
        return self._seen_from(self.factor.T)

    def eigenvalues(self, count: int) -> Array:
        """The ``count`` algebraically largest eigenvalues, in descending order."""
        rows, d = self.factor.shape
        if min(rows, d) > lanczos.MOST_DENSE and count < d:
            return self._largest(count)
        if d <= rows:
            values = of_matrix(np.linalg.eigvalsh, self.dense())
        else:
            values = np.concatenate((of_matrix(np.linalg.eigvalsh, self._reduced()[0]), np.zeros(d - rows)))
        return np.sort(values)[::-1][:count]

    def largest_in_magnitude(self, count: int) -> tuple[Array, Array]:
        """The ``count`` eigenvalues of largest magnitude, the largest first, and their eigenvectors as rows."""
        rows, d = self.factor.shape
        if min(rows, d) > lanczos.MOST_DENSE:
            values, vectors = lanczos.largest_in_magnitude(self._product, d, count)
        elif d <= rows:
            values, vectors = of_matrix(np.linalg.eigh, self.dense())
        else:
            reduced, basis = self._reduced()
            values, vectors = of_matrix(np.linalg.eigh, reduced)
            vectors = basis @ vectors
            if rows < count:  # the rest of the space, in which the loss has no curvature
                values, vectors = np.pad(values, (0, count - rows)), np.pad(vectors, ((0, 0), (0, count - rows)))
        order = np.argsort(-np.abs(values), kind="stable")[:count]
        return values[order], np.ascontiguousarray(vectors[:, order].T)

    def _reduced(self) -> tuple[Array, Array]:
        """``T M Tᵀ`` (r, r) and Q (d, r), for r < d."""
        if "qr" not in self.kept:
            self.kept["qr"] = of_matrix(np.linalg.qr, self.factor.T)
        basis, triangle = self.kept["qr"]
        return self._seen_from(triangle), basis

    def _seen_from(self, sides: Array) -> Array:
        """``G M Gᵀ`` for G (n, r): the part of the activation, and that of the loss, of rank k."""
        through = self.multiply(sides, self.signal.T)
        made = self.multiply(sides * self.unit_curvature, sides.T) + (through @ self.output_hessian) @ through.T
        return 0.5 * (made + made.T)  # products round the two halves differently

    def _largest(self, count: int) -> Array:
        """By Lanczos, which sees an eigenvalue once however often it is there: zeros are known to be d - rows(F)."""
        rows, d = self.factor.shape
        found = lanczos.largest(self._product, d, count, self.magnitude, None)
        is_zero = np.abs(found) <= lanczos.ZERO * self.magnitude
        zeros = np.zeros(min(count, max(d - rows, int(is_zero.sum()))))
        return np.sort(np.concatenate((found[~is_zero], zeros)))[::-1][:count]

    def _product(self, u: Array) -> Array:
        return self.times(u.reshape(1, -1))[0]


def input_hessians(
    net: TwoLayerNetwork,
    rows: Array,
    y: ArrayLike,
    loss: str | None,
    targeted: bool,
    backend: str,
    threads: int | None,
) -> Iterator[InputHessian]:
    """The Hessian at each of the rows, one after the other."""
    rows = np.ascontiguousarray(rows, dtype=np.float64)
    chosen, count = backends.get(validate.backend(backend)), validate.threads(threads)
    objective = make_objective(net, rows, y, loss, targeted, chosen, count)
    weights = net.weights(np.float64)
    w, a = weights.hidden_weight, weights.output_weight

    def multiply(left: Array, right: Array) -> Array:
        return chosen.multiply(left, right, count)

    is_linear, kept = weights.activation in PIECEWISE_LINEAR, dict[str, Any]()
    for part, terms in blocks(weights, rows, objective, multiply):
        for at in range(len(part)):
            signal, outer, bound = a * terms.slope[at], terms.output[at], float(terms.scale[at])
            if is_linear:
                k = len(outer)
                yield InputHessian(multiply(signal, w), np.zeros(k), np.eye(k), outer, bound, multiply, {})
            else:
                yield InputHessian(w, terms.unit_curvature[at], signal, outer, bound, multiply, kept)
