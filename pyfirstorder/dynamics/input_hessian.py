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
from pyfirstorder.backends.reference.activations import ACTIVATIONS
from pyfirstorder.backends.reference.losses import evaluate
from pyfirstorder.dynamics.output_curvature import output_curvature
from pyfirstorder.interrupts import of_matrix
from pyfirstorder.problem import PIECEWISE_LINEAR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike

    from pyfirstorder.network import TwoLayerNetwork
    from pyfirstorder.problem import Array

# Beyond this size a dense symmetric eigenproblem takes more than some 10 s and 100 MB on a core.
LARGEST_DENSE = 2048
_LANCZOS_SEED = 0  # of the starting vector: the same figures in every call


class InputHessian(NamedTuple):
    """``Fᵀ M F`` at one point, M = diag(bend) + Sᵀ R S."""

    factor: Array  # F (r, d)
    bend: Array  # (r,)
    signal: Array  # S (k, r)
    output_hessian: Array  # R (k, k)
    multiply: Callable[[Array, Array], Array]
    kept: dict[str, Any]  # what is derived from F alone, shared by points with the same F

    def times(self, u: Array) -> Array:
        """The products (n, d) of the Hessian with rows u (n, d)."""
        q = self.multiply(u, self.factor.T)
        back = self.bend * q + ((q @ self.signal.T) @ self.output_hessian) @ self.signal
        return self.multiply(back, self.factor)

    def dense(self) -> Array:
        """The Hessian itself, (d, d)."""
        return self._seen_from(self.factor.T)

    def eigenvalues(self, count: int) -> Array:
        """The ``count`` algebraically largest eigenvalues, in descending order."""
        rows, d = self.factor.shape
        if min(rows, d) > LARGEST_DENSE and count < d:
            return np.sort(self._by_lanczos(count, "LA")[0])[::-1]
        if d <= rows:
            values = of_matrix(np.linalg.eigvalsh, self.dense())
        else:
            values = np.concatenate((of_matrix(np.linalg.eigvalsh, self._reduced()[0]), np.zeros(d - rows)))
        return np.sort(values)[::-1][:count]

    def most_bent(self, count: int) -> tuple[Array, Array]:
        """The ``count`` eigenvalues of largest magnitude, the largest first, and their eigenvectors as rows."""
        rows, d = self.factor.shape
        if min(rows, d) > LARGEST_DENSE:
            values, vectors = self._by_lanczos(count, "LM")
        elif d <= rows:
            values, vectors = of_matrix(np.linalg.eigh, self.dense())
        else:
            reduced, basis = self._reduced()
            values, vectors = of_matrix(np.linalg.eigh, reduced)
            vectors = basis @ vectors
            if rows < count:  # the rest of the space, in which the loss does not bend
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
        made = self.multiply(sides * self.bend, sides.T) + (through @ self.output_hessian) @ through.T
        return 0.5 * (made + made.T)  # products round the two halves differently

    def _by_lanczos(self, count: int, which: str) -> tuple[Array, Array]:
        try:
            from scipy.sparse.linalg import LinearOperator, eigsh
        except ImportError as error:
            raise ImportError('eigenvalues of large networks need scipy: pip install "pyfirstorder[lab]"') from error
        d = self.factor.shape[1]
        operator = LinearOperator((d, d), matvec=lambda u: self.times(u.reshape(1, d))[0], dtype=np.float64)
        start = np.random.default_rng(_LANCZOS_SEED).standard_normal(d)
        values, vectors = eigsh(operator, k=count, which=which, v0=start)
        return values, vectors


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
    activation, parameter = ACTIVATIONS[weights.activation], weights.parameter

    def multiply(left: Array, right: Array) -> Array:
        return chosen.multiply(left, right, count)

    h = multiply(rows, w.T) + weights.hidden_bias
    output = multiply(np.asarray(activation.value(h, parameter), np.float64), a.T) + weights.output_bias
    _, residual, scale = evaluate(output, objective)
    slope = np.asarray(activation.derivative(h, parameter), np.float64)
    outer = output_curvature(output, objective)
    if weights.activation in PIECEWISE_LINEAR:
        return (_through_outputs(w, a * slope[i], outer[i], multiply) for i in range(len(rows)))
    bend = activation.curvature(h, parameter) * multiply(residual * scale[:, None], a)
    kept: dict[str, Any] = {}
    return (InputHessian(w, bend[i], a * slope[i], outer[i], multiply, kept) for i in range(len(rows)))


def _through_outputs(w: Array, signal: Array, outer: Array, multiply: Callable[[Array, Array], Array]) -> InputHessian:
    k = len(outer)
    return InputHessian(multiply(signal, w), np.zeros(k), np.eye(k), outer, multiply, {})
