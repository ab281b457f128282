"""How good the maxima are: what an ascent attained of a certified bound, or of the exact maximum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import pyfirstorder as fo
from pyfirstorder.experiments.ascents import random_problem

if TYPE_CHECKING:
    from pyfirstorder.experiments.ascents import Problem
    from pyfirstorder.experiments.experiment import Cell, Row, Run
    from pyfirstorder.problem import Array
    from pyfirstorder.results import AttackResult

EXACT = {"d": 8, "m": 16, "activation": "relu", "scale": 1.0, "norm": "linf"}
EXACT_STARTS = 20
EXACT_STEPS = 200
_UNLIMITED = 1e9  # seconds: numbers must not depend on the clock
_POSITIVE = ("squared", "logistic", "cross_entropy")  # losses whose ratio to a bound means something


def of_bound(problem: Problem, result: AttackResult, run: Run, method: str = "auto") -> Row:
    """Medians over the samples of attained / bound, and of the increase (attained - clean) / (bound - clean).

    Neither exceeds 1, because the bound is sound.
    """
    bound = fo.certify(
        problem.net, problem.x, problem.y, eps=problem.eps, norm=problem.norm, method=method, **problem.options(run)
    ).bound
    clean, _ = fo.input_gradient(problem.net, problem.x, problem.y, **problem.options(run))
    attained = np.asarray(result.best_loss)
    ratio = _median(attained, bound) if problem.loss in _POSITIVE else None
    return {"of_bound": ratio, "relative_increase": _median(attained - clean, bound - clean)}


def of_maximum(cell: Cell, run: Run) -> Row:
    """Small relu networks in an ℓ∞ ball: one ascent and the best of many against the exact maximum, and the bound."""
    problem = random_problem(cell, run, cell["loss"], cell["norm"])
    options: dict[str, Any] = {"eps": problem.eps, "norm": problem.norm, **problem.options(run)}
    one = fo.pgd(problem.net, problem.x, problem.y, steps=EXACT_STEPS, **options)
    many = fo.pgd(
        problem.net,
        problem.x,
        problem.y,
        steps=EXACT_STEPS,
        random_start=True,
        restarts=EXACT_STARTS,
        seed=run.seed,
        **options,
    )
    exact = fo.certify(problem.net, problem.x, problem.y, method="exact", time_limit=_UNLIMITED, **options).bound
    bound = fo.certify(problem.net, problem.x, problem.y, **options).bound
    return {
        "of_maximum": _median(np.asarray(one.best_loss), exact),
        "of_maximum_many": _median(np.asarray(many.best_loss), exact),
        "maximum_attained": float((np.asarray(many.best_loss) >= 0.999 * exact).mean()),
        "maximum_of_bound": _median(exact, bound),
    }


def _median(part: Array, whole: Array) -> float | None:
    kept = (whole > 0) & np.isfinite(whole)
    return float(np.median(part[kept] / whole[kept])) if kept.any() else None
