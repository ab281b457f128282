"""What nvcc makes of the kernels: registers, stack and spills as ptxas reports them, PTX, and machine code.

The flags are the project's: CMake writes down how it would compile the sources of `SOURCES`, and only the architecture
is replaced.  All are compiled at once, to device code alone, and then what drivers of later GPUs would make of the PTX:
six minutes of processor time in all, most of it ptxas.  Results are kept in pytest's cache until a source changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "csrc" / "cuda" / "engine.cu"
HOPPER = "sm_90a"  # whose instructions no other architecture has
SOURCES = {"sm_80": SOURCE, "sm_90": SOURCE, HOPPER: SOURCE.with_name("hopper.cu")}
ARCHITECTURES = tuple(SOURCES)
PTX_OF = "sm_90"  # which is shipped, for the drivers of later GPUs
FROM_PTX = ("sm_100", "sm_120")
KNOWS_LATER = (12, 8)  # the first ptxas that does

# In place of pybind11, which adds nothing to how device code is compiled and need not be installed where tests run.
_PYBIND11 = """
function(pybind11_add_module name)
  set(sources ${ARGN})
  list(REMOVE_ITEM sources NO_EXTRAS)
  add_library(${name} MODULE ${sources})
endfunction()
"""
_ANY_VERSION = "set(PACKAGE_VERSION 99)\nset(PACKAGE_VERSION_COMPATIBLE TRUE)\n"


class Kernel(NamedTuple):
    """One kernel as ptxas compiled it; bytes."""

    name: str  # as in the source, with its type: StepRows<double>
    architecture: str
    stack: int
    spill_stores: int
    spill_loads: int
    registers: int


def tool(name: str) -> str | None:
    """A tool of CUDA: on the PATH, beside nvcc, or of a wheel of NVIDIA's."""
    nvcc = shutil.which("nvcc")
    beside = [Path(nvcc).resolve().parent, Path("/usr/local/cuda/bin")] if nvcc else []
    wheels = sorted(Path(sysconfig.get_path("purelib")).glob("nvidia/*/bin"))
    for folder in (None, *beside, *wheels):
        found = shutil.which(name, path=None if folder is None else str(folder))
        if found:
            return found
    return None


def needed() -> dict[str, str]:
    """nvcc and cmake, or a skip that says what is missing."""
    found = {name: shutil.which(name) for name in ("nvcc", "cmake")}
    if not SOURCE.exists():
        pytest.skip("the C++ sources are not here: an installed copy is tested")
    missing = [name for name, path in found.items() if path is None]
    if missing:
        pytest.skip(f"not on the PATH: {', '.join(missing)}")
    return {name: str(path) for name, path in found.items()}


def release(nvcc: str) -> str:
    """Such as 13.0."""
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"release (\d+\.\d+)", said)
    return found[1] if found else said


def compiled(kept: Path) -> dict[str, Path]:
    """Folders with `outputs` by architecture, made by the first of several processes that asks."""
    tools = needed()
    kept.mkdir(parents=True, exist_ok=True)
    folder = kept / _fingerprint(release(tools["nvcc"]))
    later = FROM_PTX if _version(release(tools["nvcc"])) >= KNOWS_LATER else ()
    folders = {architecture: folder / architecture for architecture in (*ARCHITECTURES, *later)}
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((folders[name] / output).exists() for name in folders for output in outputs(name)):
            for older in kept.iterdir():
                if older.is_dir() and older != folder:
                    shutil.rmtree(older)
            commands = _commands(tools["cmake"], folder / "cmake")
            _end({folders[name]: _start(commands[SOURCES[name]], name, folders[name]) for name in ARCHITECTURES})
            ptx = folders[PTX_OF] / outputs(PTX_OF)[1]
            _end({folders[name]: _start_from_ptx(ptx, name, folders[name]) for name in later})
    return folders


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("."))) if re.fullmatch(r"\d+\.\d+", text) else (0,)


def outputs(architecture: str) -> tuple[str, str, str]:
    """Names of ptxas's report, PTX and machine code."""
    stem = SOURCES[PTX_OF if architecture in FROM_PTX else architecture].stem
    return "ptxas.txt", f"{stem}.ptx", f"{stem}.cubin"


def _fingerprint(of_compiler: str) -> str:
    digest = hashlib.sha256(of_compiler.encode())
    for path in (ROOT / "CMakeLists.txt", *sorted((ROOT / "csrc").rglob("*.*")), Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _commands(cmake: str, folder: Path) -> dict[Path, list[str]]:
    """How the project compiles the kernels, by source."""
    stub = folder / "pybind11"
    stub.mkdir(parents=True, exist_ok=True)
    (stub / "pybind11Config.cmake").write_text(_PYBIND11, encoding="utf-8")
    (stub / "pybind11ConfigVersion.cmake").write_text(_ANY_VERSION, encoding="utf-8")
    settings = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_EXPORT_COMPILE_COMMANDS": "ON",
        "PYFIRSTORDER_CUDA": "ON",
        "pybind11_DIR": str(stub),
    }
    subprocess.run(
        [cmake, "-S", str(ROOT), "-B", str(folder), *(f"-D{name}={value}" for name, value in settings.items())],
        check=True,
        capture_output=True,
    )
    entries = json.loads((folder / "compile_commands.json").read_text(encoding="utf-8"))
    return {Path(entry["file"]): shlex.split(entry["command"]) for entry in entries}


def _start(command: list[str], architecture: str, folder: Path) -> subprocess.Popen[bytes]:
    """The same for the device alone, with ptxas's report."""
    kept = [word for word in command if not word.startswith("--generate-code") and word != "-c"]
    del kept[kept.index("-o") : kept.index("-o") + 2]
    # in full: of an architecture's short name some compilers make two, and the plain one knows less
    kept += ["-cubin", f"--generate-code=arch={architecture.replace('sm', 'compute')},code={architecture}"]
    kept += ["-Xptxas", "-v", "--keep", "--keep-dir", str(folder), "-o", str(folder / outputs(architecture)[2])]
    return _run(kept, folder)


def _start_from_ptx(ptx: Path, architecture: str, folder: Path) -> subprocess.Popen[bytes]:
    """What a driver's compiler would make of it, which is ptxas of the driver's own release."""
    ptxas = tool("ptxas")
    assert ptxas, "nvcc is here, and not its ptxas"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ptx.name).write_bytes(ptx.read_bytes())
    return _run([ptxas, f"-arch={architecture}", "-v", str(ptx), "-o", str(folder / outputs(architecture)[2])], folder)


def _run(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "errors.txt").open("wb") as errors:
        return subprocess.Popen(command, cwd=folder, stdout=errors, stderr=errors)


def _end(running: dict[Path, subprocess.Popen[bytes]]) -> None:
    """Wait for compilers, and keep what they say as ptxas's reports."""
    failed = [process.args for process in running.values() if process.wait()]
    assert not failed, f"a compiler failed: {failed}\n" + "\n".join(
        (each / "errors.txt").read_text(encoding="utf-8")[-4000:] for each in running
    )
    for each in running:
        (each / "errors.txt").replace(each / "ptxas.txt")


_REPORT = re.compile(
    r"Compiling entry function '(\S+)' for '(\w+)'\n.*\n\s*(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads\n.*Used (\d+) registers"
)


def kernels_in(report: str) -> list[Kernel]:
    """What ptxas -v says of every kernel."""
    return [Kernel(plain_name(name), arch, *map(int, sizes)) for name, arch, *sizes in _REPORT.findall(report)]


def plain_name(mangled: str) -> str:
    """``StepRows<double>`` or ``TensorProduct<3>`` of an instance of ``entry``; another kernel's name as it is."""
    found = re.search(r"entryI(?:NS\w*?_)?(\d+)(\D\w*)", mangled)
    if not found:
        return mangled
    name, rest = found[2][: int(found[1])], found[2][int(found[1]) :]
    number = re.match(r"ILi(\d+)E", rest)
    if number:
        return f"{name}<{number[1]}>"
    return name + {"If": "<float>", "Id": "<double>"}.get(rest[:2], "")


def functions_in(listing: str) -> dict[str, str]:
    """Texts by kernel, of PTX or of ``nvdisasm``; instances of one plain name together."""
    parts = re.split(r"^.*(?:\.entry |\.section\s+\.text\.)([\w$]+).*$", listing, flags=re.MULTILINE)
    texts: dict[str, str] = {}
    for name, text in zip(parts[1::2], parts[2::2]):
        texts[plain_name(name)] = texts.get(plain_name(name), "") + text
    return texts


def products_in_machine_code(cubin: Path) -> dict[str, str]:
    """The instructions of every product, or a skip.  Listings are large, so that those of products are kept."""
    kept = cubin.with_suffix(".products.json")
    if not kept.exists():
        nvdisasm = tool("nvdisasm")
        if nvdisasm is None:
            pytest.skip("nvdisasm is not here (pip install nvidia-cuda-nvdisasm)")
        said = subprocess.run([nvdisasm, "-c", str(cubin)], capture_output=True, text=True, check=True).stdout
        products = {name: text for name, text in functions_in(said).items() if "Product" in name}
        temporary = kept.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(products), encoding="utf-8")
        temporary.replace(kept)
    found: dict[str, str] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def loops_in(text: str) -> list[list[str]]:
    """The instructions of every loop of a kernel, as ``nvdisasm`` writes them: from a label to a jump back to it."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    loops = []
    for line in text.splitlines():
        if label := re.match(r"\s*(\.L_\w+):", line):
            labels[label[1]] = len(instructions)
        if instruction := re.match(r"\s*/\*[0-9a-f]{4,5}\*/\s+(.*?)\s*;", line):
            instructions.append(instruction[1])
            jump = re.search(r"\bBRA\b.*`\((\.L_\w+)\)", instruction[1])
            if jump and jump[1] in labels:
                loops.append(instructions[labels[jump[1]] :])
    return loops
