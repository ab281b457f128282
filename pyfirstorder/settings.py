"""What an attack is told besides arrays: names, numbers and switches, checked once for each distinct set of them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from pyfirstorder import checks, validate
from pyfirstorder.problem import EVALUATIONS, PRECISIONS, STEEPEST_DIRECTION, AttackOptions

ALGORITHMS = ("pgd", "apgd")
DEFAULT_SPARSE_FRACTION = 0.01  # Tramèr & Boneh 2019
DEFAULT_RHO = 0.75  # Croce & Hein 2020
LARGEST = float(np.finfo(np.float64).max)
MOST_STEPS = 2**31 - 2
_MOST_RESTARTS = 2**31 - 1
_KEPT_SETS = 64


class Settings(NamedTuple):
    """Checked settings of an attack."""

    norm: str
    marks_invalid: bool
    keep: str
    sparse_fraction: float
    options: AttackOptions  # but for what depends on arrays: step sizes, sparse count, threads


def check_settings(algorithm: str, **given: Any) -> Settings:
    """Check the arguments of an attack that are not arrays; a set that came before costs a look into a table."""
    try:
        return _kept(algorithm, **given)
    except TypeError:  # of the wrong kind, or of one that no table can hold
        return _checked(algorithm, **given)


def _checked(
    algorithm: str,
    *,
    norm: Any,
    steps: Any,
    random_start: Any,
    restarts: Any,
    seed: Any,
    sample_offset: Any,
    early_stop: Any,
    keep: Any,
    trace: Any,
    on_invalid: Any,
    direction: Any = None,
    sparse_fraction: Any = DEFAULT_SPARSE_FRACTION,
    momentum: Any = 0.0,
    rho: Any = DEFAULT_RHO,
    retire: Any = True,
    evaluation: Any = "auto",
    precision: Any = PRECISIONS[0],
    keep_iterates: Any = False,
) -> Settings:
    norm = validate.norm(norm)
    start = validate.random_start(random_start)
    options = AttackOptions(
        algorithm=checks.choice("algorithm", algorithm, ALGORITHMS),
        steps=checks.integer("steps", steps, 0, MOST_STEPS),
        step_size=np.empty(0),
        direction=STEEPEST_DIRECTION[norm] if direction is None else validate.direction(direction),
        sparse_count=0,
        momentum=checks.real("momentum", momentum, 0.0, LARGEST),
        random_start=start,
        restarts=_restarts(restarts, start),
        seed=checks.integer("seed", seed, 0, 2**64 - 1),
        sample_offset=checks.integer("sample_offset", sample_offset, 0, 2**62),
        early_stop=checks.flag("early_stop", early_stop),
        keep_best=checks.choice("keep", keep, ("last", "best", "both")) != "last",
        trace=checks.flag("trace", trace),
        rho=checks.real("rho", rho, 0.0, 1.0),
        retire=checks.flag("retire", retire),
        evaluation=checks.choice("evaluation", evaluation, EVALUATIONS),
        precision=checks.choice("precision", precision, PRECISIONS),
        threads=1,
        keep_iterates=checks.flag("keep_iterates", keep_iterates),
    )
    marks_invalid = checks.choice("on_invalid", on_invalid, ("raise", "mark")) == "mark"
    share = checks.real("sparse_fraction", sparse_fraction, 0.0, 1.0)
    return Settings(norm, marks_invalid, keep, share, options)


_kept = lru_cache(_KEPT_SETS, typed=True)(_checked)


def _restarts(restarts: Any, start: str) -> int:
    count = checks.integer("restarts", restarts, 1, _MOST_RESTARTS)
    if count > 1 and start == "none":
        raise ValueError(
            f"restarts: expected 1 without a random start, from which all would be the same, got {count}; "
            "pass random_start=True"
        )
    return count
