"""Names of files in the lists of a data set, which may come from anybody."""

from __future__ import annotations

from pathlib import PurePosixPath

from proteus.structures import DataError


def check_inside(name: str, where: str) -> str:
    """Return a name from a list, once it is sure to stay in the folder of the set.

    Args:
        name: The name, with slashes of either kind between its parts.
        where: Where it is listed, for messages.

    Raises:
        DataError: The name is absolute or has ``..``.
    """
    path = name.replace("\\", "/")
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or (parts and parts[0].endswith(":")):
        raise DataError(f"{where}: {name!r} leads out of the folder of the set; write a path in it, without '..'")
    return name
