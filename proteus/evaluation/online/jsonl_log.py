"""Log of metrics as lines of JSON, safe against interruptions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proteus.structures import DataError
from proteus.utils import disk_full_errors, write_text


class JSONLLog:
    """A file with one line of JSON per logged iteration, or per iteration and ``mode``, in order.

    Args:
        path: The file.
        iteration: Iteration at which the run resumes; 0 starts a new file. Later lines, which the run will write again,
            and a truncated last line are removed.
    """

    def __init__(self, path: str | Path, iteration: int = 0) -> None:
        self.path = Path(path)
        kept = [line for line in read_jsonl(path) if line["iteration"] <= iteration] if iteration else []
        self.written = {(line["iteration"], line.get("mode")) for line in kept}
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, iteration: int, metrics: Mapping[str, Any]) -> None:
        """Append a line, unless the iteration has one of this ``mode``; values that are not finite become null."""
        key = iteration, metrics.get("mode")
        if key in self.written:
            return
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}
        with disk_full_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": iteration, **values}) + "\n")
        self.written.add(key)


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """Read the lines of a log; empty if the file is missing. A truncated last line is ignored.

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
        is_last = number == len(written)  # empty, or truncated by a killed process
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
