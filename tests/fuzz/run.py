"""A coverage-guided fuzzer at the Python border: ``run.py calls`` or ``run.py files``, then libFuzzer's options.

For example ``-runs=100000``, ``-max_total_time=600``, and a folder to keep inputs in.  Needs atheris.
"""

from __future__ import annotations

import importlib
import resource
import sys
from pathlib import Path

import atheris

_MOST_MEMORY = 6 * 2**30  # what a file or a view claims must not be taken for granted

if __name__ == "__main__":
    subject = sys.argv.pop(1)
    sys.path.insert(0, str(Path(__file__).parents[1]))
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    with atheris.instrument_imports(include=["pyfirstorder"]):
        check = importlib.import_module(f"fuzz.{subject}").check
        for name in ("loading", "models", "onnx_layers", "safetensors_layers"):  # otherwise imported when first used
            importlib.import_module(f"pyfirstorder.interop.{name}")
    options = ["-max_len=200", "-len_control=0", "-timeout=60"]
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:]], lambda data: check(bytes(data)) and None)
    atheris.Fuzz()
