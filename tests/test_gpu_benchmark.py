"""The logic of benchmarks/gpu.py on a machine without a GPU: stages, budgets, what is kept, the table of targets."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gpu_folder import FOLDER
from on_gpu import counters, loops, measure, products, rivals, shapes, stages, table
from on_gpu.results import Results
from on_gpu.stages import Ended, Plan


def plan(folder: Path, seconds: float = 60.0) -> Plan:
    return Plan(folder, dry_run=True, build=False, deadline=time.monotonic() + seconds)


# ------------------------------------------------------------------ the command as a whole


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """All stages but the tests', with torch.compile as a plain call: it would compile for a minute."""
    pytest.importorskip("torch")
    pytest.importorskip("pyfirstorder.backends._cuda_fibres", reason="the kernels were not built for fibres")
    folder = tmp_path_factory.mktemp("gpu")
    only = ",".join(name for name in stages.NAMES if name != "tests")
    ended = subprocess.run(
        [sys.executable, str(FOLDER / "gpu.py"), "--dry-run", "--only", only, "--output", str(folder)],
        env=os.environ | {"TORCHDYNAMO_DISABLE": "1", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    return folder, ended


def test_a_dry_run_goes_through_every_stage_and_fails_none(dry_run):
    folder, ended = dry_run
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert list(report) == [name for name in stages.NAMES if name != "tests"]
    assert report["build"]["missing"].startswith("not asked for")
    assert report["sanitise"]["calls_without_it"] == 0
    assert report["counters"]["calls_without_it"] == 0
    assert {"fp16", "bf16", "tf32", "fp32", "memory"} <= set(report["ceilings"])
    kinds = [each for each in report["products"].values() if isinstance(each, dict)]
    assert len(kinds) == len(products.SHAPES) * len(products.MODES) * 2
    assert report["products"]["agree"]
    cases = [each for each in report["loops"].values() if isinstance(each, dict)]
    assert len(cases) == len(loops.CASES) * len(loops.MODES)
    for case in cases:
        assert case["same_bits"]
        assert case["planned"] in loops.LOOPS
        assert tuple(case["microseconds_a_step"]) == loops.LOOPS
        assert min(case["microseconds_a_step"].values()) > 0


def test_every_contender_of_every_shape_has_times_or_a_reason(dry_run):
    measured = json.loads((dry_run[0] / "shapes.json").read_text(encoding="utf-8"))["shapes"]
    assert list(measured) == list(shapes.SIZES)
    for shape in measured.values():
        assert [entry["contender"] for entry in shape["entries"]] == [rival.name for rival in rivals.RIVALS]
        for entry in shape["entries"]:
            assert bool(entry["seconds"]) != bool(entry["missing"])
            if entry["seconds"]:
                assert entry["gain"] >= 0.99
                assert entry["microseconds_a_step"] > 0


def test_every_target_has_a_row_and_a_dry_run_says_that_it_is_one(dry_run):
    folder, ended = dry_run
    stored = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    assert [(row["shape"], row["ours"]) for row in stored["rows"]] == [(t.shape, t.ours) for t in shapes.TARGETS]
    text = (folder / "table.md").read_text(encoding="utf-8")
    assert text.startswith("Dry run")
    assert "Dry run" in ended.stdout
    assert "| 784-1024-10 fast hopper |" in text
    assert "| 784-64-10 B=10000 strict |" in text
    assert (folder / "shapes.png").stat().st_size > 0


def test_without_a_gpu_the_command_says_how_to_try_it(tmp_path):
    ended = subprocess.run(
        [sys.executable, str(FOLDER / "gpu.py")],
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "--dry-run" in ended.stderr


# ------------------------------------------------------------------ processes


def test_a_process_past_its_time_is_ended_with_all_that_it_started(tmp_path):
    mark = tmp_path / "alive"
    child = f"import time, pathlib; time.sleep(3); pathlib.Path({str(mark)!r}).touch()"
    begin = f"subprocess.Popen([sys.executable, '-c', {child!r}])"
    parent = f"import subprocess, sys, time; print('begun'); {begin}; time.sleep(60)"
    ended = stages.call([sys.executable, "-c", parent], seconds=1.5)
    assert ended.status == "timeout"
    assert "begun" in ended.words
    time.sleep(3)
    assert not mark.exists()


def test_a_stage_without_time_left_is_listed_and_not_begun(tmp_path):
    assert stages.run("shapes", plan(tmp_path, seconds=1)) == {"missing": "no time was left"}


def test_a_stage_that_breaks_keeps_what_it_had(tmp_path, monkeypatch):
    def breaks(command: list[str], seconds: float) -> Ended:
        Results(tmp_path / "ceilings.json")["fp16"] = {"flops_per_second": 1.0}
        return Ended(-11, "Segmentation fault")

    monkeypatch.setattr(stages, "call", breaks)
    outcome = stages.run("ceilings", plan(tmp_path))
    assert outcome["fp16"] == {"flops_per_second": 1.0}
    assert outcome["ended"] == -11
    assert "Segmentation" in stages.summary("ceilings", outcome)


def test_a_contender_that_ends_its_process_is_named_and_the_others_go_on(tmp_path, monkeypatch):
    calls = []

    def dies_once(command: list[str], seconds: float) -> Ended:
        results = Results(tmp_path / "shapes.json", resumed=True)
        calls.append(dict(results))
        if len(calls) == 1:
            results["running"] = ["784-64-10", "JAX jit"]
            return Ended(-6, "Aborted")
        return Ended(0, "")

    monkeypatch.setattr(stages, "call", dies_once)
    outcome = stages.run("shapes", plan(tmp_path))
    assert calls[1]["died"] == [["784-64-10", "JAX jit", "-6"]]
    assert outcome["ends"][0]["last_words"] == "Aborted"


def test_a_contender_that_ended_its_process_is_not_tried_again(tmp_path, monkeypatch):
    tried = []
    rival = rivals.Rival("deadly", "torch", lambda *_: tried.append(1), "", ours=False)
    monkeypatch.setattr(measure, "RIVALS", (rival,))
    results = Results(tmp_path / "shapes.json")
    results["died"] = [[name, "deadly", "-6"] for name in shapes.SIZES]
    measure.run(results, dry_run=True, seconds=60)
    assert not tried
    for shape in results["shapes"].values():
        assert shape["entries"][0]["missing"] == "failed: it ended the process"


@pytest.mark.parametrize(
    ("found", "used"), [({"agree": True}, "hopper"), ({"agree": False}, "generic"), ({}, "generic")]
)
def test_shapes_use_the_products_of_hopper_gpus_only_after_they_were_found_to_agree(found, used, tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(stages, "call", lambda command, seconds: commands.append(command) or Ended(0, ""))
    for name, value in found.items():
        Results(tmp_path / "products.json")[name] = value
    stages.run("shapes", plan(tmp_path))
    ((*_, option, name),) = commands
    assert (option, name) == ("--products", used)


def test_products_with_other_bits_are_a_failure_of_the_command():
    same, other = {"same_bits": True}, {"same_bits": False}
    assert not stages.failed("products", {"words": "generic", "agree": False, "first": same})
    assert stages.failed("products", {"words": "hopper", "agree": False, "first": same, "second": other})
    assert stages.failed("products", {"first": same, "ended": "timeout"})


def test_the_table_of_loops_says_where_the_plan_is_wrong():
    case = {"microseconds_a_step": {"launched": 9.0, "resident": 3.0}, "planned": "launched", "same_bits": True}
    row = table.of_loops({"small": case}).splitlines()[-1]
    assert row == "| small | 9 | 3 | launched | no | yes |"
    assert stages.failed("loops", {"small": case | {"same_bits": False}})
    assert not stages.failed("loops", {"small": case})
    assert table.of_loops({}) == ""


def test_results_are_named_by_device_and_day_and_replace_none(tmp_path):
    import gpu

    day = datetime.date(2030, 1, 2)
    for name in ("Some-GPU-80GB.2030-01-02", "Some-GPU-80GB.2030-01-02.2", "Some-GPU-80GB.2030-01-02.3"):
        folder = gpu.new_folder(tmp_path, "Some GPU/80GB", day)
        assert folder == tmp_path / name
        folder.mkdir()


def test_every_file_of_a_run_is_described(dry_run):
    described = (FOLDER / "results" / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in dry_run[0].iterdir() if f"`{path.name}`" not in described] == []


def test_results_are_whole_at_every_moment_and_are_taken_up_again(tmp_path):
    results = Results(tmp_path / "deep" / "some.json")
    results["first"] = 1
    with pytest.raises(TypeError):
        results["second"] = object()  # cannot be written
    assert dict(Results(results.path, resumed=True)) == {"first": 1}


def test_counts_of_pytest_are_read_and_a_failure_is_one_of_the_command(tmp_path, monkeypatch):
    def runs(command: list[str], seconds: float) -> Ended:
        suite = '<testsuite tests="9" failures="1" errors="2" skipped="3"/>'
        (tmp_path / "tests.xml").write_text(f"<testsuites>{suite}</testsuites>", encoding="utf-8")
        return Ended(1, "1 failed")

    monkeypatch.setattr(stages, "call", runs)
    outcome = stages.run("tests", plan(tmp_path))
    assert (outcome["passed"], outcome["failures"], outcome["skipped"]) == (3, 1, 3)
    assert stages.failed("tests", outcome)
    no_failure = outcome | {"failures": 0, "errors": 0}
    assert stages.failed("tests", no_failure), "it ended with 1"
    del no_failure["ended"]
    assert not stages.failed("tests", no_failure)
    assert stages.failed("tests", no_failure | {"passed": 0})
    assert stages.failed("tests", {"missing": "pytest left no counts"})


def test_a_run_of_pytest_that_is_stopped_is_counted_as_far_as_it_came(tmp_path, monkeypatch):
    progress = "bringing up nodes...\n..s..F.. [ 40%]\n....E\n"
    monkeypatch.setattr(stages, "call", lambda command, seconds: Ended("timeout", progress))
    outcome = stages.run("tests", plan(tmp_path))
    assert (outcome["passed"], outcome["failures"], outcome["errors"], outcome["skipped"]) == (10, 1, 1, 1)
    assert outcome["ended"] == "timeout"
    assert stages.failed("tests", outcome)
    monkeypatch.setattr(stages, "call", lambda command, seconds: Ended("timeout", "collecting"))
    assert stages.run("tests", plan(tmp_path))["missing"] == "pytest left no counts"


@pytest.mark.parametrize("status", ["timeout", -signal.SIGSEGV, 1])
def test_tests_that_did_not_end_by_themselves_are_a_failure_though_ten_had_passed(status, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "call", lambda command, seconds: Ended(status, ".......... [ 40%]\n"))
    outcome = stages.run("tests", plan(tmp_path))
    assert (outcome["passed"], outcome["failures"], outcome["errors"]) == (10, 0, 0)
    assert stages.failed("tests", outcome)


@pytest.mark.parametrize("name", stages.NAMES)
def test_a_stage_for_which_no_time_was_left_is_a_failure(name, tmp_path):
    assert stages.failed(name, stages.run(name, plan(tmp_path, seconds=-1)))


def test_a_build_that_was_asked_for_needs_its_tools(tmp_path, monkeypatch):
    assert not stages.failed("build", stages.run("build", plan(tmp_path)))
    monkeypatch.setattr(stages.shutil, "which", lambda name: None)
    assert stages.failed("build", stages.run("build", plan(tmp_path)._replace(build=True)))


def test_without_a_sanitizer_nothing_is_sanitised(tmp_path, monkeypatch):
    monkeypatch.setattr(stages.shutil, "which", lambda name: None)
    monkeypatch.setattr(stages, "call", lambda command, seconds: Ended(0, ""))
    assert not stages.failed("sanitise", stages.run("sanitise", plan(tmp_path)))
    assert stages.failed("sanitise", stages.run("sanitise", plan(tmp_path)._replace(dry_run=False)))


@pytest.mark.parametrize("hopper", [False, True])
@pytest.mark.parametrize(("status", "found"), [(0, "clean"), (stages.SANITIZER_FAILED, "errors"), (1, "ended with 1")])
def test_every_tool_of_the_sanitizer_is_asked(status, found, hopper, tmp_path, monkeypatch):
    runs = []
    Results(tmp_path / "device.json")["gpu"] = {"compute_cap": "9.0" if hopper else "8.0"}
    monkeypatch.setattr(stages.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(
        stages, "call", lambda command, seconds: runs.append((command[2], command[-1])) or Ended(status, "words")
    )
    outcome = stages.run("sanitise", plan(tmp_path)._replace(dry_run=False))
    assert runs == [(tool, "generic") for tool in stages.SANITIZER_TOOLS] + [("memcheck", "hopper")] * hopper
    assert {each["found"] for each in outcome.values()} == {found}
    assert stages.failed("sanitise", outcome) == (status != 0)


# As ncu prints it: lines of its own, names, units, and a launch a line.
_NAME = "void pyfirstorder::gpu::entry<pyfirstorder::gpu::<unnamed>::{}<float>, pyfirstorder::gpu::Call<float>>(T2)"
_METRICS = (counters.TIME, *counters.PEAKS.values())
_COUNTED = "\n".join(
    [
        "==PROF== Connected to process 1",
        ",".join(f'"{name}"' for name in ("ID", "Kernel Name", *_METRICS)),
        ",".join(f'"{unit}"' for unit in ("", "", "usecond", "%", "%", "%", "%")),
        *(
            ",".join(f'"{cell}"' for cell in cells)
            for cells in (
                ("0", "cupy_copy(float)", "9", "0", "0", "0", "0"),
                ("1", _NAME.format("StoreNetwork"), "1", "0", "1", "1", "1"),
                ("2", _NAME.format("StepRows"), "3", "0", "10", "20", "90"),
                ("3", _NAME.format("StepRows"), "1", "0", "30", "20", "50"),
                ("4", _NAME.format("StoreNetwork"), "1,000", "0", "1", "1", "n/a"),
            )
        ),
    ]
)


def test_counters_are_summed_by_shape_and_kernel(tmp_path, monkeypatch):
    monkeypatch.setattr(stages.shutil, "which", lambda name: f"/bin/{name}")
    commands = []
    monkeypatch.setattr(stages, "call", lambda command, seconds: commands.append(command) or Ended(0, _COUNTED))
    outcome = stages.run("counters", plan(tmp_path)._replace(dry_run=False))
    assert commands[0][0] == "/bin/ncu"
    first, second = outcome["shapes"].values()
    assert list(outcome["shapes"]) == list(shapes.SIZES)[:2]
    assert list(first) == ["StepRows<float>", "StoreNetwork<float>"]
    steps = {"of the time": 80.0, "tensor cores": 0.0, "issue slots": 15.0, "second cache": 20.0, "memory": 80.0}
    assert first["StepRows<float>"] == pytest.approx(steps)
    assert second["StoreNetwork<float>"]["of the time"] == 100
    text = table.of_counters(outcome["shapes"])
    assert "| StepRows<float> | 80 | 0 | 15 | 20 | 80 |" in text
    assert not stages.failed("counters", outcome)


def test_a_profiler_that_may_not_count_is_a_reason_and_no_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(stages.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(stages, "call", lambda command, seconds: Ended(1, "==ERROR== ERR_NVGPUCTRPERM"))
    outcome = stages.run("counters", plan(tmp_path)._replace(dry_run=False))
    assert "ERR_NVGPUCTRPERM" in outcome["missing"]
    assert not stages.failed("counters", outcome)
    monkeypatch.setattr(stages, "call", lambda command, seconds: Ended("timeout", "==PROF=="))
    assert stages.failed("counters", stages.run("counters", plan(tmp_path)._replace(dry_run=False)))


def test_a_stage_is_summed_up_in_a_line():
    ceilings = {"fp16": {"flops_per_second": 7.98e14, "by": "events"}, "memory": {"bytes_per_second": 3e12}}
    assert stages.summary("ceilings", ceilings) == "fp16 798e12, memory 3e12"
    assert stages.summary("build", {"built": ["_cuda.so"]}) == "built ['_cuda.so']"
    assert stages.summary("sanitise", {"memcheck": {"found": stages.CLEAN}}) == "memcheck clean"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("========= COMPUTE-SANITIZER", stages.CUT_OFF),
        ("========= COMPUTE-SANITIZER\n========= Invalid __global__ read of size 4 bytes", "errors"),
        ("========= Error: Race reported between Write access", "errors"),
    ],
)
def test_a_sanitizer_that_was_stopped_is_believed_for_what_it_saw(words, found):
    assert stages._sanitized(Ended("timeout", words)) == found
    assert stages.failed("sanitise", {"memcheck": {"found": found}})
