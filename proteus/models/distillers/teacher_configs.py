"""Configs of several teachers, and what a batch has of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from proteus.structures import UserError
from proteus.utils.argument_checks import check_number

_TAKEN = ("student", "students", "teacher", "teachers", "cls", "patches", "ema", "plain", "heads", "trained_on")


def checked_teachers(teachers: Mapping[str, dict[str, Any] | None], keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the configs of the teachers of a run by name, without those that are None.

    Args:
        teachers: ``model.teachers``.
        keys: Keys that a teacher may have.

    Raises:
        ValueError: There is none, or a name, key or number is not possible; the message has the key.
    """
    configs = {name: config for name, config in teachers.items() if config is not None}
    if not configs:
        raise ValueError(
            "model.teachers is empty: give at least one teacher, or write type='Distiller' for a single one"
        )
    for name, config in configs.items():
        key = f"model.teachers.{name}"
        # The name becomes that of a submodule, and part of the names of losses, metrics and heads.
        if not name.isidentifier() or hasattr(nn.ModuleDict, name) or name in _TAKEN:
            raise ValueError(
                f"{key}: {name!r} has another meaning as a name; write another of letters and digits, such as 'dinov2'"
            )
        if not isinstance(config, Mapping):
            raise ValueError(f"{key}={config!r}: write dict(teacher=dict(...), objectives=dict(...))")
        missing = [part for part in ("teacher", "objectives") if part not in config]
        unknown = [part for part in config if part not in keys]
        if missing or unknown:
            fault = f"has no {missing[0]!r}" if missing else f"has an unknown key {unknown[0]!r}"
            raise ValueError(f"{key} {fault}: it takes {', '.join(keys)}")
        standardization = config.get("standardization")
        if standardization is not None and not isinstance(standardization, Mapping):
            raise ValueError(
                f"{key}.standardization={standardization!r}: write dict(type='PHIStandardization'), "
                "dict(type='ChannelStandardization') or None"
            )
        check_number(f"{key}.weight", config.get("weight", 1.0), 0, above=True)
        if check_number(f"{key}.drop", config.get("drop", 0.0), 0, 1) == 1:
            raise ValueError(f"{key}.drop=1 leaves the teacher out of every step: write {key}=None, or less than 1")
    return configs


def tokens_of_teacher(cached: Mapping[str, Tensor] | None, name: str) -> Tensor | None:
    """Return the cached tokens of a teacher; None if the batch has none of it.

    Raises:
        UserError: The batch has tokens of a single teacher, without a name.
    """
    if cached is not None and not isinstance(cached, Mapping):
        raise UserError(
            "train_dataloader.dataset.cache is one folder, and the run has several teachers: write "
            f"cache=dict({name}='work_dirs/cache/{name}', ...)"
        )
    return None if cached is None else cached.get(name)
