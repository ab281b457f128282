"""Gates on the compiled kernels: what must not spill does not, and what spills does so no more than it did.

Local memory (stack and spills) is main memory: in a product's inner loop it would cost more than all else.  Kernels on
rows wait for main memory anyway, and theirs lies in the first cache; their entries in `LOCAL_MEMORY` are what they need
today beside 128 registers, to be lowered and never raised without a reason beside them.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cuda_compiler import (
    ARCHITECTURES,
    FROM_PTX,
    HOPPER,
    SOURCE,
    Kernel,
    compiled,
    functions_in,
    kernels_in,
    loops_in,
    needed,
    plain_name,
    products_in_machine_code,
    release,
)

MOST_REGISTERS = 128  # of 256 threads: two blocks fit a processor's 65,536
MEASURED_WITH = "13.0"  # release of nvcc

# Bytes of stack, of spill stores and of spill loads, the most of both types and all architectures; zero for all others.
# In the resident kernels and for placed points that is sm_120's.
LOCAL_MEMORY = {
    # all of a step of a row in one loop, around pointers to some twenty arrays: spilled where it begins, and read back
    # where a part of the step wants them
    "StepRows": (472, 824, 1876),
    "StepHidden": (112, 144, 112),
    # a start, a projection, a search of its threshold, and the slot that all of this fills
    "BeginRows": (176, 140, 112),
    "BeginDeferred": (192, 140, 116),
    "PlaceBest": (112, 128, 120),
    "PlaceEnds": (112, 128, 120),
    "RandomStart": (80, 0, 0),
    # all of a step, and the products of few rows, in one kernel
    "ResidentSteps": (896, 1224, 4024),
    "ResidentHiddenSteps": (528, 612, 1244),
    # places of the four largest logits of dlr, indexed
    "Losses": (32, 0, 0),
    "TakeLosses": (64, 28, 20),
    "HiddenToSignal": (32, 0, 0),
    "SettleEnds": (32, 0, 0),
    "SettleBest": (32, 0, 0),
    "HiddenLosses": (32, 0, 0),
    "HiddenValues": (32, 0, 0),
    "TakeBest": (32, 0, 0),
    "TakeEnds": (32, 0, 0),
}
MOST_BYTES_OF_ARRAYS = 40  # in local memory before registers are allotted: those of dlr, and of cos of a large double
TENSOR_PRODUCT, HOPPER_PRODUCT = "TensorProduct", "HopperProduct"
TENSOR_PTX = re.compile(r"\b(?:mma\.sync|wgmma\.mma_async)")
TENSOR_MACHINE_CODE = re.compile(r"\bH[G]?MMA\b")


@pytest.fixture(scope="session")
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Compiled once, and kept until a source changes."""
    cache = getattr(request.config, "cache", None)
    return compiled(cache.mkdir("cuda_kernels") if cache else tmp_path_factory.mktemp("cuda_kernels"))


@pytest.fixture
def hopper_folder(folders: dict[str, Path]) -> Path:
    return folders[HOPPER]


@pytest.fixture(params=[name for name in ARCHITECTURES if name != HOPPER])
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


@pytest.fixture(params=[name for name in (*ARCHITECTURES, *FROM_PTX) if name != HOPPER])
def folder_of_any(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    """Also of GPUs whose drivers compile the PTX."""
    if request.param not in folders:
        pytest.skip(f"this ptxas does not know {request.param}")
    return folders[request.param]


@pytest.fixture
def kernels(folder_of_any: Path) -> list[Kernel]:
    found = kernels_in((folder_of_any / "ptxas.txt").read_text(encoding="utf-8"))
    assert len(found) >= 10
    return found


def is_product(name: str) -> bool:
    return "Product" in name


def source_defines_tensor_products() -> bool:
    texts = (path.read_text(encoding="utf-8") for path in SOURCE.parent.iterdir())
    return any(re.search(rf"\b(?:struct|class) {TENSOR_PRODUCT}\b", text) for text in texts)


def test_products_use_no_local_memory(kernels):
    products = [kernel for kernel in kernels if is_product(kernel.name)]
    assert {"TensorProduct<1>", "TensorProduct<3>", "Product<double>"} <= {kernel.name for kernel in products}
    assert [kernel for kernel in products if kernel.stack or kernel.spill_stores or kernel.spill_loads] == []


def test_no_kernel_takes_more_registers_than_let_two_blocks_run(kernels):
    assert [kernel for kernel in kernels if kernel.registers > MOST_REGISTERS] == []


def test_local_memory_of_kernels_on_rows_does_not_grow(kernels):
    found = release(needed()["nvcc"])
    if found != MEASURED_WITH:
        pytest.skip(f"its figures are those of nvcc {MEASURED_WITH}, and here is {found}")
    names = {kernel.name.partition("<")[0] for kernel in kernels}
    assert set(LOCAL_MEMORY) <= names, "a kernel that is no more still has an entry"
    for kernel in kernels:
        allowed = LOCAL_MEMORY.get(kernel.name.partition("<")[0], (0, 0, 0))
        used = (kernel.stack, kernel.spill_stores, kernel.spill_loads)
        assert all(have <= most for have, most in zip(used, allowed)), f"{kernel}: allowed {allowed}"


def test_what_a_kernel_knows_of_its_rows_is_in_registers_until_they_are_allotted(folder):
    """It is in memory as a whole where a function that is not inlined, or a pointer within it, wants its address."""
    ptx = (folder / "engine.ptx").read_text(encoding="utf-8")
    assert max(map(int, re.findall(r"__local_depot\d+\[(\d+)\]", ptx))) <= MOST_BYTES_OF_ARRAYS
    assert re.findall(r"^\.func .*pyfirstorder.*$", ptx, flags=re.MULTILINE) == []


def test_products_read_and_write_no_local_memory_in_ptx(folder):
    products = {
        name: text
        for name, text in functions_in((folder / "engine.ptx").read_text(encoding="utf-8")).items()
        if is_product(name)
    }
    assert products
    assert [name for name, text in products.items() if re.search(r"\b(?:ld|st)\.local\b", text)] == []


def test_products_read_and_write_no_local_memory_in_machine_code(folder_of_any):
    products = products_in_machine_code(folder_of_any / "engine.cubin")
    assert products
    assert all("FFMA" in text or "DFMA" in text or TENSOR_MACHINE_CODE.search(text) for text in products.values())
    assert [name for name, text in products.items() if re.search(r"\b(?:LDL|STL)\b", text)] == []


# Instructions of the loop over the depth for each that multiplies, at most; the rest is loads, sums and addresses.
INSTRUCTIONS_A_PRODUCT = {
    ("TensorProduct<3>", "HMMA"): 4.5,
    ("TensorProduct<1>", "HMMA"): 5.5,
    ("Product<double>", "DFMA"): 1.9,
}
DEPTH_OF_A_PIECE = 16  # of the loop within that of Product<double>


@pytest.mark.parametrize(("kernel", "instruction"), INSTRUCTIONS_A_PRODUCT)
def test_the_loops_of_products_do_little_beside_multiplying(folder, kernel, instruction):
    found = release(needed()["nvcc"])
    if found != MEASURED_WITH:
        pytest.skip(f"its figures are those of nvcc {MEASURED_WITH}, and here is {found}")
    loops = loops_in(products_in_machine_code(folder / "engine.cubin")[kernel])
    inner, *others = sorted((loop for loop in loops if sum(instruction in each for each in loop) >= 16), key=len)
    products, instructions = sum(instruction in each for each in inner), len(inner)
    if others:  # the pieces, and within them the depth
        (outer,) = others
        products, instructions = DEPTH_OF_A_PIECE * products, len(outer) + (DEPTH_OF_A_PIECE - 1) * instructions
    assert instructions / products <= INSTRUCTIONS_A_PRODUCT[kernel, instruction]


def test_what_only_new_drivers_know_is_not_in_the_way_of_the_others(folder):
    """A function of theirs, in whose absence what names it does not load: device_loop.cu is compiled apart."""
    assert ".extern .func" not in (folder / "engine.ptx").read_text(encoding="utf-8")


if_tensor_products = pytest.mark.skipif(
    not SOURCE.exists() or not source_defines_tensor_products(), reason=f"the source defines no {TENSOR_PRODUCT} yet"
)


@if_tensor_products
def test_tensor_products_ask_for_tensor_cores_in_ptx(folder):
    ptx = functions_in((folder / "engine.ptx").read_text(encoding="utf-8"))
    products = {name: text for name, text in ptx.items() if TENSOR_PRODUCT in name}
    assert products, "the source defines tensor products, and no kernel is one"
    assert [name for name, text in products.items() if not TENSOR_PTX.search(text)] == []


@if_tensor_products
def test_tensor_products_are_computed_by_tensor_cores_in_machine_code(folder):
    listed = products_in_machine_code(folder / "engine.cubin")
    products = {name: text for name, text in listed.items() if TENSOR_PRODUCT in name}
    assert products
    assert [name for name, text in products.items() if not TENSOR_MACHINE_CODE.search(text)] == []


# ------------------------------------------------------------------ products of Hopper GPUs

# Beyond them a processor's 65,536 registers do not hold the blocks that shared memory holds: one, or two.
HOPPER_REGISTERS = {f"{HOPPER_PRODUCT}<1>": 96, f"{HOPPER_PRODUCT}<3>": 200}  # of 320 threads
WIDE_PRODUCTS = {f"{HOPPER_PRODUCT}<1>": 5, f"{HOPPER_PRODUCT}<3>": 3}  # four of a stage and the depth's end; terms
WGMMA = re.compile(r"\bwgmma\.mma_async\.sync\.aligned\.m64n128k16\.f32\.f16\.f16\b")
# A factor that was copied by threads must be shown to the engine that reads it, and barriers to the one that writes.
FENCES = ("fence.proxy.async.shared::cta", "fence.mbarrier_init.release.cluster", "wgmma.fence.sync.aligned")


def test_products_of_hopper_gpus_use_no_local_memory_and_leave_registers_for_their_neighbours(hopper_folder):
    kernels = kernels_in((hopper_folder / "ptxas.txt").read_text(encoding="utf-8"))
    assert {kernel.name for kernel in kernels} == set(HOPPER_REGISTERS)
    assert [kernel for kernel in kernels if kernel.stack or kernel.spill_stores or kernel.spill_loads] == []
    assert [kernel for kernel in kernels if kernel.registers > HOPPER_REGISTERS[kernel.name]] == []


def test_products_of_hopper_gpus_are_not_made_to_wait_for_each_other(hopper_folder):
    """ptxas says so where it must: C7510, C7520 and their like."""
    report = (hopper_folder / "ptxas.txt").read_text(encoding="utf-8")
    assert [line for line in report.splitlines() if "wgmma" in line or "Performance Loss" in line] == []


def test_products_of_hopper_gpus_are_those_of_warp_groups_in_ptx(hopper_folder):
    found = functions_in((hopper_folder / "hopper.ptx").read_text(encoding="utf-8"))
    assert {name: len(WGMMA.findall(text)) for name, text in found.items()} == WIDE_PRODUCTS
    for text in found.values():
        assert [fence for fence in FENCES if fence not in text] == []
        assert "cp.async.bulk.tensor.2d" in text
        assert not re.search(r"\b(?:ld|st)\.local\b", text)


def test_products_of_hopper_gpus_are_those_of_warp_groups_in_machine_code(hopper_folder):
    found = products_in_machine_code(hopper_folder / "hopper.cubin")
    assert {name: len(re.findall(r"\bHGMMA\b", text)) for name, text in found.items()} == WIDE_PRODUCTS
    assert [name for name, text in found.items() if re.search(r"\b(?:LDL|STL)\b", text)] == []


def test_waiting_products_would_be_noticed(tmp_path):
    report = (
        "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to ..."
    )
    (tmp_path / "ptxas.txt").write_text(report, encoding="utf-8")
    with pytest.raises(AssertionError):
        test_products_of_hopper_gpus_are_not_made_to_wait_for_each_other(tmp_path)


# ------------------------------------------------------------------ steps of few rows


@pytest.mark.parametrize("loop", ["Resident(?:Steps|Attack)", "Resident(?:HiddenSteps|Hidden)"])
def test_steps_on_chip_multiply_on_tensor_cores_and_wait_for_their_cluster(folder, loop):
    ptx = (folder / "engine.ptx").read_text(encoding="utf-8")
    functions = re.split(r"^(?=.*\.(?:entry|func)\b)", ptx, flags=re.MULTILINE)  # what is not inlined is one
    text = "".join(part for part in functions if re.search(f"{loop}If", part.partition("\n")[0]))
    assert TENSOR_PTX.search(text)
    assert ("barrier.cluster.wait" in text) == (folder.name != "sm_80")  # which has none


def test_no_kernel_adds_in_an_order_of_chance(folder):
    assert not re.search(r"\b(?:atom|red)\.", (folder / "engine.ptx").read_text(encoding="utf-8"))


# ------------------------------------------------------------------ what reads the reports

_MANGLED = (
    "_ZN12pyfirstorder3gpu46_GLOBAL__N__0fd7cb21_9_engine_cu_97f0f91b_57005entryINS0_8StepRowsIdEENS0_4CallIdEEEEvT0_"
)
_REPORT = f"""ptxas info    : 272 bytes gmem
ptxas info    : Compiling entry function '{_MANGLED}' for 'sm_90'
ptxas info    : Function properties for {_MANGLED}
    936 bytes stack frame, 96 bytes spill stores, 820 bytes spill loads
ptxas info    : Used 80 registers, used 0 barriers, 936 bytes cumulative stack size
"""


def test_a_report_of_ptxas_is_read():
    assert kernels_in(_REPORT) == [Kernel("StepRows<double>", "sm_90", 936, 96, 820, 80)]


def test_listings_are_cut_into_kernels():
    name = _MANGLED.replace("8StepRowsId", "13TensorProductIf")
    assert plain_name(name.replace("13TensorProductIf", "13TensorProductILi3E")) == "TensorProduct<3>"
    for start in (f'\t.section\t.text.{name},"ax",@progbits', f".visible .entry {name}("):
        listing = f"header HMMA\n{start}\n  /*0090*/ HMMA.16816.F32 R4, R8 ;\n"
        ((kernel, text),) = functions_in(listing).items()
        assert kernel == "TensorProduct<float>"
        assert TENSOR_MACHINE_CODE.search(text)
        assert "header" not in text


def test_loops_are_found_in_a_listing():
    lines = [".L_x_1:", "/*0000*/ MOV R1, R2 ;", ".L_x_2:", "/*0010*/ DFMA R4, R5 ;", "/*0020*/ @P0 BRA `(.L_x_2) ;"]
    lines += ["/*0030*/ BRA `(.L_x_3) ;", "/*0040*/ @P1 BRA `(.L_x_1) ;", ".L_x_3:", "/*0050*/ EXIT ;"]
    assert [len(loop) for loop in loops_in("\n".join(lines))] == [2, 5]
