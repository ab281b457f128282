"""A coverage-guided fuzzer at the Python border: ``run.py calls`` or ``run.py files``, then libFuzzer's options.

For example ``-runs=100000``, ``-max_total_time=600``, and a folder to keep inputs in.  Needs atheris.
"""

from __future__ import annotations

import importlib
import operator
import resource
import sys
from pathlib import Path
from typing import Any

import atheris
import numpy as np

_COMPARISONS = (operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge)  # as Python numbers them
_MOST_MEMORY = 6 * 2**30  # what a file or a view claims must not be taken for granted


def free_comparisons() -> None:
    """Work around atheris, which never frees the result of a comparison that it traces: of arrays, an array.

    To be called by what is fuzzed, because atheris puts the function there when it begins.
    """
    traced = atheris._trace_cmp

    def compare(left: Any, right: Any, which: int, counter: int, is_constant: bool) -> Any:
        if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
            return _COMPARISONS[which](left, right)
        return traced(left, right, which, counter, is_constant)

    if traced.__name__ != compare.__name__:
        atheris._trace_cmp = compare


if __name__ == "__main__":
    subject = sys.argv.pop(1)
    sys.path.insert(0, str(Path(__file__).parents[1]))
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    with atheris.instrument_imports(include=["pyfirstorder"]):
        check = importlib.import_module(f"fuzz.{subject}").check
        for name in ("loading", "models", "onnx_layers", "safetensors_layers"):  # otherwise imported when first used
            importlib.import_module(f"pyfirstorder.interop.{name}")
    options = ["-max_len=200", "-len_control=0", "-timeout=60"]

    def run(data: bytes) -> None:
        free_comparisons()
        check(bytes(data))

    atheris.Setup([sys.argv[0], *options, *sys.argv[1:]], run)
    atheris.Fuzz()
