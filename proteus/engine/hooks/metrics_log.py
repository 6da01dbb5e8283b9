"""All logged values of a run in one file of the work directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from proteus.evaluation.online.jsonl_log import JSONLLog
from proteus.registry import HOOKS
from proteus.structures import FullDiskError

FILE = "metrics.jsonl"


@HOOKS.register_module()
class MetricsLogHook(Hook):
    """Write ``metrics.jsonl`` in the work directory: a JSON object per log line, validation and online evaluation.

    Each object has ``iteration``, ``mode`` (``train``, ``val`` or ``online``) and the values that the visualizer gets:
    losses, learning rate, times, metrics. A resumed run continues the file and removes what was logged after its
    checkpoint. Values that are not finite are null.

    MMEngine's ``LocalVisBackend`` writes the same values to a new ``scalars.json`` for every start, in a folder that is
    named by the time.
    """

    def before_train(self, runner: Runner) -> None:
        """Open the file, and receive what the visualizer receives."""
        if not is_main_process():
            return
        self.log = JSONLLog(Path(runner.work_dir) / FILE, runner.iter)
        self.failed = False
        if not hasattr(self, "runner"):
            add_scalars = runner.visualizer.add_scalars

            def add_and_write(scalar_dict: dict[str, Any], step: int = 0, **options: Any) -> None:
                add_scalars(scalar_dict, step=step, **options)
                self._write(scalar_dict, step)

            runner.visualizer.add_scalars = add_and_write
        self.runner = runner

    def _write(self, scalars: Mapping[str, Any], step: int) -> None:
        # MMEngine adds ``iter`` to the values of training. The step of a validation may be an epoch.
        if "iter" in scalars:
            mode, iteration = "train", int(scalars["iter"])
        elif any(name.startswith("online_eval/") for name in scalars):
            mode, iteration = "online", step
        else:
            mode, iteration = "val", self.runner.iter
        values = {name: _number(value) for name, value in scalars.items() if name not in ("iter", "step")}
        try:
            self.log.write(iteration, {"mode": mode, **values})
        except FullDiskError as error:
            if not self.failed:
                self.runner.logger.warning(f"{error}; the run continues without it")
            self.failed = True


def _number(value: Any) -> Any:
    value = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    if isinstance(value, (np.ndarray, np.generic)):
        return value.item() if value.size == 1 else value.tolist()
    return value
