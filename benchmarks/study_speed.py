"""Images/s of Proteus and of a peer, in alternating trainings, for ``study.py --speed``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from measure import Pairs, spread
from study_contenders import Contender, choose
from study_runs import Run, Settings, finish_run

from proteus.structures import UserError

_LEAST_VIEWS = 1600  # five windows of 20 steps, of which three count
PEER = "lightly-train"


def measure_speed(
    ours: Sequence[Contender], settings: Settings, count: int, report: Callable[[str], None] = print
) -> dict[str, Any]:
    """Train contenders and the peer in turn (A B, B A, ...), and compare their images/s.

    Images/s is the median over log lines, so that start-up, evaluation, export and the cache of a teacher do not count;
    loading does.

    Args:
        ours: The contenders.
        settings: What all runs share; each training has the views of a study's run.
        count: Number of rounds, with a training of each.
        report: Gets a line per training.

    Returns:
        Figures for the results, by the name of the contender.

    Raises:
        UserError: A training has too few steps.
    """
    order = [*ours, *choose([PEER])]
    settings = replace(settings, out=settings.out / "speed")
    seconds: dict[str, list[float]] = {each.name: [] for each in order}
    for index in range(count):
        for contender in order if index % 2 == 0 else reversed(order):
            run = Run(contender, contender.rates[0], index)
            rate = finish_run(run, settings)["images_per_second"]
            if rate is None:
                raise UserError(f"--views {settings.views}: too few for images/s; write at least {_LEAST_VIEWS}")
            # The weights are of no use; a speed that was measured before stays.
            shutil.rmtree(run.folder(settings) / "train", ignore_errors=True)
            report(f"speed: round {index + 1} of {count}, {contender.name}: {rate:.1f} images/s")
            seconds[contender.name].append(1 / rate)
    for name, values in seconds.items():
        report(f"{name} {spread([1 / value for value in values], 1, 'images/s')}")
    pairs = {each.name: Pairs(seconds[each.name], seconds[PEER]) for each in ours}
    for name, measured in pairs.items():
        report(f"ratio of rates, {name} over {PEER}: {measured.speedup:.2f}")
    return {"peer": PEER, "views": settings.views, "ours": {name: each.record() for name, each in pairs.items()}}
