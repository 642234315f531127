"""Files of JSON."""

import json
import os
from itertools import islice
from pathlib import Path
from typing import Any


def read_lines(path: str | Path, count: int | None = None) -> list[Any]:
    """The objects of a JSON Lines file, empty lines left out; the first `count` of them where it is given."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in islice((line for line in file if line.strip()), count)]


def write_json(path: str | Path, value: Any) -> None:
    """Writes a file in one step, so that whoever reads it never sees half of it."""
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
    os.replace(f"{path}.new", path)
