"""Results that lie on disk as soon as they are there: a dictionary in a file that is always whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any


class Results(MutableMapping[str, Any]):
    """Written at every assignment; ``resumed`` begins with what the file holds."""

    def __init__(self, path: Path, *, resumed: bool = False) -> None:
        self.path = path
        self._values: dict[str, Any] = {}
        if resumed and path.exists():
            self._values = json.loads(path.read_text(encoding="utf-8"))

    def __setitem__(self, name: str, value: Any) -> None:
        self._values[name] = value
        self.write()

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __delitem__(self, name: str) -> None:
        del self._values[name]
        self.write()

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def write(self) -> None:
        """Beside the file, and then in its place: a process that is killed leaves the file of before."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".part")
        temporary.write_text(json.dumps(self._values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, self.path)
