"""Do something on the first of several processes, with the same outcome on all."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import Any, TypeVar

from mmengine.dist import broadcast_object_list, get_dist_info

from proteus.structures import UserError

Result = TypeVar("Result")

_SECONDS_WITHOUT_NEWS = 60.0


def on_first_rank(function: Callable[[], Result]) -> Result:
    """Call a function on rank 0 and return its result on all ranks, which call this together.

    It may take hours: the others hear every minute that it continues, since ranks that hear nothing for long take the
    run for dead.

    Args:
        function: Takes nothing, computes on no GPU and communicates with no rank, as it runs in a thread; its result
            can be pickled.

    Raises:
        UserError: What the function raised, on every rank, so that none waits for the others.
    """
    rank, world = get_dist_info()
    if world == 1:
        return function()
    outcome: Future[Result] = Future()
    if rank == 0:
        # This thread sends the news. The other is a daemon, so that the process can be interrupted.
        Thread(target=_fulfil, args=(outcome, function), daemon=True).start()
    # News of rank 0: empty while the function runs, then its result or error.
    news: list[tuple[Any, ...]] = [()]
    while not news[0]:
        if rank == 0 and wait([outcome], _SECONDS_WITHOUT_NEWS).done:
            error = outcome.exception()
            if error is not None and not isinstance(error, UserError):
                raise error
            news = [(error,) if error else (None, outcome.result())]
        broadcast_object_list(news)
    if news[0][0] is not None:
        raise news[0][0]
    result: Result = news[0][1]
    return result


def _fulfil(outcome: Future[Result], function: Callable[[], Result]) -> None:
    try:
        outcome.set_result(function())
    except BaseException as error:  # raised by the thread that waits for it
        outcome.set_exception(error)
