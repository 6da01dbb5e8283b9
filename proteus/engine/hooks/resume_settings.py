"""Settings that differ between a checkpoint and the config of a resumed run."""

from __future__ import annotations

import copy
import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from proteus.compat import is_resuming
from proteus.registry import HOOKS
from proteus.structures import UserError

_COMPARED = ("optim_wrapper", "param_scheduler", "randomness", "model", "train_dataloader", "train_cfg")
# A checkpoint stores the values of the optimizer's parameter groups, the schedules and the seed. The kind of optimizer,
# clipping, accumulation and precision are the config's.
_OF_CHECKPOINT = re.compile(
    r"optim_wrapper\.(.+\.)?(optimizer\.(?!type$)|paramwise_cfg\b)|param_scheduler\b|randomness\.seed$"
)


@HOOKS.register_module()
class ResumeSettingsHook(Hook):
    """When a run is resumed, log which of its settings changed, and which of the two values wins.

    MMEngine restores learning rates, weight decay, schedules and seed from the checkpoint and ignores those of the
    config; batch size, data, precision, clipping and length of the run come from the config. The order of the images is
    that of the checkpoint's seed, unless ``train_dataloader.sampler`` has its own ``seed``.

    Args:
        override: Take learning rates, weight decay, other optimizer settings and the schedules from the config. The
            optimizer's moments still come from the checkpoint, and the schedules are advanced to its iteration.

    Raises:
        UserError: ``override`` with several optimizers.
    """

    priority = "VERY_HIGH"

    def __init__(self, override: bool = False) -> None:
        if not isinstance(override, bool):
            raise ValueError(f"ResumeSettingsHook.override={override!r}: write True or False")
        self.override = override
        self._groups: list[dict[str, Any]] = []
        self._resumed = False
        self._sampler_seed: int | None = None

    def before_run(self, runner: Runner) -> None:
        """Keep the config's settings before the checkpoint overwrites them."""
        wrapper = runner.optim_wrapper
        self._resumed = False
        if not self.override or not is_resuming(runner):
            return
        if not isinstance(wrapper, OptimWrapper) or isinstance(runner.param_schedulers, dict):
            raise UserError("ResumeSettingsHook.override (--resume-override) is for a run with one optimizer")
        self._groups = [
            {key: copy.deepcopy(value) for key, value in group.items() if key != "params"}
            for group in wrapper.param_groups
        ]

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare the settings."""
        if not is_resuming(runner):
            return
        self._resumed = True
        meta = checkpoint.get("meta")
        seed = meta.get("sampler_seed") if isinstance(meta, Mapping) else None
        self._sampler_seed = seed if isinstance(seed, int) else None
        try:
            before = dict(json.loads(checkpoint["meta"]["settings"]).items())
        except (AttributeError, KeyError, TypeError, ValueError):  # of an earlier version
            return
        now = _settings(runner)
        for line in differences(before, now, self.override):
            runner.logger.warning(line)

    def before_train(self, runner: Runner) -> None:
        """Give the sampler the checkpoint's seed; put the config's hyperparameters back, and advance its schedules."""
        if self._resumed:
            _reseed_sampler(runner, self._sampler_seed)
        if not (self.override and self._resumed):
            return
        # Those of the wrapper: with several groups it has another one, for the log's base_lr.
        for group, kept in zip(runner.optim_wrapper.param_groups, self._groups, strict=True):
            group.update(copy.deepcopy(kept))
            for key in [key for key in group if key.startswith("initial_")]:
                group[key.removeprefix("initial_")] = group[key]
        schedules = runner.cfg.get("param_scheduler")
        if schedules is None:
            return
        runner.param_schedulers = runner.build_param_scheduler(copy.deepcopy(schedules))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a schedule's step before the optimizer's
            for scheduler in runner.param_schedulers:
                for _ in range(runner.epoch if scheduler.by_epoch else runner.iter):
                    scheduler.step()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Store the settings and the sampler's seed in the checkpoint."""
        checkpoint["meta"]["settings"] = json.dumps(_settings(runner))
        seed = getattr(_sampler(runner), "seed", None)
        if isinstance(seed, int):
            checkpoint["meta"]["sampler_seed"] = seed


def differences(before: Mapping[str, Any], now: Mapping[str, Any], override: bool = False) -> list[str]:
    """Describe the differences between a checkpoint's settings and a config's: one line for each side that wins.

    Args:
        before: Dotted keys and values, of the checkpoint.
        now: The same of the config.
        override: Whether the config takes precedence, except for the seed.
    """
    changed = [key for key in dict.fromkeys([*before, *now]) if before.get(key) != now.get(key)]
    kept = [key for key in changed if _OF_CHECKPOINT.match(key) and not (override and "randomness" not in key)]
    taken = [key for key in changed if key not in kept]
    lines = []
    if kept:
        shown = ", ".join(f"{key} = {before.get(key)} (config: {now.get(key)})" for key in kept)
        seed = all(key.startswith("randomness") for key in kept)
        advice = "" if seed else "; --resume-override takes optimizer settings and schedule from the config"
        lines.append(f"resumed with the checkpoint's settings, not the config's: {shown}{advice}")
    if taken:
        shown = ", ".join(f"{key} = {now.get(key)} (checkpoint: {before.get(key)})" for key in taken)
        lines.append(f"resumed with the config's settings, not the checkpoint's: {shown}")
    return lines


def _reseed_sampler(runner: Runner, saved: int | None) -> None:
    """Give the sampler, which MMEngine builds before it reads the checkpoint, the seed of the checkpoint's sampler."""
    config = runner.cfg.get("train_dataloader")
    own = config.get("sampler") if isinstance(config, Mapping) else None
    if not isinstance(own, Mapping) or "seed" in own:
        return
    if saved is None:  # of an earlier version
        # With diff_rank_seed the runner's seed is not the sampler's, which is the same on all ranks.
        if (runner.cfg.get("randomness") or {}).get("diff_rank_seed"):
            return
        saved = runner.seed
    sampler = _sampler(runner)
    if getattr(sampler, "seed", saved) == saved:
        return
    if hasattr(sampler, "reseed"):
        sampler.reseed(saved)
    else:
        sampler.seed = saved


def _sampler(runner: Runner) -> Any:
    loader = runner.train_dataloader
    return getattr(loader.batch_sampler, "sampler", loader.sampler)


def _settings(runner: Runner) -> dict[str, Any]:
    parts = {key: runner.cfg.get(key) for key in _COMPARED}
    return dict(_flat(json.loads(json.dumps(_jsonable(parts))), ""))


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _flat(value: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [pair for key, item in value.items() for pair in _flat(item, f"{path}.{key}".lstrip("."))]
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return [pair for index, item in enumerate(value) for pair in _flat(item, f"{path}.{index}")]
    return [(path, value)]
