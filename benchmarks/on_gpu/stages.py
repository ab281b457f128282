"""The stages in order: which process each is, how long it may take, and what is kept of it.

This module imports neither the package nor a framework: a build must be seen by the processes that come after it, and
what breaks in one of them must not end the others.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from on_gpu import counters
from on_gpu.results import Results

ROOT = Path(__file__).parents[2]
# Seconds that a stage may take; the shapes take what is left, but for what comes after them.
BUDGETS = {"device": 40, "build": 170, "tests": 100, "sanitise": 90, "ceilings": 30, "products": 40}
BUDGETS |= {"loops": 40, "shapes": 590, "counters": 35, "table": 15}
AFTER_SHAPES = ("counters", "table")
NAMES = tuple(BUDGETS)
ENVIRONMENT = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # JAX would take three quarters of the GPU's memory
    "PYTHONUNBUFFERED": "1",
    "CUDAFLAGS": "--threads=0",  # nvcc compiles for all architectures at once
}
TEST_PROCESSES = 6  # of pytest, on one GPU
PROGRESS = re.compile(r"^([.sFExX]+) *(?:\[ *\d+%\])?$", re.MULTILINE)
HOPPER = "9.0"  # its compute capability
SANITIZER_TOOLS = ("memcheck", "racecheck", "initcheck")
SANITIZER_FAILED = 97  # exit status that the sanitizer is asked for; others are the driver's own
SANITIZER_WORDS = re.compile(r"=+ +(?:Invalid|Uninitialized|Error:|Warning: Race|Misaligned)")
CLEAN, CUT_OFF = "clean", "no error before its time was over"
NOT_ASKED, DRY_RUN = "not asked for: --build", "a dry run"  # what may be missing though all is well
NO_TIME = "no time was left"
NOT_ALLOWED = "ERR_NVGPUCTRPERM"
MOST_RESTARTS = 5  # of the shapes, after contenders that took their process with them
TAIL = 2000  # characters of a process's last words that are kept


class Plan(NamedTuple):
    """How this run is done."""

    folder: Path
    dry_run: bool
    build: bool
    deadline: float  # of time.monotonic

    def seconds(self, name: str) -> float:
        """What the stage may take."""
        later = AFTER_SHAPES[AFTER_SHAPES.index(name) + 1 :] if name in AFTER_SHAPES else AFTER_SHAPES
        reserved = sum(BUDGETS[each] for each in later)
        return min(BUDGETS[name], self.deadline - time.monotonic() - reserved)


class Ended(NamedTuple):
    """A process's end: its status, "timeout" for one that was stopped, and what it said."""

    status: int | str
    words: str

    @property
    def well(self) -> bool:
        """Whether it ended by itself with 0."""
        return self.status == 0


def device_name() -> str | None:
    """The first GPU by its own name."""
    if shutil.which("nvidia-smi") is None:
        return None
    said = subprocess.run(
        ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return said.stdout.strip().partition("\n")[0] or None if said.returncode == 0 else None


def run(name: str, plan: Plan) -> dict[str, Any]:
    """One stage to its end, or to the end of its time."""
    if plan.seconds(name) <= 0:
        return {"missing": NO_TIME}
    return _STAGES[name](plan)


def call(command: list[str], seconds: float) -> Ended:
    """A process and all that it started, ended together when its time is over."""
    environment = os.environ | ENVIRONMENT
    if _is_built_here():  # what was built is used, wherever another copy is installed
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with subprocess.Popen(
        command,
        cwd=ROOT / "benchmarks",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=max(seconds, 0.1))
            status: int | str = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            status = "timeout"
    return Ended(status, said.decode(errors="replace"))


def _is_built_here() -> bool:
    return any((ROOT / "pyfirstorder" / "backends").glob("_c*.so"))


def _part(name: str, plan: Plan, *more: str) -> list[str]:
    """The command of a module of this package."""
    return [
        sys.executable,
        "-m",
        "on_gpu.part",
        name,
        str(plan.folder / f"{name}.json"),
        *(["--dry-run"] if plan.dry_run else []),
        *more,
    ]


def _plain(name: str) -> Any:
    """A stage that is one part, whose file holds the results."""

    def stage(plan: Plan) -> dict[str, Any]:
        path = plan.folder / f"{name}.json"
        path.unlink(missing_ok=True)
        ended = call(_part(name, plan), plan.seconds(name))
        return dict(Results(path, resumed=True)) | _how(ended)

    return stage


def _how(ended: Ended) -> dict[str, Any]:
    return {} if ended.well else {"ended": ended.status, "last_words": ended.words[-TAIL:]}


def _build(plan: Plan) -> dict[str, Any]:
    """The compiled modules, copied beside the backends of this tree."""
    if not plan.build:
        return {"missing": NOT_ASKED}
    folder = ROOT / "build" / "gpu"
    where = subprocess.run(
        [sys.executable, "-m", "pybind11", "--cmakedir"], capture_output=True, text=True, check=False
    )
    settings = ["-DCMAKE_BUILD_TYPE=Release", f"-DPYFIRSTORDER_CUDA={'OFF' if plan.dry_run else 'ON'}"]
    settings += [f"-DPython_EXECUTABLE={sys.executable}"]
    settings += [f"-Dpybind11_DIR={where.stdout.strip()}"] if where.returncode == 0 else []
    for command in (
        ["cmake", "-S", str(ROOT), "-B", str(folder), *settings],
        ["cmake", "--build", str(folder), "--parallel", str(os.cpu_count())],
    ):
        if shutil.which(command[0]) is None:
            return {"missing": f"{command[0]} is not on the PATH"}
        ended = call(command, plan.seconds("build"))
        if not ended.well:
            return _how(ended)
    built = sorted(folder.glob("_c*.so"))
    for module in built:
        shutil.copy2(module, module.with_suffix(".copy"))
        module.with_suffix(".copy").replace(ROOT / "pyfirstorder" / "backends" / module.name)
    return {"built": [module.name for module in built]}


def _tests(plan: Plan) -> dict[str, Any]:
    """Counts of pytest -m gpu."""
    counts = plan.folder / "tests.xml"
    counts.unlink(missing_ok=True)
    plan.folder.mkdir(parents=True, exist_ok=True)
    # in a dry run nothing carries the marker that could run: a few tests are enough to see counts
    chosen = (
        [str(ROOT / "tests" / "test_random_start.py"), "-k", "cuda"]
        if plan.dry_run
        else ["-m", "gpu", str(ROOT / "tests")]
    )
    options = ["-q", "--rootdir", str(ROOT), "-p", "no:cacheprovider", f"--junitxml={counts}"]
    if importlib.util.find_spec("xdist") and not plan.dry_run:
        options += ["-n", str(TEST_PROCESSES)]
    ended = call([sys.executable, "-m", "pytest", *options, *chosen], plan.seconds("tests"))
    if not counts.exists():
        return _counted_so_far(ended) | _how(ended)
    found: dict[str, Any] = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for suite in ElementTree.parse(counts).getroot().iter("testsuite"):
        for name in found:
            found[name] += int(suite.get(name, 0))
    found["passed"] = found["tests"] - found["failures"] - found["errors"] - found["skipped"]
    return found | _how(ended)


def _counted_so_far(ended: Ended) -> dict[str, Any]:
    """Of a run that was stopped: the marks of its progress."""
    marks = "".join(PROGRESS.findall(ended.words))
    if not marks:
        return {"missing": "pytest left no counts"}
    found = {name: marks.count(mark) for name, mark in (("passed", "."), ("failures", "F"), ("errors", "E"))}
    return found | {"skipped": marks.count("s"), "remark": "stopped before all had run"}


def _sanitise(plan: Plan) -> dict[str, Any]:
    """Every tool of compute-sanitizer on the small calls; where it is not installed, the calls alone."""
    sanitizer = None if plan.dry_run else shutil.which("compute-sanitizer")
    if sanitizer is None:
        reason = DRY_RUN if plan.dry_run else "compute-sanitizer is not on the PATH"
        ended = call(_part("small_calls", plan), plan.seconds("sanitise"))
        return {"missing": reason, "calls_without_it": ended.status, **_how(ended)}
    results = Results(plan.folder / "sanitise.json")
    end = time.monotonic() + plan.seconds("sanitise")
    runs = [(tool, "generic") for tool in SANITIZER_TOOLS]
    gpu = Results(plan.folder / "device.json", resumed=True).get("gpu")
    if isinstance(gpu, dict) and gpu.get("compute_cap") == HOPPER:  # whose products copy and wait in their own way
        runs.append(("memcheck", "hopper"))
    for index, (tool, products) in enumerate(runs):
        share = (end - time.monotonic()) / (len(runs) - index)
        calls = _part("small_calls", plan, "--products", products)
        ended = call([sanitizer, "--tool", tool, "--error-exitcode", str(SANITIZER_FAILED), *calls], share)
        results[f"{tool}, {products} products"] = {"found": _sanitized(ended), **_how(ended)}
    return dict(results)


def _sanitized(ended: Ended) -> str:
    """What a tool found; one that was stopped has said in its last words what it saw before."""
    if ended.status == "timeout":
        return "errors" if SANITIZER_WORDS.search(ended.words) else CUT_OFF
    return {0: CLEAN, SANITIZER_FAILED: "errors"}.get(int(ended.status), f"ended with {ended.status}")


def _shapes(plan: Plan) -> dict[str, Any]:
    """The shapes; a contender that ends its process is marked, and another process goes on after it."""
    path = plan.folder / "shapes.json"
    path.unlink(missing_ok=True)
    ends: list[dict[str, Any]] = []
    for _ in range(MOST_RESTARTS):
        seconds = plan.seconds("shapes")
        more = ("--seconds", f"{seconds - 5:.1f}", "--products", products_of(plan.folder))
        ended = call(_part("shapes", plan, *more), seconds)
        results = Results(path, resumed=True)
        if ended.well or ended.status == "timeout" or "running" not in results:
            break
        ends.append({"running": results["running"], **_how(ended)})
        results["died"] = [*results.get("died", []), [*results.pop("running"), str(ended.status)]]
    if not ended.well:
        ends.append(_how(ended))
    return dict(Results(path, resumed=True)) | ({"ends": ends} if ends else {})


def _counters(plan: Plan) -> dict[str, Any]:
    """What bounds the kernels of each shape, by the profiler's counters."""
    calls = _part("counted_calls", plan, "--products", products_of(plan.folder))
    profiler = None if plan.dry_run else shutil.which("ncu")
    if profiler is None:
        ended = call(calls, plan.seconds("counters"))
        reason = DRY_RUN if plan.dry_run else "ncu is not on the PATH"
        return {"missing": reason, "calls_without_it": ended.status, **_how(ended)}
    results = Results(plan.folder / "counters.json")
    ended = call(counters.command(profiler, calls), plan.seconds("counters"))
    results["shapes"] = counters.by_shape(ended.words)
    if NOT_ALLOWED in ended.words:  # most machines let nobody but their administrator count
        return {"missing": f"ncu may not count here: {NOT_ALLOWED}"}
    return dict(results) | _how(ended)


def products_of(folder: Path) -> str:
    """Those of Hopper GPUs where they were found to have the bits of the generic ones, to the end of their stage."""
    return "hopper" if Results(folder / "products.json", resumed=True).get("agree") else "generic"


_STAGES = {
    "device": _plain("device"),
    "build": _build,
    "tests": _tests,
    "sanitise": _sanitise,
    "ceilings": _plain("ceilings"),
    "products": _plain("products"),
    "loops": _plain("loops"),
    "shapes": _shapes,
    "counters": _counters,
    "table": _plain("table"),
}


def summary(name: str, outcome: dict[str, Any]) -> str:
    """A line for the terminal."""
    if "missing" in outcome:
        return f"missing: {outcome['missing']}"
    if "ended" in outcome and name != "tests":
        return f"ended with {outcome['ended']}: ...{outcome['last_words'][-300:]}"
    if name == "table":
        return "\n" + outcome.get("text", "nothing to compare")
    if name == "shapes":
        return f"{len(outcome.get('shapes', {}))} shapes, {len(outcome.get('died', []))} contenders died"
    if name == "counters":
        return f"kernels of {len(outcome['shapes'])} shapes"
    return ", ".join(f"{key} {_short(value)}" for key, value in outcome.items() if key != "last_words")


def _short(value: Any) -> str:
    """A result in a few words: the first entry of a dictionary, a rate in units of 10¹²."""
    if isinstance(value, dict):
        value = next(iter(value.values()), "")
    return f"{value / 1e12:.3g}e12" if isinstance(value, float) else str(value)


def failed(name: str, outcome: Any) -> bool:
    """Whether something of ours is wrong, or was not seen to be right: missed targets are no failure.

    A stage that was not begun or did not end by itself proves nothing, whatever it had seen by then.
    """
    return outcome.get("missing") == NO_TIME or "ended" in outcome or _wrong(name, outcome)


def _wrong(name: str, outcome: Any) -> bool:
    """Whether what a stage found to its end is wrong, or is nothing."""
    if name == "build":
        return outcome.get("missing", NOT_ASKED) != NOT_ASKED
    if name == "tests":
        return bool(not outcome.get("passed") or outcome.get("failures") or outcome.get("errors"))
    if name in ("products", "loops"):
        kinds = [each for each in outcome.values() if isinstance(each, dict)]
        return not all(each["same_bits"] for each in kinds)
    if name == "sanitise":
        found = [each["found"] for each in outcome.values() if isinstance(each, dict)]
        return outcome.get("missing") != DRY_RUN and (not found or any(each != CLEAN for each in found))
    if name == "shapes":
        entries = [entry for shape in outcome.get("shapes", {}).values() for entry in shape["entries"]]
        return any(entry["ours"] and entry["missing"].startswith(("wrong", "failed")) for entry in entries)
    return False
