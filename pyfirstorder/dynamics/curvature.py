"""The largest eigenvalue of the input Hessian on the directions that constraints leave free.

With ``h = W x + b`` the Hessian is ``Wᵀ M W`` with ``M = diag(σ''(h) ⊙ Aᵀr) + S R Sᵀ``, ``S = diag(σ'(h)) Aᵀ``.  On the
free coordinates F, orthogonal to a unit normal n, it is ``P Bᵀ M B P`` with ``B = W_F`` and ``P = I - n nᵀ``: f = |F|
rows and columns, f - 1 of them free where there is a normal.

- *dense*: that matrix, with n turned into the first axis by a reflection and its row and column left out;
- *hidden*: its eigenvalues other than zero are those of ``Lᵀ M L``, m × m, with ``L Lᵀ = B P Bᵀ = K_F - (B n)(B n)ᵀ``;
  where m is below the dimension, zero is an eigenvalue too.  K = W Wᵀ is formed once and loses the fixed coordinates;
- *matrix-free*: Lanczos (ARPACK, by SciPy) on Hessian-vector products.

Where σ'' is zero throughout, ``B = Sᵀ W_F`` and ``M = R`` leave k rows in place of m.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyfirstorder.backends.reference.activations import ACTIVATIONS
from pyfirstorder.backends.reference.attack import take_objective
from pyfirstorder.backends.reference.losses import evaluate
from pyfirstorder.dynamics import lanczos
from pyfirstorder.dynamics.output_curvature import output_curvature
from pyfirstorder.gradients import hessian_vector_product
from pyfirstorder.interrupts import of_matrix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyfirstorder.problem import Array, Objective, Weights

    Multiply = Callable[[Array, Array], Array]

METHODS = ("auto", "dense", "hidden", "matrix-free")
_FEWEST_FOR_LANCZOS = 20  # its basis of 20 vectors must fit
_BLOCK_BYTES = 32 * 2**20  # of R, some of which are alive at once while they are made


class Curvature(NamedTuple):
    """Second-order terms at B points, float64."""

    weights: Weights
    unit_curvature: Array  # σ''(h) ⊙ Aᵀr (B, m)
    slope: Array  # σ'(h) (B, m)
    output: Array  # R (B, k, k)
    scale: Array  # (B,), a bound of the sum of the magnitudes of all eigenvalues
    gram: list[Array]  # K, made when it is first wanted
    multiply: Multiply


def blocks(weights: Weights, x: Array, objective: Objective, multiply: Multiply) -> Iterator[tuple[range, Curvature]]:
    """Rows of x (B, d) and their terms, so many at a time that the k x k matrices of all stay small."""
    outputs, units = weights.output_weight.shape
    size = max(1, _BLOCK_BYTES // (8 * (outputs**2 + units)))
    gram: list[Array] = []
    for first in range(0, len(x), size):
        part = slice(first, first + size)
        terms = curvature(weights, x[part], take_objective(objective, part), multiply)
        yield range(*part.indices(len(x))), terms._replace(gram=gram)


def curvature(weights: Weights, x: Array, objective: Objective, multiply: Multiply) -> Curvature:
    """The terms at x (B, d)."""
    w, b, a, c = weights[:4]
    sigma = ACTIVATIONS[weights.activation]
    h = multiply(x, w.T) + b
    output = multiply(sigma.value(h, weights.parameter), a.T) + c
    _, residual, scale = evaluate(output, objective)
    slope = sigma.derivative(h, weights.parameter).astype(x.dtype)
    unit_curvature = sigma.curvature(h, weights.parameter) * multiply(residual * scale[:, None], a)
    second = output_curvature(output, objective)
    lengths = np.linalg.norm(w, axis=1)
    columns = multiply(slope * lengths, np.abs(a).T)  # (B, k), bounds of the norms of the columns of Wᵀ S
    bound = np.abs(unit_curvature) @ lengths**2 + np.einsum("bi,bij,bj->b", columns, np.abs(second), columns)
    return Curvature(weights, unit_curvature, slope, second, bound, [], multiply)


def largest_eigenvalue(terms: Curvature, row: int, free: Array, normal: Array, method: str) -> float:
    """The largest eigenvalue at one point on the free coordinates (d,) and across a normal (d,), which may be zero."""
    chosen = np.flatnonzero(free)
    across = normal[chosen]
    has_normal = bool(np.any(across))
    dimension = len(chosen) - has_normal
    if dimension <= 0:
        return -np.inf
    if terms.scale[row] == 0:
        return 0.0
    if not terms.unit_curvature[row].any():
        return _of_outputs(terms, row, chosen, across, dimension)
    units = len(terms.weights.hidden_weight)
    if method == "auto":
        smaller = "hidden" if units < dimension else "dense"
        method = smaller if min(units, dimension) <= lanczos.MOST_DENSE else "matrix-free"
    if method == "matrix-free" and len(chosen) > _FEWEST_FOR_LANCZOS:
        return _matrix_free(terms, row, chosen, across)
    if method == "hidden" and units <= dimension:  # beyond, it would have zeros that the Hessian has not
        gram, columns = _gram(terms, chosen), _columns(terms, chosen)
        return _hidden(gram, columns, across, _middle(terms, row), dimension, terms.multiply)
    return _dense(_hessian(terms, row, chosen), across)


def _columns(terms: Curvature, chosen: Array) -> Array:
    w = terms.weights.hidden_weight
    return w if len(chosen) == w.shape[1] else np.ascontiguousarray(w[:, chosen])


def _outputs(terms: Curvature, row: int) -> Array:
    """Sᵀ (k, m)."""
    return terms.weights.output_weight * terms.slope[row]


def _middle(terms: Curvature, row: int) -> Array:
    s = _outputs(terms, row)
    middle = terms.multiply(s.T, terms.multiply(terms.output[row], s))
    middle[np.diag_indices_from(middle)] += terms.unit_curvature[row]
    return middle


def _gram(terms: Curvature, chosen: Array) -> Array:
    """``W_F W_Fᵀ``, from the free columns or from K and the fixed ones, whichever are fewer."""
    w, multiply = terms.weights.hidden_weight, terms.multiply
    if 2 * len(chosen) < w.shape[1]:
        part = _columns(terms, chosen)
        return multiply(part, part.T)
    if not terms.gram:
        terms.gram.append(multiply(w, w.T))
    if len(chosen) == w.shape[1]:
        return terms.gram[0]
    fixed = np.ascontiguousarray(np.delete(w, chosen, axis=1))
    return terms.gram[0] - multiply(fixed, fixed.T)


def _hessian(terms: Curvature, row: int, chosen: Array) -> Array:
    part, s, multiply = _columns(terms, chosen), _outputs(terms, row), terms.multiply
    outputs = multiply(s, part)
    of_units = multiply(part.T, terms.unit_curvature[row][:, None] * part)
    return of_units + multiply(outputs.T, multiply(terms.output[row], outputs))


def _dense(hessian: Array, normal: Array) -> float:
    if np.any(normal):
        # I - 2 u uᵀ takes the normal to an axis: twice the symmetric update that leaves row and column 0 to be cut off
        u = normal / np.linalg.norm(normal)
        u[0] += np.copysign(1.0, u[0])
        u /= np.linalg.norm(u)
        half = hessian @ u
        half -= (u @ half) * u
        hessian = (hessian - 2 * np.outer(u, half) - 2 * np.outer(half, u))[1:, 1:]
    return float(of_matrix(np.linalg.eigvalsh, (hessian + hessian.T) / 2)[-1])


def _hidden(gram: Array, columns: Array, normal: Array, middle: Array, dimension: int, multiply: Multiply) -> float:
    if np.any(normal):
        q = columns @ normal
        gram = gram - np.outer(q, q)
    root = _root(gram)
    found = float(of_matrix(np.linalg.eigvalsh, multiply(root.T, multiply((middle + middle.T) / 2, root)))[-1])
    return max(found, 0.0) if dimension > len(gram) else found


def _root(gram: Array) -> Array:
    """L with L Lᵀ = gram, which has eigenvalues of zero where W has not full rank."""
    try:
        return of_matrix(np.linalg.cholesky, gram)
    except np.linalg.LinAlgError:
        values, vectors = of_matrix(np.linalg.eigh, gram)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))


def _of_outputs(terms: Curvature, row: int, chosen: Array, normal: Array, dimension: int) -> float:
    """The Hessian ``Jᵀ R J`` of a network that is linear around the point."""
    jacobian = terms.multiply(_outputs(terms, row), _columns(terms, chosen))
    curvature = np.array(terms.output[row])
    if dimension <= len(jacobian):
        return _dense(terms.multiply(jacobian.T, terms.multiply(curvature, jacobian)), normal)
    gram = terms.multiply(jacobian, jacobian.T)
    return _hidden(gram, jacobian, normal, curvature, dimension, terms.multiply)


def _matrix_free(terms: Curvature, row: int, chosen: Array, normal: Array) -> float:
    beyond, part = float(terms.scale[row]), _columns(terms, chosen)
    weights, transposed = terms.weights._replace(hidden_weight=part), np.ascontiguousarray(part.T)
    at_row = (terms.slope[row, None], terms.unit_curvature[row, None], terms.output[row, None])

    def product(vector: Array) -> Array:
        """The Hessian across the normal, which itself is given an eigenvalue below all others."""
        along = normal @ vector
        across = (vector - along * normal)[None]
        image = hessian_vector_product(weights, *at_row, across, terms.multiply, transposed)[0]
        return np.asarray(image - (normal @ image + beyond * along) * normal)

    return float(lanczos.largest(product, len(chosen), 1, beyond, normal)[-1])
