"""Errors of a run that come from its config, although nothing was refused when the parts were built."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, LogProcessor, Runner, TestLoop, ValLoop
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from proteus.config.build_errors import error_words
from proteus.config.registry_lookup import PACKAGES, bare_type
from proteus.datasets.failures import failed_transform
from proteus.structures import ConfigError
from proteus.utils.user_errors import mistake, name_and_words


@contextmanager
def first_batch_errors(runner: Runner, finished: set[str]) -> Iterator[None]:
    """Report as mistakes in the config what the first batch of a phase fails with, and what MMEngine refuses late.

    Parts that do not fit each other often show in the first batch alone: images of a size that the model does not
    take, a head of another width, transforms in the wrong order. MMEngine's hooks, metrics and log processor look at
    some of their arguments only when they are used.

    Args:
        runner: The runner.
        finished: Phases (``train``, ``val``, ``test``) of which a batch has been through; read when an error comes.

    Raises:
        ConfigError: Names the key of the part, and gives its words.
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
    """The line of code that raised an error without a text."""
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
    """Key of the loader or the model whose first batch failed; None if something else did."""
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
    """Key and type of the part whose use ended in an error of MMEngine's, or of another toolbox's, own code."""
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
