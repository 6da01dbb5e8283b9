"""Checkpoints of another model."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from proteus.checkpoints import check_fit
from proteus.checkpoints.training import check_resumable
from proteus.registry import HOOKS


@HOOKS.register_module()
class StrictCheckpointHook(Hook):
    """Refuse to resume from, or to test, a checkpoint whose weights do not fit the config's model.

    MMEngine would warn, load what fits, and go on with random numbers in the rest.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare names and shapes before anything is loaded.

        Raises:
            CheckpointError: Something is missing, left over, or of another shape; or a run is to be resumed and the
                file holds weights alone.
        """
        source = getattr(checkpoint, "source", None) or runner._load_from or "the checkpoint"
        if getattr(runner, "_resume", False):
            check_resumable(checkpoint, source)
        model: Any = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        check_fit(model.state_dict(), checkpoint.get("state_dict", checkpoint), source)
