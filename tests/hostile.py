"""What a hostile folder is made of: pickles that leave a mark when they run, and settings written into files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Payload:
    """What makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.mark), "w")


def change(path: Path, without: tuple[str, ...] = (), **settings: Any) -> None:
    """Settings in a JSON file."""
    content = json.loads(path.read_text()) if path.exists() else {}
    content = {key: value for key, value in content.items() if key not in without} | settings
    path.write_text(json.dumps(content))
