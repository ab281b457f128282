"""The graphs of csrc/cuda/graph.hpp on a runtime that is not there: what they hold, and what a failing call leaves."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "fake_cuda" / "graphs.cpp"
HEADER = SOURCE.parents[2] / "csrc" / "cuda" / "graph.hpp"
RUNTIMES = (11080, 12040, 13000)  # without conditions, and with each of the two ways to add a node
NEW_DRIVER, OLD_DRIVER = 12040, 12030
PIECE, STEP = "begin(7) while { step step end }", "step"


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> int:
    version: int = request.param
    return version


@pytest.fixture(scope="module")
def program(runtime: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None or not HEADER.exists():
        pytest.skip("no compiler is here, or no C++ sources")
    path = tmp_path_factory.mktemp("graphs") / "graphs"
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-pthread", f"-DCUDART_VERSION={runtime}"]
    subprocess.run([*command, f"-I{SOURCE.parent}", str(SOURCE), "-o", str(path)], check=True)
    return path


def said_by(program: Path, *words: object) -> list[str]:
    return subprocess.run(
        [str(program), *map(str, words)], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def run(program: Path, driver: int, failing: int = -1) -> tuple[str, int, str]:
    """What it recorded, how many calls that took, and what is left of them."""
    *recorded, last, _ = said_by(program, "record", driver, failing)
    calls, _, left = last.partition(" calls, ")
    return "\n".join(recorded), int(calls), left


@pytest.mark.parametrize("driver", [OLD_DRIVER, NEW_DRIVER])
def test_a_loop_is_a_node_of_the_graph_where_compiler_and_driver_know_conditions(program, runtime, driver):
    recorded, _, left = run(program, driver)
    assert recorded == (PIECE if min(runtime, driver) >= NEW_DRIVER else STEP)
    assert left == "0 graphs and 0 streams left"


@pytest.mark.parametrize("driver", [OLD_DRIVER, NEW_DRIVER])
def test_a_call_that_fails_is_an_error_that_says_what_it_was_for_and_leaves_nothing(program, driver):
    _, calls, _ = run(program, driver)
    assert calls >= 4
    for failing in range(calls):
        said, _, left = run(program, driver, failing)
        assert said.splitlines()[-1].startswith("error: ")
        assert said.endswith(": made to fail")
        assert "step" in said or "piece" in said or "recording" in said
        assert left == "0 graphs and 0 streams left"


def test_a_graph_that_is_let_go_of_while_no_event_can_be_had_is_waited_for_and_destroyed(program):
    *_, said = said_by(program, "end", -1)
    assert said == "2 calls about events, 1 executables and 1 events left, 0 waits, 0 looks, last error 0"
    for failing in range(2):
        *_, said = said_by(program, "end", failing)
        assert (
            said == f"{failing + 1} calls about events, 0 executables and 0 events left, 1 waits, 0 looks, last error 0"
        )


def test_what_is_not_ready_is_looked_at_again_and_leaves_no_error_to_the_next_launch(program):
    *_, said = said_by(program, "wait")
    assert said == "6 calls about events, 0 executables and 0 events left, 0 waits, 7 looks, last error 0"


def test_a_call_within_a_graph_that_its_caller_records_is_refused(program):
    taken, refused, *_ = said_by(program, "refuse")
    assert taken == "taken"
    assert refused == "error: a graph is being recorded on this stream, and a call cannot be part of one"
