"""Records of the conformance and projection tests, printed in pytest's summary (also under pytest-xdist)."""

from __future__ import annotations

import os

# The matrix products of the tests are small, and the workers of pytest-xdist share the processors.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's: idle ones spin

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from support import STAND_INS, label_of

from pyfirstorder import backends


class Conformance:
    """Compares a backend with the truth and remembers the worst error in units of its tolerance."""

    def __init__(self, label: str) -> None:
        self.entry: list[Any] = [label, 0.0]

    def check(self, quantity: str, actual: Any, expected: Any, allowed: Any) -> None:
        """Assert ``|actual - expected| <= allowed`` everywhere; NaN only where NaN is expected."""
        actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
        assert actual.shape == expected.shape, f"{quantity}: shape {actual.shape}, expected {expected.shape}"
        same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
        allowed = np.broadcast_to(allowed, actual.shape)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(same, 0.0, np.abs(actual - expected) / allowed)
        ratio = np.where(np.isnan(ratio), np.inf, ratio)
        if not ratio.size:
            return
        worst = np.unravel_index(np.argmax(ratio), ratio.shape)
        assert ratio[worst] <= 1, (
            f"{quantity}{list(map(int, worst))}: got {actual[worst]!r}, expected {expected[worst]!r}, "
            f"off by {ratio[worst]:.3g} tolerances ({np.count_nonzero(ratio > 1)} of {ratio.size} are wrong)"
        )
        self.entry[1] = max(self.entry[1], float(ratio[worst]))


@pytest.fixture
def backend_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the public functions call a backend; a stand-in is found under its backend's name while the test runs."""
    if request.param not in STAND_INS:
        return str(request.param)
    name, found = STAND_INS[request.param]
    monkeypatch.setitem(backends._loaded, name, found)
    return name


@pytest.fixture
def conformance(request: pytest.FixtureRequest) -> Conformance:
    """The record of one combination, which the call's report carries to the summary."""
    record = Conformance(label_of(request.getfixturevalue("backend")))
    request.node.user_properties.append(("conformance", record.entry))
    return record


@pytest.fixture
def projected(request: pytest.FixtureRequest) -> list[Any]:
    """The count of coordinates that were held against ball and box: add to its second entry."""
    entry: list[Any] = [label_of(request.getfixturevalue("backend")), 0]
    request.node.user_properties.append(("projected", entry))
    return entry


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The counts of all tests that ran, by backend."""
    combinations: dict[str, list[float]] = defaultdict(list)
    coordinates: dict[str, int] = defaultdict(int)
    reports = [r for category in ("passed", "failed") for r in terminalreporter.stats.get(category, [])]
    for report in reports:
        if getattr(report, "when", None) != "call":
            continue
        for name, entry in report.user_properties:
            if name == "conformance":
                combinations[entry[0]].append(entry[1])
            elif name == "projected":
                coordinates[entry[0]] += entry[1]
    if combinations or coordinates:
        terminalreporter.section("what was compared")
    for label, worst in sorted(combinations.items()):
        terminalreporter.write_line(
            f"conformance: {len(worst)} combinations on {label}: worst error {max(worst):.2f} of the tolerance"
        )
    for label, count in sorted(coordinates.items()):
        terminalreporter.write_line(f"projection: {count:,} coordinates on {label} held against ball and box")
