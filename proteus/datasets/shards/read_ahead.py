"""Fetch shards in the background before their first image is read."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any


class ReadAhead:
    """One thread per process that fetches shards in the order in which they are named.

    A fetch that fails is left to the read that needs the shard, which retries and reports it.

    Args:
        fetch: Fetches a shard; returns at once if it is there.
    """

    def __init__(self, fetch: Callable[[str], None]) -> None:
        self._fetch = fetch
        self._process = 0
        self._queue: queue.Queue[str] = queue.Queue()

    def want(self, shards: Iterable[str]) -> None:
        """Fetch shards soon."""
        if self._process != os.getpid():  # threads do not survive a fork
            self._process, self._queue = os.getpid(), queue.Queue()
            threading.Thread(target=self._run, args=(self._queue,), name="read-ahead", daemon=True).start()
        for shard in shards:
            self._queue.put(shard)

    def wait(self) -> None:
        """Wait until all shards named so far were fetched."""
        self._queue.join()

    def _run(self, wanted: queue.Queue[str]) -> None:
        while True:
            shard = wanted.get()
            with suppress(Exception):
                self._fetch(shard)
            wanted.task_done()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out thread and queue."""
        return {"_fetch": self._fetch}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore without a thread."""
        self.__init__(state["_fetch"])  # type: ignore[misc]
