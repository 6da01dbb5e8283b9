"""A file of figures that outlives interruptions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proteus.structures import DataError
from proteus.utils import disk_full_errors, write_text


class JSONLLog:
    """Lines of JSON, one for an iteration, in their order.

    Args:
        path: The file.
        iteration: How far the run is that goes on with it. What an earlier start wrote beyond it is done again, and
            what was cut off while it was written is dropped; at 0 the file starts anew.
    """

    def __init__(self, path: str | Path, iteration: int = 0) -> None:
        self.path = Path(path)
        kept = [line for line in read_jsonl(path) if line["iteration"] <= iteration] if iteration else []
        self.written = {line["iteration"] for line in kept}
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, iteration: int, figures: Mapping[str, Any]) -> None:
        """Add a line; what is not finite is written as null, since JSON has no word for it."""
        if iteration in self.written:
            return
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}
        with disk_full_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": iteration, **values}) + "\n")
        self.written.add(iteration)


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """Read the lines of a journal; empty if the file is missing. A truncated last line is ignored.

    Raises:
        DataError: Another line is damaged.
    """
    try:
        written = Path(path).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    lines = []
    for number, text in enumerate(written, 1):
        is_last = number == len(written)  # nothing, or what a killed process had written of a line
        if is_last and not text:
            break
        try:
            line = json.loads(text)
            if type(line["iteration"]) is not int:
                raise TypeError(f"iteration={line['iteration']!r}")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if is_last:
                break
            raise DataError(
                f"{path}, line {number} is damaged ({type(error).__name__}: {error}); remove the line, or the file"
            ) from error
        lines.append(line)
    return lines
