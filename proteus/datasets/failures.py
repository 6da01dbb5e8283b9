"""Format errors of data sets and transforms in one line."""

from __future__ import annotations

import traceback

from mmengine.dataset import Compose

from proteus.utils.text import printable


def raised(error: BaseException, place: bool = True) -> str:
    """Return type and text of an error on one line.

    Args:
        error: The error.
        place: Add the file and the line of the code that raised it.
    """
    text = " ".join(str(error).split())
    code = traceback.extract_tb(error.__traceback__)[-1] if place else None
    shown = f" ({code.filename}, line {code.lineno})" if code else ""
    return printable(f"{type(error).__name__}{': ' if text else ''}{text}{shown}")


def failed_transform(error: BaseException) -> tuple[str, bool] | None:
    """Name the transform in which an error was raised, by its position in the pipeline.

    Args:
        error: The error.

    Returns:
        Such as ``dataset.pipeline[2] (TimmRandAugment)``, and whether the transform is part of Proteus; None if the
        error was not raised in a pipeline.
    """
    found, trace = None, error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code is Compose.__call__.__code__:
            transform = frame.f_locals.get("t")
            position = next((i for i, step in enumerate(frame.f_locals["self"].transforms) if step is transform), None)
            is_ours = type(transform).__module__.partition(".")[0] == "proteus"
            found = f"dataset.pipeline[{position}] ({type(transform).__name__})", is_ours
        trace = trace.tb_next
    return found
