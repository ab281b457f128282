"""`pyfirstorder reproduce`: the same bytes whatever the threads and interruptions, and what it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

typer_testing = pytest.importorskip("typer.testing", reason="the command line needs typer")
pytest.importorskip("scipy", reason="experiments need scipy")
pytest.importorskip("matplotlib", reason="experiments draw")
pytest.importorskip("sklearn", reason="experiments train on its digits")
from pyfirstorder import cli  # noqa: E402
from pyfirstorder.experiments.running import CELLS_FOLDER  # noqa: E402

TIMES = "times.csv"


def run(*arguments):
    return typer_testing.CliRunner().invoke(cli.make_app(), ["reproduce", *map(str, arguments)])


def contents(folder):
    """Names and bytes of all that a run wrote, but for the times."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != TIMES}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduce") / "report"
    result = run("input-scale", "--quick", "--threads", 1, "--output", folder)
    assert result.exit_code == 0, result.output
    assert "input-scale: " in result.output
    assert set(contents(folder)) == {"input-scale.csv", "input-scale.png", "report.md", "report.html"}
    assert (folder / TIMES).exists()
    return folder


def test_another_run_with_other_threads_gives_the_same_bytes(done, tmp_path):
    assert run("input-scale", "--quick", "--threads", 2, "--output", tmp_path).exit_code == 0
    assert contents(tmp_path) == contents(done)


def test_another_seed_gives_other_numbers(done, tmp_path):
    assert run("landscape", "--quick", "--output", tmp_path / "a").exit_code == 0
    assert run("landscape", "--quick", "--seed", 1, "--output", tmp_path / "b").exit_code == 0
    one, other = (contents(tmp_path / name)["landscape.csv"] for name in "ab")
    assert one != other


@pytest.mark.skipif(os.name != "posix", reason="there is no kill -9")
def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_bytes(done, tmp_path):
    command = [sys.executable, "-m", "pyfirstorder", "reproduce", "input-scale", "--quick", "--output", str(tmp_path)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=tmp_path, **quiet)  # where the source is not imported instead
    kept = tmp_path / CELLS_FOLDER
    try:
        while len(list(kept.glob("input-scale-*"))) < 2 and process.poll() is None:
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    begun = {path.name: path.stat().st_mtime_ns for path in kept.glob("input-scale-*")}
    assert begun
    assert run("input-scale", "--quick", "--output", tmp_path).exit_code == 0
    assert {name: (kept / name).stat().st_mtime_ns for name in begun} == begun, "what was done is not done again"
    assert contents(tmp_path) == contents(done)


def test_a_later_experiment_joins_the_report(done, tmp_path):
    assert run("landscape", "--quick", "--output", tmp_path).exit_code == 0
    for path in (done / CELLS_FOLDER).iterdir():
        (tmp_path / CELLS_FOLDER / path.name).write_bytes(path.read_bytes())
    assert run("landscape", "--quick", "--output", tmp_path).exit_code == 0
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "## input-scale" in text
    assert "## landscape" in text
    assert "## training" not in text


@pytest.mark.parametrize(
    ("options", "said"), [(("--quick", "--seed", 7), "differs in seed"), (("--full",), "differs in size")]
)
def test_a_folder_with_another_report_is_refused(done, options, said):
    before = contents(done)
    refused = run("landscape", *options, "--output", done)
    assert refused.exit_code == 2
    assert said in refused.output
    assert "--overwrite" in refused.output
    assert contents(done) == before


def test_overwrite_replaces_a_report(tmp_path):
    assert run("landscape", "--quick", "--output", tmp_path).exit_code == 0
    first = contents(tmp_path)
    assert run("landscape", "--quick", "--seed", 7, "--output", tmp_path, "--overwrite").exit_code == 0
    assert contents(tmp_path).keys() == first.keys()
    assert contents(tmp_path)["landscape.csv"] != first["landscape.csv"]
    assert b"--seed 7" in contents(tmp_path)["report.md"]


def test_a_damaged_cell_is_named(tmp_path):
    assert run("landscape", "--quick", "--output", tmp_path).exit_code == 0
    cell = next((tmp_path / CELLS_FOLDER).glob("landscape-*"))
    for damage in ("{", "[]", '{"rows": []}'):
        cell.write_text(damage, encoding="utf-8")
        refused = run("landscape", "--quick", "--output", tmp_path)
        assert refused.exit_code == 2
        assert cell.name in refused.output
        assert len(refused.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("landscapes",), "experiment: expected one of"),
        (("landscape", "--quick", "--full"), "expected one of --quick and --full"),
        (("landscape", "--quick", "--seed", "-1"), "seed: expected an integer from 0"),
        (("landscape", "--quick", "--threads", "0"), "threads: "),
        (("landscape", "--quick", "--backend", "abacus"), "backend: "),
    ],
)
def test_bad_arguments_are_an_error_in_a_line_and_leave_nothing(arguments, said, tmp_path):
    refused = run(*arguments, "--output", tmp_path / "new")
    assert refused.exit_code == 2
    assert said in refused.output
    assert len(refused.output.strip().splitlines()) == 1
    assert not (tmp_path / "new").exists()
