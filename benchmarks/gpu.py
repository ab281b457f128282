"""Everything that needs a GPU, in one command and under ten minutes: builds, tests, sanitises, measures, compares.

    python benchmarks/gpu.py [--build] [--output FOLDER]   # on a machine with a GPU
    python benchmarks/gpu.py --dry-run                     # anywhere: tiny shapes, stand-ins for CuPy and the kernels

Stages, each a process of its own with a budget of time, so that a crash or a long wait costs no other stage its result:

1. device: the GPU, its driver, and the versions of what takes part
2. build (with --build): the package by CMake, into this source tree, which is then used before an installed copy
3. tests: pytest -m gpu
4. sanitise: compute-sanitizer's memcheck, racecheck and initcheck on every operation, norm and type, sizes 1 to 33
   (memcheck on the products of Hopper GPUs, too)
5. ceilings: products in fp16, bf16, tf32 and fp32, and memory bandwidth
6. products: those of Hopper GPUs beside the generic ones: their bits, and what both reach in two of the shapes
7. loops: steps launched by the host, or by the device in a graph with a condition, beside all steps in one resident
   kernel: their bits, what a step takes, and which of them the engine would choose
8. shapes: the seven shapes of the targets against torch, JAX and CuPy; same steps, same start, answers checked; with
   Hopper's products where stage 6 found no bit that differs
9. counters: what bounds each kernel of each shape, by Nsight Compute (ncu), where it is installed and may count
10. table: ratios beside targets, met or not; Markdown and a picture

Results lie in benchmarks/results/<device>.<day>/, whose files are listed in benchmarks/results/README.md: report.json
holds every stage that has ended, and each stage's own file what it had when it ended or was cut off.  What is missing
(a library, a tool, a mode) is listed with its reason.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import re
import sys
import tempfile
import time
from pathlib import Path

from on_gpu import stages
from on_gpu.results import Results

MOST_SECONDS = 590.0
RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> int:
    """Run the stages; the exit status is 1 where a test or sanitizer failed or was cut off, or an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", action="store_true", help="build the package first (CMake, nvcc, pybind11)")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on stand-ins: tests the command itself")
    parser.add_argument("--only", default="", help=f"stages, with commas: {', '.join(stages.NAMES)}; all if empty")
    parser.add_argument("--seconds", type=float, default=MOST_SECONDS, help="for all stages together")
    parser.add_argument("--output", type=Path, help="folder of the results")
    given = parser.parse_args(arguments)
    chosen = [name for name in given.only.split(",") if name] or list(stages.NAMES)
    unknown = set(chosen) - set(stages.NAMES)
    if unknown:
        parser.error(f"--only: expected stages out of {', '.join(stages.NAMES)}, got {', '.join(sorted(unknown))}")
    device = "dry run" if given.dry_run else stages.device_name()
    if device is None:
        parser.error("nvidia-smi shows no GPU here; --dry-run runs the stages on stand-ins")
    folder = given.output or _folder(device, given.dry_run)
    plan = stages.Plan(folder, given.dry_run, given.build, time.monotonic() + given.seconds)
    report = Results(folder / "report.json")
    for name in stages.NAMES:
        if name in chosen:
            print(f"{name} ...", flush=True)
            begin = time.monotonic()
            outcome = stages.run(name, plan)
            report[name] = outcome | {"seconds_of_stage": round(time.monotonic() - begin, 1)}
            print(f"{name}: {stages.summary(name, outcome)}", flush=True)
    print(f"results: {folder}")
    failed = [name for name, outcome in report.items() if stages.failed(name, outcome)]
    if failed:
        print(f"failed or incomplete: {', '.join(failed)}")
    return int(bool(failed))


def _folder(device: str, dry_run: bool) -> Path:
    if dry_run:
        return Path(tempfile.mkdtemp(prefix="gpu-dry-run-"))
    return new_folder(RESULTS, device, datetime.datetime.now(datetime.timezone.utc).date())


def new_folder(among: Path, device: str, day: datetime.date) -> Path:
    """A folder of the device and the day that is not there yet, so that no run replaces the figures of another."""
    name = f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', device)}.{day.isoformat()}"
    numbered = (name if run == 1 else f"{name}.{run}" for run in itertools.count(1))
    return next(among / each for each in numbered if not (among / each).exists())


if __name__ == "__main__":
    sys.exit(main())
