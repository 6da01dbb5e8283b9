"""MMEngine's runner with config errors for the parts that it builds late."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from proteus.apis.first_batch import first_batch_errors
from proteus.checkpoints import CheckpointError
from proteus.checkpoints.training import check_resumable
from proteus.config.build_errors import REFUSALS, as_config_error, error_words
from proteus.engine.hooks import ResumeSettingsHook
from proteus.structures import UserError


class GuardedRunner(Runner):
    """Runner that reports bad arguments of loaders, loops, optimizers and schedules with their config key.

    MMEngine builds these when training or testing starts. Errors of the first batch are reported likewise (see
    :mod:`proteus.apis.first_batch`). Later errors during training pass unchanged.
    """

    def __init__(self, *args: Any, cfg: Any = None, **kwargs: Any) -> None:
        self._finished: set[str] = set()
        if isinstance(cfg, Config):
            # The config is written to the log, the work directory, TensorBoard and each checkpoint. YAPF takes longer
            # for that than all the rest of starting a run, and Config.fromfile does not pass format_python_code along.
            object.__setattr__(cfg, "_format_python_code", False)
        super().__init__(*args, cfg=cfg, **kwargs)

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume a run.

        Raises:
            CheckpointError: The file lacks a part of the run's state, or its state is another run's.
        """
        try:
            super().resume(filename, *args, **kwargs)
        except UserError:
            raise
        except REFUSALS as error:
            raise CheckpointError(
                f"{filename} cannot be resumed from ({error_words(error, named=True)}): it was not written by a run of "
                "this config, or is damaged; resume with the config that it was trained with"
            ) from error

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks; check what a run resumes from, and note the phases of which a batch has been through."""
        if fn_name == "after_load_checkpoint" and self._resume:
            self._check_state(kwargs["checkpoint"])
        super().call_hook(fn_name, **kwargs)
        if fn_name.endswith("_iter") and fn_name.startswith("after_"):
            self._finished.add(fn_name.split("_")[1])

    def train(self) -> Any:
        """Train; raises :class:`ConfigError` where the first batch shows that parts do not fit."""
        with first_batch_errors(self, self._finished):
            return super().train()

    def val(self) -> Any:
        """Validate; raises :class:`ConfigError` where the first batch shows that parts do not fit."""
        with first_batch_errors(self, self._finished):
            return super().val()

    def test(self) -> Any:
        """Test; raises :class:`ConfigError` where the first batch shows that parts do not fit."""
        with first_batch_errors(self, self._finished):
            return super().test()

    def build_train_loop(self, loop: Any) -> Any:
        """Build the loop of ``train_cfg`` with its loader; raises :class:`ConfigError`."""
        with as_config_error(self.cfg, "train_cfg"):
            return super().build_train_loop(loop)

    def build_val_loop(self, loop: Any) -> Any:
        """Build the loop of ``val_cfg`` with its loader and evaluator; raises :class:`ConfigError`."""
        with as_config_error(self.cfg, "val_cfg"):
            return super().build_val_loop(loop)

    def build_test_loop(self, loop: Any) -> Any:
        """Build the loop of ``test_cfg`` with its loader and evaluator; raises :class:`ConfigError`."""
        with as_config_error(self.cfg, "test_cfg"):
            return super().build_test_loop(loop)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build the optimizer; raises :class:`ConfigError`."""
        with as_config_error(self.cfg, "optim_wrapper"):
            return super().build_optim_wrapper(optim_wrapper)

    def scale_lr(self, optim_wrapper: Any, auto_scale_lr: Any = None) -> None:
        """Scale the learning rate with the batch; raises :class:`ConfigError`."""
        with as_config_error(self.cfg, "auto_scale_lr"):
            super().scale_lr(optim_wrapper, auto_scale_lr)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Build the schedules; raises :class:`ConfigError`."""
        with as_config_error(self.cfg, "param_scheduler"):
            return super().build_param_scheduler(scheduler)

    def _check_state(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint without the state of an optimizer, or with other schedules than the run has."""
        source = getattr(checkpoint, "source", None) or self._load_from or "the checkpoint"
        schedules = self.cfg.get("param_scheduler")
        check_resumable(checkpoint, source, ["optimizer", *(["param_schedulers"] if schedules else [])])
        overridden = any(isinstance(hook, ResumeSettingsHook) and hook.override for hook in self.hooks)
        saved = checkpoint.get("param_schedulers")
        if not schedules or overridden or not isinstance(saved, list):
            return
        count = len(schedules) if isinstance(schedules, list) else 1
        if len(saved) != count or not all(isinstance(each, dict) and "last_step" in each for each in saved):
            raise CheckpointError(
                f"{source} cannot be resumed from: it has the state of {len(saved)} schedules, and param_scheduler has "
                f"{count}; write the same schedules, or give --resume-override to take those of the config"
            )
