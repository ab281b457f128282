"""The components of a CycloneDX file and their licences, one a line; a component without a licence is an error."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def licences(component: dict) -> str:
    """The licence as the component's metadata name it, by SPDX where they do."""
    found = []
    for entry in component.get("licenses", []):
        named = (
            entry.get("expression") or entry.get("license", {}).get("id") or entry.get("license", {}).get("name", "")
        )
        if named and not named.startswith("declared license"):
            found.append(named.removeprefix("License :: OSI Approved :: "))
    return ", ".join(dict.fromkeys(found))


components = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["components"]
listed = {f"{one['name']} {one['version']}": licences(one) for one in components}
for name, named in sorted(listed.items()):
    print(f"{name}: {named or 'NO LICENCE IS NAMED'}")
sys.exit(f"error: {sys.argv[1]}: components without a licence" if not all(listed.values()) else 0)
