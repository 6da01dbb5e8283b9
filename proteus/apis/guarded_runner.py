"""MMEngine's runner with config errors for parts that it builds late, and for the first batch."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, LogProcessor, Runner, TestLoop, ValLoop
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from proteus.checkpoints import CheckpointError
from proteus.checkpoints.training import check_resumable
from proteus.compat import quiet_terminal, skip_yapf
from proteus.config.build_errors import REFUSALS, as_config_error, error_words
from proteus.config.registry_lookup import PACKAGES, bare_type
from proteus.datasets.failures import failed_transform
from proteus.engine.hooks import ResumeSettingsHook
from proteus.structures import ConfigError, UserError
from proteus.utils.user_errors import mistake, name_and_words


class GuardedRunner(Runner):
    """Runner that reports wrong arguments of loaders, loops, optimizers and schedules with their config key.

    MMEngine builds these parts when training or testing starts. Errors of the first batch are reported in the same way
    (see :func:`first_batch_errors`). Later errors pass unchanged.
    """

    def __init__(self, *args: Any, cfg: Any = None, **kwargs: Any) -> None:
        self._finished: set[str] = set()
        if isinstance(cfg, Config):
            skip_yapf(cfg)  # the text goes to the log, the work directory, TensorBoard and each checkpoint
        super().__init__(*args, cfg=cfg, **kwargs)

    def build_logger(self, *args: Any, **kwargs: Any) -> Any:
        """Build the logger; environment, config and hooks go to the log file only."""
        logger = super().build_logger(*args, **kwargs)
        quiet_terminal(logger)
        return logger

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> Any:
        """Wrap the model for several processes; with ``sync_bn='torch'`` timm's layers keep their activations.

        MMEngine's conversion turns timm's ``BatchNormAct2d`` into a batch norm alone.

        Raises:
            ConfigError: ``sync_bn='mmcv'``, for a model with such layers.
        """
        from timm.layers import BatchNormAct2d, convert_sync_batchnorm

        kind = self.cfg.get("sync_bn") if self.distributed else None
        if kind is None or not any(isinstance(module, BatchNormAct2d) for module in model.modules()):
            return super().wrap_model(model_wrapper_cfg, model)
        if kind != "torch":
            problem = f"sync_bn={kind!r}: the model has timm's BatchNormAct2d, which only 'torch' can replace"
            raise ConfigError([problem], str(self.cfg.filename or "config"))
        self.cfg.sync_bn = None  # MMEngine would convert the converted layers once more
        try:
            return super().wrap_model(model_wrapper_cfg, convert_sync_batchnorm(model))
        finally:
            self.cfg.sync_bn = kind

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume a run.

        Raises:
            CheckpointError: The file lacks a part of the training state, or belongs to another run.
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
        """Call the hooks; check a checkpoint to resume from, and record phases with a finished batch."""
        if fn_name == "after_load_checkpoint" and self._resume:
            self._check_state(kwargs["checkpoint"])
        super().call_hook(fn_name, **kwargs)
        if fn_name.endswith("_iter") and fn_name.startswith("after_"):
            self._finished.add(fn_name.split("_")[1])

    def train(self) -> Any:
        """Train; raises :class:`ConfigError` if the first batch fails."""
        with first_batch_errors(self, self._finished):
            return super().train()

    def val(self) -> Any:
        """Validate; raises :class:`ConfigError` if the first batch fails."""
        with first_batch_errors(self, self._finished):
            return super().val()

    def test(self) -> Any:
        """Test; raises :class:`ConfigError` if the first batch fails."""
        with first_batch_errors(self, self._finished):
            return super().test()

    def build_train_loop(self, loop: Any) -> Any:
        """Build the loop of ``train_cfg`` with its loader; raises :class:`ConfigError`."""
        with as_config_error(self.cfg, "train_cfg"):
            return super().build_train_loop(loop)

    def build_val_loop(self, loop: Any) -> Any:
        """Build the loop of ``val_cfg`` with its loader and evaluator; raises :class:`ConfigError`.

        An empty data set is refused here, before training: metrics would find it at the first validation.
        """
        with as_config_error(self.cfg, "val_cfg"):
            built = super().build_val_loop(loop)
        if isinstance(built, ValLoop) and not len(built.dataloader.dataset):
            problem = (
                "val_dataloader.dataset has no images: name a set that has some, or write val_evaluator=None, "
                "val_dataloader=None and val_cfg=None"
            )
            raise ConfigError([problem], str(self.cfg.filename or "config"))
        return built

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
        """Refuse a checkpoint without optimizer state, or with a different number of schedules."""
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
                f"{count}; write the same schedules, or use --resume-override to take those of the config"
            )


@contextmanager
def first_batch_errors(runner: Runner, finished: set[str]) -> Iterator[None]:
    """Turn errors of the first batch, and late errors of MMEngine's parts, into config errors.

    Some parts that do not fit each other fail only at the first batch: images of the wrong size, a head of the wrong
    width, transforms in the wrong order. Hooks, metrics and the log processor of MMEngine check some of their
    arguments only on use.

    Args:
        runner: The runner.
        finished: Phases (``train``, ``val``, ``test``) with a finished batch; read when an error occurs.

    Raises:
        ConfigError: Names the key of the part and quotes the error.
    """
    try:
        yield
    except Exception as error:
        if mistake(error) is not None:
            raise
        frames = list(_frames(error.__traceback__))
        phase = _phase(frames)
        name, words = name_and_words(error)
        transform = failed_transform(error)
        words = f"{transform[0]}: {words or _line(error)}" if transform else words or _line(error)
        is_sentence = isinstance(error, ValueError) and _package(frames[-1]) == "proteus"  # written for the user
        key = _first_use(frames, phase, runner, set() if is_sentence else finished)
        if key is not None:
            problem = f"{key}: {words}" if is_sentence else f"{key}: the first batch fails: {name}: {words}"
        else:
            part = _late_refusal(frames, phase, runner.cfg)
            if part is None:
                raise
            problem = f"{part}: {error_words(error, named=True)}"
        raise ConfigError([problem], str(runner.cfg.filename or "config")) from error


def _frames(trace: TracebackType | None) -> Iterator[FrameType]:
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _line(error: BaseException) -> str:
    """Return the line of code that raised an error, for errors without a message."""
    frames = traceback.extract_tb(error.__traceback__)
    return str(frames[-1].line) if frames else ""


def _owner(frame: FrameType) -> Any:
    return frame.f_locals.get("self")


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).split(".")[0]


def _phase(frames: list[FrameType]) -> str | None:
    loops = [_owner(frame) for frame in frames if isinstance(_owner(frame), BaseLoop)]
    if not loops:
        return None
    return "val" if isinstance(loops[-1], ValLoop) else "test" if isinstance(loops[-1], TestLoop) else "train"


def _first_use(frames: list[FrameType], phase: str | None, runner: Runner, finished: set[str]) -> str | None:
    """Return the key of the loader, model or optimizer that failed at the first batch; None for another part."""
    if phase in finished or (phase is None and finished):
        return None
    names = {id(module): name for name, module in runner.model.named_modules()} if hasattr(runner, "model") else {}
    for frame in reversed(frames):
        owner = _owner(frame)
        if isinstance(owner, Optimizer):
            return f"optim_wrapper.optimizer ({type(owner).__name__})"
        if id(owner) in names:
            return f"model ({names[id(owner)]})".removesuffix(" ()")
        if phase and (isinstance(owner, DataLoader) or frame.f_code.co_name == "__next__"):
            return f"{phase}_dataloader"
    return None


def _late_refusal(frames: list[FrameType], phase: str | None, cfg: Mapping[str, Any]) -> str | None:
    """Return the key and type of a metric, log processor or hook that failed in the code of a toolbox."""
    if not frames or _package(frames[-1]) not in PACKAGES:
        return None
    for owner in map(_owner, reversed(frames)):
        if isinstance(owner, (BaseMetric, Evaluator)):
            return f"{phase}_evaluator ({type(owner).__name__})"
        if isinstance(owner, LogProcessor):
            return f"log_processor ({type(owner).__name__})"
        if isinstance(owner, Hook):
            return _key_of_hook(owner, cfg)
    return None


def _key_of_hook(hook: Hook, cfg: Mapping[str, Any]) -> str:
    name = type(hook).__name__
    for key, config in (cfg.get("default_hooks") or {}).items():
        if bare_type(config) == name:
            return f"default_hooks.{key}"
    for index, config in enumerate(cfg.get("custom_hooks") or []):
        if bare_type(config) == name:
            return f"custom_hooks[{index}]"
    return name
