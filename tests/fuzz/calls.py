"""One call of the public functions, decoded from bytes, and what must be true of how it ends.

Either it raises a TypeError, a ValueError or a MemoryError that names an argument; or its result keeps the promises of
the library, whatever the layout of the arrays: finite where it is not said to be otherwise, inside ball and box as
float64 measures it, a success exactly where the network predicts one, and none of the caller's memory changed.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from fuzz.choices import Choices
from fuzz.values import LAYOUTS, hostile_array, hostile_scalar

import pyfirstorder as fo
from pyfirstorder.backends.reference.activations import ACTIVATIONS
from pyfirstorder.backends.reference.losses import LOSSES
from pyfirstorder.problem import DIRECTIONS, EVALUATIONS, PRECISIONS, Status

Arguments = dict[str, Any]
ARRAYS = ("x", "y", "x_init", "delta")
_NUMBERS = (0.1, 0.0, 1.0, 5e-324, 1e-30, 1e-7, 1e7, 1e30, 1e38, 1e308, np.inf)

# What an argument may be told, the usual first; sizes are such that a call stays short.
OPTIONS: dict[str, tuple[Any, ...]] = {
    "eps": _NUMBERS,
    "norm": ("linf", "l2", "l1", np.inf, 2, 1, "L2"),
    "steps": (3, 0, 1, 2, 8, 20),
    "step_size": (None, *_NUMBERS[:-1]),
    "rel_step_size": (None, 0.5, 0.0, 1e30),
    "direction": (None, *DIRECTIONS),
    "sparse_fraction": (0.01, 0.0, 1.0),
    "loss": (None, *LOSSES),
    "targeted": (False, True),
    "random_start": (False, True, "ball", "sphere"),
    "restarts": (1, 2, 3),
    "seed": (0, 2**64 - 1),
    "sample_offset": (0, 2**62),
    "momentum": (0.0, 0.9, 1e30),
    "early_stop": (False, True),
    "keep": ("last", "best", "both"),
    "trace": (False, True),
    "retire": (True, False),
    "evaluation": EVALUATIONS,
    "precision": PRECISIONS,
    "on_invalid": ("raise", "mark"),
    "rho": (0.75, 0.0, 1.0),
    "threads": (1, 2, None, 1024),
    "warm_start": (False, True),
    "algorithm": ("pgd", "apgd"),
    "eps_max": (1.0, None, 0.0, 1e30, 1e308),
    "tol": (0.1, 1e-6, 1e-300, 1e308),
    "method": ("auto", "interval", "linear"),
}
_ATTACK = (
    *("norm", "steps", "loss", "targeted", "random_start", "restarts", "seed", "sample_offset", "early_stop", "keep"),
    *("trace", "precision", "on_invalid", "threads"),
)
_PGD = ("step_size", "rel_step_size", "direction", "sparse_fraction", "momentum", "retire", "evaluation")
_SWEEP = tuple(name for name in _ATTACK if name not in ("early_stop", "keep"))
CALLS: dict[str, tuple[Callable[..., Any], tuple[str, ...], tuple[str, ...]]] = {
    "pgd": (fo.pgd, ("net", "x", "y", "x_init", "bounds"), ("eps", *_ATTACK, *_PGD)),
    "apgd": (fo.apgd, ("net", "x", "y", "x_init", "bounds"), ("eps", *_ATTACK, "rho")),
    "forward": (fo.forward, ("net", "x"), ("threads",)),
    "predict": (fo.predict, ("net", "x"), ("threads",)),
    "input_gradient": (fo.input_gradient, ("net", "x", "y"), ("loss", "targeted", "threads")),
    "project": (fo.project, ("delta", "x", "bounds"), ("eps", "norm", "threads")),
    "robustness_curve": (
        fo.robustness_curve,
        ("net", "x", "y", "bounds"),
        ("eps", "algorithm", "warm_start", *_ATTACK),
    ),
    "minimal_eps": (fo.minimal_eps, ("net", "x", "y", "bounds"), ("eps_max", "tol", "algorithm", *_SWEEP)),
    "certify": (fo.certify, ("net", "x", "y", "bounds"), ("eps", "norm", "loss", "targeted", "method", "threads")),
    "network": (fo.TwoLayerNetwork, ("hidden_weight", "output_weight", "hidden_bias", "output_bias"), ("activation",)),
}
NAMES = {name for _, given, options in CALLS.values() for name in (*given, *options)} | {
    "backend",
    "weights",
    "network",
}


@lru_cache(maxsize=256)
def _network(d: int, m: int, k: int, activation: str, dtype: str, size: float) -> fo.TwoLayerNetwork:
    rng = np.random.default_rng([d, m, k])
    parts = (rng.standard_normal(shape) * size for shape in ((m, d), (k, m), m, k))
    return fo.TwoLayerNetwork(*(part.astype(dtype) for part in parts), activation)


def _right_call(choices: Choices, name: str) -> Arguments:
    """Arguments that go together, in one of many combinations."""
    d, m, k = choices.one_of((4, 1, 3, 8, 17)), choices.one_of((5, 1, 16, 33)), choices.one_of((3, 1, 2, 4, 5))
    dtype, samples = choices.one_of(("f4", "f8")), choices.one_of((3, 0, 1, 7))
    size = choices.one_of((1.0, 1e-30, 1e30)) if choices.below(4) == 3 else 1.0
    rng = np.random.default_rng([d, samples, choices.below(4)])
    scale = choices.one_of((1.0, 1e-30, 1e-42, 1e30, 1e38)) if choices.below(4) == 3 else 1.0
    x = (rng.random((samples, d)) * scale).astype(dtype)
    if name == "network":
        return {
            "hidden_weight": rng.standard_normal((m, d)).astype(dtype),
            "output_weight": rng.standard_normal((k, m)).astype(dtype),
            "hidden_bias": rng.standard_normal(m).astype(dtype),
            "output_bias": rng.standard_normal(k).astype(dtype),
            "activation": choices.one_of(tuple(ACTIVATIONS)),
        }
    net = _network(d, m, k, choices.one_of(tuple(ACTIVATIONS)), dtype, size)
    given: Arguments = {"net": net, "x": x}
    _, arrays, options = CALLS[name]
    given |= {option: OPTIONS[option][0] for option in options if option == "eps" or choices.below(4) != 3}
    for option in options:
        if choices.below(3) == 2:
            given[option] = choices.one_of(OPTIONS[option])
    loss = given.get("loss")
    if loss in ("squared", "linear", "logistic") or (loss is None and k == 1 and choices.flag()):
        values = rng.standard_normal((samples, k)).astype(dtype)
        given["y"] = np.where(values > 0, 1, -1).astype(dtype) if loss == "logistic" else values
    else:
        given["y"] = rng.integers(0, k, samples) if k > 1 else rng.integers(0, 2, samples) * 2 - 1
    if "bounds" in arrays and choices.flag():
        given["bounds"] = choices.one_of(
            ((0, 1), (-np.inf, np.inf), (0.0, 1e38), (np.zeros(d), np.ones(d)), (x.min(axis=0, initial=0), 1.0))
        )
    if "x_init" in arrays and choices.below(4) == 3:
        given["x_init"] = (x + rng.standard_normal(x.shape)).astype(dtype) if choices.flag() else x
    if name == "project":
        given["delta"] = (rng.random((samples, d)) * choices.one_of((1.0, -1e-30, 1e30, -1e38))).astype(dtype)
        given["delta"] = x if choices.below(8) == 7 else given["delta"]  # one array twice
    if name == "robustness_curve":
        given["eps"] = choices.one_of(([0.1, 0.2], [0.0], [1e-30, 1e30], np.linspace(0, 1, 3)))
    return {key: value for key, value in given.items() if key in arrays or key in options}


def decode(data: bytes) -> tuple[str, Arguments, Arguments]:
    """The name of a function, its arguments as they are passed, and the same numbers in plain arrays."""
    choices = Choices(data)
    name = choices.one_of(tuple(CALLS))
    given = _right_call(choices, name)
    if name != "network":
        given["backend"] = choices.one_of(("cpu", "cpu", "cpu", "reference"))
    for _ in range(choices.one_of((0, 0, 1, 1, 2, 3))):
        which = choices.one_of(tuple(given))
        value = given[which]
        given[which] = hostile_array(choices, value) if isinstance(value, np.ndarray) else hostile_scalar(choices)
        if which in ("steps", "restarts") and given[which] is not value and _is_long(given[which]):
            given[which] = value
    plain = dict(given)
    for which, value in given.items():
        if type(value) is np.ndarray and value.dtype.kind in "fiu" and value.size < 10**4:
            given[which] = choices.one_of(LAYOUTS)(value)
    return name, given, plain


def _is_long(count: Any) -> bool:
    """Whether that many steps are allowed, and take years."""
    return isinstance(count, int) and 100 < count < 2**31


def check(data: bytes) -> str:
    """Make the call; "refused" or "answered"."""
    name, given, plain = decode(data)
    before = {which: _copy(value) for which, value in given.items()}
    result = _outcome(name, given)
    for which, value in before.items():
        assert _same(given[which], value), f"{name} changed {which}"
    if isinstance(result, Exception):
        return "refused"
    parts = _parts(result)
    for which, value in given.items():
        if isinstance(value, np.ndarray) and value.size < 10**4:
            shared = [key for key, part in parts.items() if key != "x" and np.may_share_memory(part, value)]
            assert not shared, f"{name}: {shared} lie in the memory of {which}"
    expected = _outcome(name, plain)
    assert not isinstance(expected, Exception), f"{name} refuses plain arrays of the same numbers: {expected}"
    for key, part in _parts(expected).items():
        assert _same(parts[key], part), f"{name}: {key} depends on the layout of the arguments"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fo.NotFiniteWarning)  # of predictions, as of the call itself
        _PROMISES.get(name, lambda *_: None)(given, result)
    return "answered"


def _outcome(name: str, given: Arguments) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as a user's tests may have it: NumPy's own are bugs
        for expected in (fo.ZeroGradientWarning, fo.NotFiniteWarning):
            warnings.simplefilter("ignore", expected)
        warnings.filterwarnings("ignore", "eps: every point of the box")
        try:
            return CALLS[name][0](**given)
        except (TypeError, ValueError, MemoryError) as refused:
            error = refused
    named = re.match(r"(\w+): ", str(error))
    assert named is not None, f"{name}: an error that names no argument: {error!r}"
    assert named[1] in NAMES, f"{name}: an error that names no argument: {error!r}"
    return error


def _copy(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) and value.size < 10**4 else value


def _same(a: Any, b: Any) -> bool:
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray) or a is b:
        return True
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.size > 10**4:
        return a.shape == b.shape
    if a.dtype.kind == "O":  # by what they are: one may be an array of NaN
        return all(one is other for one, other in zip(a.flat, b.flat))
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _parts(result: Any) -> dict[str, np.ndarray]:
    if isinstance(result, fo.RobustnessCurve):
        parts = {f"{key} {i}": part for i, one in enumerate(result.results) for key, part in _parts(one).items()}
        return {key: part for key, part in parts.items() if not key.startswith("x ")}
    if isinstance(result, np.ndarray):
        return {"result": result}
    if isinstance(result, tuple):
        return {str(i): part for i, part in enumerate(result)}
    found = {key: getattr(result, key) for key in getattr(result, "__dataclass_fields__", ())}
    return {key: part for key, part in found.items() if isinstance(part, np.ndarray)}


# ------------------------------------------------------------------ promises


def _norm(delta: np.ndarray, norm: Any) -> np.ndarray:
    order = {"linf": np.inf, "l2": 2, "l1": 1}[fo.validate.norm(norm)]  # type: ignore[attr-defined]
    with np.errstate(over="ignore"):
        unit = np.max(np.abs(delta), axis=1, initial=0)
        unit = np.where((unit == 0) | ((unit > 1e-140) & (unit < 1e140)), 1.0, unit)
        return np.linalg.norm(delta / unit[:, None], ord=order, axis=1) * unit


def _rows(points: Any) -> np.ndarray:
    array = np.asarray(points)
    return array.reshape(len(array), math.prod(array.shape[1:]))


def _require_inside(given: Arguments, points: Any, x: Any, good: np.ndarray, eps: Any) -> None:
    """Rows of points within ball and box, where the rows of x are finite."""
    rows, moved = (_rows(part).astype(np.float64) for part in (x, points))
    assert np.isfinite(moved[good]).all(), "a point that is not finite"
    radius = np.broadcast_to(np.asarray(eps, dtype=np.float64), len(rows))
    with np.errstate(over="ignore"):
        size = _norm((moved - rows)[good], given.get("norm", "linf"))
    assert (size <= radius[good]).all(), f"outside of the ball by {np.max(size - radius[good])}"
    if given.get("bounds") is not None:
        lower, upper = (np.asarray(side, dtype=np.float64).reshape(-1) for side in given["bounds"])
        low, high = np.minimum(lower, rows[good]), np.maximum(upper, rows[good])
        assert ((moved[good] >= low) & (moved[good] <= high)).all(), "outside of the box"


def _check_attack(given: Arguments, result: Any, eps: Any = None) -> None:
    good = np.asarray(result.status) != Status.INVALID_INPUT
    _require_inside(given, result.x_adv, given["x"], good, given["eps"] if eps is None else eps)
    finite = good & (np.asarray(result.status) != Status.NOT_FINITE)
    assert np.isfinite(result.loss[finite]).all(), "a loss that is not finite, and not said to be"
    assert not (result.best_loss < result.loss).any(), "a loss above the best"
    if result.success is None or not good.all():
        return
    predicted = fo.predict(given["net"], result.x_adv, backend=given["backend"])
    y = np.asarray(given["y"]).reshape(-1)
    expected = (predicted == y) if given.get("targeted", False) else (predicted != y)
    assert (result.success[finite] == expected[finite]).all(), "a success that the network does not confirm"
    assert not result.success[~np.isfinite(result.loss)].any(), "a success whose loss is not finite"


def _check_curve(given: Arguments, result: Any) -> None:
    for radius, one in zip(result.eps, result.results):
        _check_attack(given | {"eps": radius}, one)


def _check_minimal(given: Arguments, result: Any) -> None:
    good = np.isfinite(result.eps) & ~np.isnan(result.lower)
    _require_inside(given, result.x_adv, given["x"], good, np.where(good, result.eps, 0))
    assert (result.lower[good] <= result.eps[good]).all(), "a bracket upside down"


def _check_projection(given: Arguments, result: Any) -> None:
    good = np.ones(len(result), bool)
    _require_inside({"norm": given.get("norm", "linf")}, result, np.zeros_like(result), good, given["eps"])
    again = fo.project(result, **{k: v for k, v in given.items() if k not in ("delta", "threads")})
    assert np.array_equal(again, result), "projecting again moves a point"


def _check_certificate(given: Arguments, result: Any) -> None:
    options = {key: value for key, value in given.items() if key not in ("method", "threads")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attack = fo.pgd(**options, steps=3)
    finite = np.asarray(attack.status) != Status.NOT_FINITE
    assert not (result.bound < attack.best_loss)[finite].any(), "a loss above its certified bound"


_PROMISES: dict[str, Callable[[Arguments, Any], None]] = {
    "pgd": _check_attack,
    "apgd": _check_attack,
    "robustness_curve": _check_curve,
    "minimal_eps": _check_minimal,
    "project": _check_projection,
    "certify": _check_certificate,
}
