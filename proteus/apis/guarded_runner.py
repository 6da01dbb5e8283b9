"""MMEngine's runner with config errors for the parts that it builds late."""

from __future__ import annotations

from typing import Any

from mmengine.runner import Runner

from proteus.apis.building import as_config_error


class GuardedRunner(Runner):
    """Runner that reports bad arguments of loaders, loops, optimizers and schedules with their config key.

    MMEngine builds these when training or testing starts. Errors during training pass unchanged.
    """

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
