"""What must lie in a wheel, and what must not: contents.py WHEEL, run by an interpreter that has pyelftools."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

from elftools.elf.elffile import ELFFile

PACKAGE = Path(__file__).parents[2] / "pyfirstorder"


def check(wheel: Path) -> None:
    """Exit with the list of faults, if there are any."""
    faults = []
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        source = {
            str(path.relative_to(PACKAGE.parent)) for ending in ("py", "pyi") for path in PACKAGE.rglob(f"*.{ending}")
        }
        wanted = source | {"pyfirstorder/py.typed"}
        faults += [f"missing: {name}" for name in sorted(wanted - set(names))]
        metadata = [name for name in names if name.split("/")[0].endswith(".dist-info")]
        for licence in ("LICENSE", "pybind11.txt"):
            faults += [] if any(name.endswith(f"/{licence}") for name in metadata) else [f"missing: licence {licence}"]
        compiled = [name for name in names if name.endswith(".so")]
        faults += [] if any("/_cpu." in name for name in compiled) else ["missing: the compiled engine"]
        faults += [f"not for a wheel: {name}" for name in sorted(set(names) - wanted - set(metadata) - set(compiled))]
        for name in compiled:
            sections = {section.name for section in ELFFile(io.BytesIO(archive.read(name))).iter_sections()}
            debugging = sorted(section for section in sections if section == ".symtab" or section.startswith(".debug"))
            faults += [f"{name}: not stripped of {', '.join(debugging)}"] if debugging else []
    if faults:
        sys.exit("\n".join([f"error: {wheel.name}", *faults]))
    print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size:,} bytes, compiled: {', '.join(compiled)}")


check(Path(sys.argv[1]))
