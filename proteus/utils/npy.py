"""Read NumPy files that may be damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from proteus.structures import DataError


def load_npy(path: str | Path, mapped: bool = True) -> Any:
    """Read an array that ``numpy.save`` wrote; nothing is unpickled.

    Args:
        path: The file.
        mapped: Map the array from disk, instead of reading it.

    Returns:
        The array.

    Raises:
        FileNotFoundError: The file does not exist.
        DataError: The file is not a NumPy file, is truncated, or cannot be read.
    """
    try:
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # NumPy parses the header as Python and raises many types
        words = " ".join(str(error).split())
        raise DataError(
            f"{path} is not an array that numpy.save wrote, or is cut short ({type(error).__name__}: {words})"
        ) from error
