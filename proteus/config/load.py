"""Load a config, override it, and refuse it at once where it is wrong."""

from __future__ import annotations

import copy
import importlib
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from proteus.config.overrides import check_overrides, merged
from proteus.config.read import read_config
from proteus.config.validate import ConfigError, check_config
from proteus.config.value_types import shown

__all__ = ["ConfigError", "load_config", "validate"]


def load_config(path: str | Path, overrides: dict[str, Any] | None = None) -> Config:
    """Load a config file, merge overrides into it and check the result.

    Args:
        path: a config file of MMEngine (``.py``, ``.json`` or ``.yaml``).
        overrides: dotted keys and values, as MMEngine's ``DictAction`` makes them of ``--cfg-options``; the
            position in a list is written as a number (``param_scheduler.0.end``).

    Returns:
        The config, with the modules of its ``custom_imports`` imported (from the current folder, too).

    Raises:
        ConfigError: the file or one of its bases is missing or broken (see :func:`read_config`), a module of
            ``custom_imports`` cannot be imported, or :func:`validate` found problems.
    """
    overrides = overrides or {}
    config = read_config(path)
    imports = {key: value for key, value in overrides.items() if key.split(".")[0] == "custom_imports"}
    try:
        _import_custom(merged(config, imports).get("custom_imports"), path)
        validate(config, overrides)
    except ImportError as error:  # of what a config of the lazy kind imports
        raise ConfigError([str(error)], str(path)) from error
    result = merged(config, overrides)
    for value in dict(result.items()).values():
        _drop_delete(value)
    return result


def validate(cfg: Config | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> None:
    """Compare every key of a config with what takes it.

    Args:
        cfg: the config as the file gives it; it is not changed.
        overrides: dotted keys and their values, not merged yet. Each must name something that is there, and the
            merged config is checked.

    Raises:
        ConfigError: with all problems that were found.
    """
    config = copy.deepcopy(cfg) if isinstance(cfg, Config) else Config(copy.deepcopy(dict(cfg)))
    refused: dict[str, str] = {}
    if overrides:
        refused = check_overrides(config, overrides)
        config = merged(config, {key: value for key, value in overrides.items() if key not in refused})
    problems = dict.fromkeys([*refused.values(), *check_config(config)])
    if problems:
        raise ConfigError(problems, str(config.filename or "config"))


def _import_custom(custom: Mapping[str, Any] | None, path: str | Path) -> None:
    """Import the modules that a config names; one that is missing may be allowed to fail."""
    if not custom:
        return
    if not isinstance(custom, Mapping):
        raise ConfigError([f"custom_imports: found {shown(custom)}, expected a dict with imports=[...]"], str(path))
    if not custom.get("imports"):
        return
    if str(Path.cwd()) not in sys.path:
        # Where ``python -m`` would find it: a script's own folder stands on the path in place of the current one.
        sys.path.append(str(Path.cwd()))
    modules = [custom["imports"]] if isinstance(custom["imports"], str) else custom["imports"]
    if not isinstance(modules, (list, tuple)) or not all(isinstance(module, str) for module in modules):
        text = f"custom_imports.imports: found {shown(custom['imports'])}, expected a module's name or a list of names"
        raise ConfigError([text], str(path))
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # its own code may raise anything
            reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
            text = (
                f"custom_imports.imports: module '{module}' cannot be imported ({reason}); correct its name, start "
                "from the folder that holds it, or put that on PYTHONPATH"
            )
            if not (isinstance(error, ImportError) and custom.get("allow_failed_imports", False)):
                raise ConfigError([text], str(path)) from error
            warnings.warn(f"{path}: {text}", stacklevel=3)


def _drop_delete(value: Any) -> None:
    """Remove the ``_delete_`` that MMEngine leaves in a dict that had nothing to replace; no constructor takes it."""
    if isinstance(value, dict):
        value.pop("_delete_", None)
        for item in value.values():
            _drop_delete(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _drop_delete(item)
