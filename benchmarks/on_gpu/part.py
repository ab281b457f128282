"""One part of benchmarks/gpu.py in a process of its own: python -m on_gpu.part NAME FILE [options]."""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path

from on_gpu.results import Results

PARTS = {
    "device": "on_gpu.machine:device",
    "small_calls": "on_gpu.small_calls:run",
    "ceilings": "on_gpu.machine:ceilings",
    "products": "on_gpu.products:run",
    "loops": "on_gpu.loops:run",
    "shapes": "on_gpu.measure:run",
    "counted_calls": "on_gpu.counters:run",
    "table": "on_gpu.table:run",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=PARTS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument(
        "--products", default="generic", help="of tensor cores, as PYFIRSTORDER_GPU_PRODUCTS names them"
    )
    given = parser.parse_args()
    os.environ["PYFIRSTORDER_GPU_PRODUCTS"] = given.products
    if given.dry_run:
        from on_gpu import stand_ins

        stand_ins.install()
    module, _, function = PARTS[given.name].partition(":")
    part = getattr(importlib.import_module(module), function)
    part(Results(given.file, resumed=given.name == "shapes"), dry_run=given.dry_run, seconds=given.seconds)


if __name__ == "__main__":
    main()
