"""The benchmark suite: what is missing is said, what is wrong is not timed, and reports hold what was measured."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pyfirstorder.bench.contenders import CONTENDERS, Contender
from pyfirstorder.bench.report import Report, attack_rows, summary
from pyfirstorder.bench.suite import run_workload
from pyfirstorder.bench.workloads import DENSE, WORKLOADS, Workload, random_data

pytest.importorskip("pyfirstorder.backends.cpu", reason="the native engine is not installed: nothing to measure")

TINY = Workload("T", "tiny", random_data(17, 9, 3, 20), "linf", 0.1, 0.02, 8, (0.0, 1.0))
OWN = CONTENDERS[0]


def missing(workload, data, threads):
    raise ImportError("not here")


def idle(workload, data, threads):
    return lambda: data.x


def leaping(workload, data, threads):
    return lambda: data.x + np.float32(2 * workload.eps) * np.sign(data.x)


def failing(workload, data, threads):
    raise RuntimeError("broken")


RIVALS = {"missing": missing, "idle": idle, "leaping": leaping, "failing": failing}


@pytest.fixture(scope="module")
def outcome():
    rivals = [Contender(name, prepare, "") for name, prepare in RIVALS.items()]
    return run_workload(TINY, threads=1, rounds=2, contenders=[OWN, *rivals])


def test_a_rival_that_cannot_run_is_listed_with_its_reason(outcome):
    assert outcome.entry("missing").missing == "missing: not here"
    assert outcome.entry("failing").missing == "failed: RuntimeError: broken"
    assert {row[0] for row in attack_rows(outcome)} == {OWN.name, *RIVALS}


def test_a_wrong_answer_is_not_timed(outcome):
    for name in ("idle", "leaping"):
        assert outcome.entry(name).missing.startswith("wrong answer")
        assert not outcome.entry(name).seconds
    assert summary([outcome]) == []


def test_this_library_is_timed_and_gains_the_whole_loss(outcome):
    entry = outcome.entry(OWN.name)
    assert len(entry.seconds) == 2
    assert entry.gain == pytest.approx(1, abs=1e-4)
    assert entry.excess == 0
    assert outcome.ratio(entry) == 1
    assert outcome.share_of_peak(entry) > 0


def test_a_workload_that_a_library_cannot_do_says_why():
    reasons = dict(next(workload for workload in WORKLOADS if workload.name == "G").why_not)
    foolbox = next(contender for contender in CONTENDERS if contender.name == "foolbox")
    workload = next(workload for workload in WORKLOADS if workload.name == "G")
    assert foolbox.refuses(workload) == reasons["foolbox"]
    assert foolbox.refuses(TINY) is None


def test_the_report_holds_every_contender(outcome, tmp_path):
    pytest.importorskip("matplotlib")
    report = Report({"processor": "some"}, 1, 1e9, [outcome], [], [], [], [], [])
    written = report.write(tmp_path)
    assert [path.name for path in written] == ["report.json", "bars.png"]
    stored = json.loads(written[0].read_text(encoding="utf-8"))
    entries = {entry["contender"]: entry for entry in stored["attacks"][0]["entries"]}
    assert entries[OWN.name]["seconds"] == outcome.entry(OWN.name).seconds
    assert set(entries) == {OWN.name, *RIVALS}


@pytest.mark.parametrize("workload", [*WORKLOADS[2:], *DENSE], ids=lambda workload: workload.name)
def test_flops_are_those_of_two_products_with_each_matrix(workload):
    data = workload.resized(2).make()
    m, d = data.net.hidden_weight.shape
    assert workload.flops(data) == 2 * workload.steps * 4 * m * (d + data.net.out_features)
    assert len(data.x) == len(data.y) == 2
