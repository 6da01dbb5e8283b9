"""Do something on the first of several processes, with the same outcome on all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mmengine.dist import broadcast_object_list, get_dist_info

from proteus.structures import UserError

Result = TypeVar("Result")


def on_first_rank(function: Callable[[], Result]) -> Result:
    """Call a function on rank 0 and return its result on all ranks, which call this together.

    Args:
        function: Takes nothing; its result can be pickled.

    Raises:
        UserError: What the function raised, on every rank, so that none waits for the others.
    """
    rank, world = get_dist_info()
    if world == 1:
        return function()
    shared: list[Result | UserError | None] = [None]
    if rank == 0:
        try:
            shared = [function()]
        except UserError as error:
            shared = [error]
    broadcast_object_list(shared)
    if isinstance(shared[0], UserError):
        raise shared[0]
    return shared[0]  # type: ignore[return-value]
