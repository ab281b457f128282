"""The directions of docs/architecture.md, read from the include and import lines, and lists that two files share."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from support import ACTIVATION_NAMES, LOSS_NAMES, every_backend, make_problem

import pyfirstorder as fo
from pyfirstorder import backends, problem
from pyfirstorder.backends.reference.activations import ACTIVATIONS
from pyfirstorder.backends.reference.losses import LOSSES

PACKAGE = Path(fo.__file__).parent
SOURCES = Path(__file__).parents[1] / "csrc"
MOST_LINES = 400

MODULES = {
    ".".join(("pyfirstorder", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
NATIVE = sorted(path for path in SOURCES.rglob("*") if path.suffix in {".hpp", ".cpp", ".cu", ".cuh", ".h"})
needs_sources = pytest.mark.skipif(not NATIVE, reason="the C++ sources are not here: an installed copy is tested")

# What each layer of csrc may include, besides itself.
MAY_INCLUDE = {
    "core": set(),
    "rows": {"core"},
    "cpu": {"core", "rows"},
    "cuda": {"core", "rows"},
    "bind": {"core", "cpu", "cuda"},
}
# Modules that others may not import: the layers above them.
ABOVE_API = (
    *("__main__", "cli", "endings", "options", "blockwise", "unfinished", "records", "bench", "training", "dynamics"),
    *("interop", "datasets", "plots", "experiments"),
)
# What backends may import of the package; every other module stands above them, also one that is new.
BELOW_BACKENDS = ("problem", "backends")


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, at run time or for its types."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else node.module for name in inner}
    return {name for name in found if name in MODULES}


def layer(name: str) -> str:
    """``pyfirstorder.backends.cpu`` is of the layer ``backends``."""
    return name.split(".")[1] if "." in name else ""


@pytest.mark.parametrize("name", [name for name in MODULES if layer(name) == "backends"])
def test_backends_import_nothing_above_them(name):
    assert not {other for other in imports(MODULES[name]) if layer(other) not in BELOW_BACKENDS}


@pytest.mark.parametrize("name", [name for name in MODULES if name.count(".") >= 2 and layer(name) == "backends"])
def test_backends_import_only_the_reference_and_themselves(name):
    own = name.split(".")[2]
    others = {other.split(".")[2] for other in imports(MODULES[name]) if other.count(".") >= 2}
    assert others <= {own, "reference", "gpu"}  # gpu is what the backends of a GPU share


@pytest.mark.parametrize("name", [name for name in MODULES if layer(name) not in (*ABOVE_API, "")])
def test_the_library_imports_none_of_its_users(name):
    assert not {other for other in imports(MODULES[name]) if layer(other) in ABOVE_API or other == "pyfirstorder"}


def test_the_vocabulary_imports_nothing_of_the_package():
    assert not imports(MODULES["pyfirstorder.problem"])


def imported_at_once(path: Path) -> set[str]:
    """Modules, of this package or others, that the first lines of a file import when it is imported itself."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else node.module for name in inner}
    return found


def loaded_with_the_package() -> set[str]:
    """The modules of the package that importing it imports, one through the other."""
    seen, waiting = set(), {"pyfirstorder"}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        waiting |= {other for other in imported_at_once(MODULES[name]) if other in MODULES} - seen
    return seen


def test_only_numpy_is_needed_to_import_the_package():
    loaded = loaded_with_the_package()
    assert {f"pyfirstorder.{name}" for name in ("ascent", "attacks", "config", "progress", "validate")} <= loaded
    for name in loaded:
        for found in imported_at_once(MODULES[name]):
            top = found.split(".")[0]
            assert top in {"numpy", "pyfirstorder"} or top in sys.stdlib_module_names, f"{name}: {found}"


@pytest.mark.parametrize("name", [name for name in MODULES if name != "pyfirstorder.backends.cpu"])
def test_modules_of_optional_packages_say_what_to_install(name):
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    guarded = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.Try) for inner in ast.walk(node)}
    plain = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom)) and id(node) not in guarded]
    tops = {(node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0] for node in plain}
    own = {"numba"} if name.startswith("pyfirstorder.backends.numba") else set()
    assert tops <= {"numpy", "pyfirstorder", *sys.stdlib_module_names} | own


@needs_sources
@pytest.mark.parametrize("path", NATIVE, ids=lambda path: str(path.relative_to(SOURCES)))
def test_includes_point_downwards(path):
    own = path.relative_to(SOURCES).parts[0]
    for included in re.findall(r'^\s*#\s*include\s*"([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE):
        target = included.split("/")[0] if "/" in included else own
        target = Path(included).parts[1] if included.startswith("../") else target
        assert target in MAY_INCLUDE[own] | {own}, f"{own} includes {included}"


@needs_sources
@pytest.mark.parametrize("path", NATIVE, ids=lambda path: str(path.relative_to(SOURCES)))
def test_only_the_binding_knows_python(path):
    if path.relative_to(SOURCES).parts[0] != "bind":
        assert not re.search(r"#\s*include\s*<(pybind11|Python\.h)", path.read_text(encoding="utf-8"))


@needs_sources
@pytest.mark.parametrize("path", [p for p in NATIVE if "core" in p.parts], ids=lambda path: path.name)
def test_the_core_knows_no_memory_and_no_threads(path):
    headers = set(re.findall(r"#\s*include\s*<([^>]+)>", path.read_text(encoding="utf-8")))
    assert not headers & {"vector", "string", "map", "memory", "new", "thread", "mutex", "atomic", "iostream"}


@pytest.mark.parametrize("path", [*MODULES.values(), *NATIVE], ids=lambda path: path.name)
def test_no_file_is_too_long_to_have_one_subject(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


# ------------------------------------------------------------------ lists that must agree


@every_backend
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_every_backend_has_every_activation(backend, activation):
    made = make_problem(activation=activation)
    assert np.isfinite(backend.forward(made.weights, made.x, 1)).all()


@every_backend
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_every_backend_has_every_loss(backend, loss):
    made = make_problem(loss=loss)
    assert np.isfinite(backend.input_gradient(made.weights, made.x, made.objective, 1)[0]).all()


@pytest.mark.parametrize(("listed", "names"), [("activations", ACTIVATIONS), ("losses", LOSSES)])
def test_the_native_engine_has_the_names_of_the_specification_in_its_order(listed, names):
    engine = pytest.importorskip("pyfirstorder.backends._cpu", reason="the native engine is not installed")
    assert list(getattr(engine, listed)()) == list(names)


@needs_sources
@pytest.mark.parametrize("names", [problem.NORMS, problem.DIRECTIONS, problem.STARTS])
def test_the_native_engine_spells_every_name_of_the_specification(names):
    strings = set()
    for path in NATIVE:
        strings |= set(re.findall(r'"(\w+)"', path.read_text(encoding="utf-8")))
    assert set(names) <= strings


@pytest.mark.parametrize("name", backends.names())
def test_every_backend_of_the_registry_has_a_module(name):
    assert f"pyfirstorder.backends.{name}" in MODULES


@every_backend
def test_every_backend_has_the_operations_of_the_protocol(backend):
    for name in ("forward", "input_gradient", "project", "random_start", "attack"):
        wanted = list(inspect.signature(getattr(backends.Backend, name)).parameters)[1:]
        assert list(inspect.signature(getattr(backend, name)).parameters) == wanted


# ------------------------------------------------------------------ documentation


@pytest.mark.parametrize("name", [name for name in fo.__all__ if not name.startswith("__")])
def test_every_public_name_is_documented(name):
    documentation = inspect.getdoc(getattr(fo, name))
    assert documentation
    assert len(documentation.splitlines()[0]) > 10


FUNCTIONS = [name for name in fo.__all__ if inspect.isfunction(getattr(fo, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_of_a_public_function_is_documented(name):
    function = getattr(fo, name)
    documentation = inspect.getdoc(function)
    same = re.search(r"Parameters are those of `(\w+)`", documentation)
    if same:
        documentation = inspect.getdoc(getattr(fo, same[1]))
    parameters = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    listed = set()
    for line in documentation.splitlines():
        if not line.startswith(" "):
            listed |= set(re.findall(r"\w+", line.split(":")[0]))
    assert {parameter.name for parameter in parameters} <= listed


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_shows_an_example(name):
    assert ">>> " in inspect.getdoc(getattr(fo, name))


def test_every_public_name_exists_and_is_listed_once():
    assert sorted(set(fo.__all__)) == sorted(fo.__all__)
    assert all(hasattr(fo, name) for name in fo.__all__)
