"""Log histories of bounded length."""

from __future__ import annotations

from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner

from proteus.compat import loops_of

# Smallest number of values to keep.
_MIN_LENGTH = 100


def bound_histories(runner: Runner) -> None:
    """Keep only the latest values that log lines need; MMEngine keeps a million of each, in every checkpoint.

    With a ``global`` window of the log processor all values are kept.
    """
    longest = _longest_window(runner)
    if longest is None:
        return
    scalars = runner.message_hub.log_scalars
    for name, buffer in scalars.items():
        history, counts = buffer.data
        if buffer.max_length > longest or len(history) > longest:
            # Copy: a slice would keep the whole history, in memory and in the checkpoint.
            scalars[name] = HistoryBuffer(history[-longest:].copy(), counts[-longest:].copy(), longest)


def _longest_window(runner: Runner) -> int | None:
    processor = runner.log_processor
    windows = [processor.window_size, *(custom.get("window_size", 1) for custom in processor.custom_cfg)]
    if "global" in windows:
        return None
    # Validation values are averaged over the whole epoch.
    train, val, test = loops_of(runner)
    loops = [train if "epoch" in windows else None, val, test]
    epochs = [len(loop.dataloader) for loop in loops if hasattr(loop, "dataloader")]
    return max([_MIN_LENGTH, *(window for window in windows if isinstance(window, int)), *epochs])
