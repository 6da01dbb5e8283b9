"""Images/s of Proteus and of a peer, in alternating trainings, for ``study.py --speed``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from measure import Pairs, spread
from study_contenders import Contender, choose
from study_runs import Run, Settings, finish_run

from proteus.structures import UserError

_LEAST_VIEWS = 1600  # five windows of 20 steps, of which three count
PEER = "lightly-train"


def measure_speed(
    ours: Contender, settings: Settings, count: int, report: Callable[[str], None] = print
) -> dict[str, Any]:
    """Train a contender and the peer in turn (A B, B A, ...), and compare their images/s.

    Images/s is the median over log lines, so that start-up, evaluation and export do not count; loading does.

    Args:
        ours: The contender.
        settings: What all runs share; each training has the views of a study's run.
        count: Number of pairs.
        report: Gets a line per training.

    Returns:
        Figures for the results.
    """
    (peer,) = choose([PEER])
    settings = replace(settings, out=settings.out / "speed")
    pairs = Pairs()
    for index in range(count):
        seconds = {}
        for contender in (ours, peer) if index % 2 == 0 else (peer, ours):
            run = Run(contender, contender.rates[0], index)
            rate = finish_run(run, settings)["images_per_second"]
            if rate is None:
                raise UserError(f"--views {settings.views}: too few for images/s; write at least {_LEAST_VIEWS}")
            # The weights are of no use; a speed that was measured before stays.
            shutil.rmtree(run.folder(settings) / "train", ignore_errors=True)
            report(f"speed: pair {index + 1} of {count}, {contender.name}: {rate:.1f} images/s")
            seconds[contender.name] = 1 / rate
        pairs.ours.append(seconds[ours.name])
        pairs.baseline.append(seconds[PEER])
    for name, values in ((ours.name, pairs.ours), (PEER, pairs.baseline)):
        report(f"{name} {spread([1 / value for value in values], 1, 'images/s')}")
    report(f"ratio of rates, {ours.name} over {PEER}: {pairs.speedup:.2f}")
    return {"ours": ours.name, "peer": PEER, "views": settings.views, **pairs.record()}
