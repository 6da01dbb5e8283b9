"""A file of figures that outlives interruptions."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Journal:
    """Lines of JSON, one for an iteration, in their order.

    Args:
        path: The file.
        iteration: How far the run is that goes on with it. What an earlier start wrote beyond it is done again, and
            what was cut off while it was written is dropped; at 0 the file starts anew.
    """

    def __init__(self, path: str | Path, iteration: int = 0) -> None:
        self.path = Path(path)
        kept = [line for line in read_journal(path) if line["iteration"] <= iteration] if iteration else []
        self.written = {line["iteration"] for line in kept}
        new = self.path.with_suffix(".tmp")
        new.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        os.replace(new, self.path)

    def write(self, iteration: int, figures: Mapping[str, Any]) -> None:
        """Add a line; what is not finite is written as null, since JSON has no word for it."""
        if iteration in self.written:
            return
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": iteration, **values}) + "\n")
        self.written.add(iteration)


def read_journal(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a journal; none where there is no file, and without a last line that was cut off."""
    if not Path(path).is_file():
        return []
    lines = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
