"""What the tests share: the tolerance table, builders of random problems, and the backends to run them on.

Conformance tests speak to backend *instances*, at the level of `pyfirstorder.problem`, because one backend can have
several: the native one has an instance per instruction set.  A backend that cannot load is skipped with its reason.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import stand_in
from numpy.testing import assert_array_equal

from pyfirstorder import TwoLayerNetwork, backends
from pyfirstorder.backends.cuda import CudaBackend
from pyfirstorder.backends.cupy import CupyBackend
from pyfirstorder.backends.reference.activations import ACTIVATIONS
from pyfirstorder.backends.reference.losses import LOSSES
from pyfirstorder.problem import STEEPEST_DIRECTION, AttackArrays, AttackOptions, Ball, Objective, Weights

UNIT = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}  # half an ulp of 1

# The one tolerance table: float32, float64.  Each is a share of the scale that the error analysis in truth.py (or the
# comment) gives, so that it holds for every size and network.
_TOLERANCES = {
    "activation": (16 * 2.0**-24, 16 * 2.0**-53),  # of max(|σ|, min(|h|, 1))
    "derivative": (32 * 2.0**-24, 32 * 2.0**-53),  # of max(|σ'|, 1): gelu_tanh multiplies 1 - tanh² by up to 9
    "evaluation": (8 * 2.0**-24, 8 * 2.0**-53),  # outputs, losses and gradients; dot products of up to 160 terms
    "step": (64 * 2.0**-24, 64 * 2.0**-53),  # rounding of one projected step, of |x0| + |δ| + |step|
    "projection": (64 * 2.0**-24, 1024 * 2.0**-53),  # of eps: the radius is reduced against errors of d-term sums
    "random start": (8 * 2.0**-24, 64 * 2.0**-53),  # of eps + |x|: log, cos and pow of two libraries
    "trace": (64 * 2.0**-24, 64 * 2.0**-53),  # norms, cosine and residual, of their own bounds
    "trajectory": (np.nan, 1e-9),  # whole loops of ten steps in float64, where rounding is amplified by the network
    "apgd loss": (0.02, 1e-3),  # the best of long attacks: halvings of the step size are discrete, so runs may part
    "apgd optimum": (1e-5, 1e-5),  # of the gain on a linear network after 100 steps
    "apgd optimum, l1": (0.02, 0.02),  # the authors' rule moves at least two coordinates, so it circles the vertex
    "central difference": (np.nan, 3e-7),  # of the largest gradient: third derivatives times 1e-10, rounding over 1e-5
    "closed form": (64 * 2.0**-24, 256 * 2.0**-53),  # of eps + |x|
    "stationary": (np.nan, 1e-6),  # KKT conditions after a long l2 attack, of the gradient's norm
    "Kolmogorov-Smirnov": (2.0, 2.0),  # times 1/sqrt(n): exceeded by chance in 7 of 10,000 seeds, and ours is fixed
}


def tolerance(quantity: str, dtype: Any) -> float:
    """The table's entry for a floating type."""
    value = _TOLERANCES[quantity][0 if np.dtype(dtype) == np.float32 else 1]
    assert np.isfinite(value), f"no tolerance for {quantity} in {np.dtype(dtype)}"
    return value


# ------------------------------------------------------------------ what to run: backends, types, sizes, names

AWKWARD_SIZES = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 127)
DTYPES = (np.float32, np.float64)
# Every activation, those with a parameter also at another value than their default.
ACTIVATION_NAMES = (*ACTIVATIONS, "leaky_relu(0.2)", "elu(0.5)", "softplus(5)")
LOSS_NAMES = tuple(LOSSES)
CLASS_LOSSES = ("cross_entropy", "margin", "dlr")

_labels: dict[int, str] = {}


def label_of(backend: backends.Backend) -> str:
    """How a backend instance is called in test ids and in the summary."""
    return _labels[id(backend)]


def _instances() -> list[Any]:
    params: list[Any] = []
    for name, state in backends.available_backends().items():
        if name == "cuda" and CUDA_ON_FIBRES is not None:  # its kernels on a processor
            _labels[id(CUDA_ON_FIBRES)] = "cuda-on-fibres"
            params.append(pytest.param(CUDA_ON_FIBRES, id="cuda-on-fibres"))
        if name == "cupy":  # on NumPy in place of CuPy, so that its logic is tested without a GPU
            _labels[id(CUPY_ON_NUMPY)] = "cupy-on-numpy"
            params.append(pytest.param(CUPY_ON_NUMPY, id="cupy-on-numpy"))
        if state != "available":
            reason = f"backend {name} is not available: {state}"
            marks = [pytest.mark.skip(reason=reason), *([pytest.mark.gpu] if name in GPU_BACKENDS else [])]
            params.append(pytest.param(None, id=name, marks=marks))
            continue
        found = {name: backends.get(name)}
        if name == "cpu":
            from pyfirstorder.backends import cpu

            found = {f"cpu-{isa}": cpu.CpuBackend(isa) for isa in cpu.supported_isas()}
        for label, instance in found.items():
            _labels[id(instance)] = label
            params.append(pytest.param(instance, id=label, marks=[pytest.mark.gpu] if name in GPU_BACKENDS else []))
    return params


GPU_BACKENDS = ("cupy", "cuda")
CUPY_ON_NUMPY = CupyBackend(stand_in.library(), stand_in.erf)


def _on_fibres() -> CudaBackend | None:
    try:
        from pyfirstorder.backends import _cuda_fibres
    except ImportError:
        return None
    return CudaBackend(stand_in.library(), _cuda_fibres)


CUDA_ON_FIBRES = _on_fibres()
BACKENDS = _instances()
REFERENCE = backends.get("reference")
every_backend = pytest.mark.parametrize("backend", BACKENDS)
# Those that go through millions of numbers in seconds: not the kernels that run as fibres.
every_fast_backend = pytest.mark.parametrize("backend", [part for part in BACKENDS if part.id != "cuda-on-fibres"])
every_backend_name = pytest.mark.parametrize(
    "backend_name",
    [
        pytest.param(name, marks=[] if state == "available" else [pytest.mark.skip(reason=f"backend {name}: {state}")])
        for name, state in backends.available_backends().items()
    ],
)
# GPU backends without a GPU, by the name that a test is run under: the backend, and its own name.
STAND_INS = {"cuda-on-fibres": ("cuda", CUDA_ON_FIBRES), "cupy-on-numpy": ("cupy", CUPY_ON_NUMPY)}
# `every_backend_name` and those, under whose names they are found: the fixture is in conftest.py.
every_backend_name_and_stand_in = pytest.mark.parametrize(
    "backend_name",
    [
        *every_backend_name.args[1],
        *(
            pytest.param(name, marks=pytest.mark.skipif(found is None, reason="the kernels were not built for fibres"))
            for name, (_, found) in STAND_INS.items()
        ),
    ],
    indirect=True,
)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: np.dtype(t).name)
every_norm = pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
with_and_without_box = pytest.mark.parametrize("boxed", [False, True], ids=["free", "boxed"])


# ------------------------------------------------------------------ builders


class Problem(NamedTuple):
    """A network, points and targets in one floating type."""

    weights: Weights
    x: np.ndarray
    objective: Objective

    def rows(self, rows: Any) -> Problem:
        """The same network on some of the points."""
        return self._replace(x=np.ascontiguousarray(self.x[rows]), objective=take(self.objective, rows))


def reweigh(weights: Weights, **arrays: Any) -> Weights:
    """Other weights in place of some; without what backends prepared from the old ones."""
    return weights._replace(prepared={}, **arrays)


def make_network(
    d: int = 17, m: int = 33, k: int = 5, activation: str = "relu", dtype: Any = np.float64, seed: int = 0
) -> TwoLayerNetwork:
    """A random network with biases, whose hidden units and outputs are of order one."""
    rng = np.random.default_rng([seed, d, m, k])
    return TwoLayerNetwork(
        (rng.standard_normal((m, d)) / np.sqrt(d)).astype(dtype),
        (rng.standard_normal((k, m)) / np.sqrt(m)).astype(dtype),
        (0.5 * rng.standard_normal(m)).astype(dtype),
        (0.2 * rng.standard_normal(k)).astype(dtype),
        activation,
    )


def smallest_outputs(loss: str, targeted: bool) -> int:
    """The outputs that a loss needs."""
    return {"cross_entropy": 2, "margin": 2, "dlr": 4 if targeted else 2}.get(loss, 1)


def outputs_for(loss: str) -> int:
    """A usual number of outputs for a loss."""
    return 1 if loss == "logistic" else 5


def make_objective(loss: str, weights: Weights, x: np.ndarray, targeted: bool = False, seed: int = 0) -> Objective:
    """Random targets for a loss."""
    rng = np.random.default_rng([seed, len(x), 77])
    samples, k = len(x), len(weights.output_bias)
    if loss not in CLASS_LOSSES:
        values = rng.standard_normal((samples, k)) if loss != "logistic" else rng.choice([-1.0, 1.0], (samples, 1))
        return Objective(loss, targeted, None, np.ascontiguousarray(values, dtype=x.dtype))
    labels, output = rng.integers(0, k, samples), REFERENCE.forward(weights, x, 1).copy()
    if loss == "dlr" and not targeted:
        labels = np.argmax(output, axis=1)  # dlr is flat where the label's logit is the third or a later one
    objective = Objective(loss, targeted, labels, None)
    if loss == "dlr" and targeted:
        output[np.arange(samples), labels] = -np.inf
        objective = objective._replace(sources=np.argmax(output, axis=1))
    return objective


def make_problem(
    d: int = 17,
    m: int = 33,
    k: int | None = None,
    samples: int = 9,
    activation: str = "relu",
    loss: str = "cross_entropy",
    targeted: bool = False,
    dtype: Any = np.float64,
    seed: int = 0,
) -> Problem:
    """A random network with random points and targets."""
    k = outputs_for(loss) if k is None else k
    weights = make_network(d, m, k, activation, dtype, seed).weights(dtype)
    x = np.random.default_rng([seed, d, samples, 5]).standard_normal((samples, d)).astype(dtype)
    return Problem(weights, x, make_objective(loss, weights, x, targeted, seed))


RADIUS = {"linf": 0.2, "l2": 0.7, "l1": 1.5}


def make_ball(norm: str, x: np.ndarray, eps: Any = None, boxed: bool = False, seed: int = 0) -> Ball:
    """A ball around each row of x and, if asked for, a box that holds them, with some coordinates on its bounds."""
    radius = np.ascontiguousarray(np.broadcast_to(np.float64(RADIUS[norm] if eps is None else eps), len(x)))
    if not boxed:
        return Ball(norm, radius)
    rng = np.random.default_rng([seed, 3])
    d = x.shape[1]
    lower, upper = x.min(axis=0, initial=0), x.max(axis=0, initial=0)
    room = (0.1 * rng.random((2, d)) * rng.integers(0, 2, (2, d))).astype(x.dtype)  # half of the bounds touch a point
    return Ball(norm, radius, lower - room[0], upper + room[1])


def make_options(problem: Problem, ball: Ball, **changes: Any) -> AttackOptions:
    """Options of a short attack; ``changes`` replaces any of them."""
    defaults = {
        "algorithm": "pgd",
        "steps": 6,
        "step_size": ball.eps / 3,
        "direction": STEEPEST_DIRECTION[ball.norm],
        "sparse_count": max(1, problem.x.shape[1] // 4),
        "momentum": 0.0,
        "random_start": "none",
        "restarts": 1,
        "seed": 0,
        "sample_offset": 0,
        "early_stop": False,
        "keep_best": False,
        "trace": False,
        "rho": 0.75,
        "retire": True,
        "precision": "strict",
        "evaluation": "auto",
        "threads": 1,
    }
    return AttackOptions(**(defaults | changes))


def run(
    backend: backends.Backend, problem: Problem, ball: Ball, x_init: np.ndarray | None = None, **changes: Any
) -> AttackArrays:
    """One attack by a backend."""
    options = make_options(problem, ball, **changes)
    return backend.attack(problem.weights, problem.x, problem.objective, ball, options, x_init)


def take(objective: Objective, rows: Any) -> Objective:
    """The targets of some rows."""
    parts = {
        name: None if getattr(objective, name) is None else np.ascontiguousarray(getattr(objective, name)[rows])
        for name in ("labels", "values", "sources")
    }
    return objective._replace(**parts)


def take_ball(ball: Ball, rows: Any) -> Ball:
    """The radii of some rows."""
    return ball._replace(eps=np.ascontiguousarray(ball.eps[rows]))


def assert_same_bits(actual: AttackArrays, expected: AttackArrays, but: tuple[str, ...] = ()) -> None:
    """Every field equal to the bit (and NaN where NaN)."""
    for name in AttackArrays._fields:
        if name in but:
            continue
        got, wanted = getattr(actual, name), getattr(expected, name)
        assert (got is None) == (wanted is None), name
        if got is not None:
            assert got.dtype == wanted.dtype, name
            assert_array_equal(got, wanted, err_msg=f"field {name}")
