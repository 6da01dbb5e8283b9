"""What a user calls: load and check a config, and run what it describes.

Names are imported when first used, so that tools which only parse arguments do not load models and data sets.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proteus.apis.dry_run import check
    from proteus.apis.loggers import use_loggers
    from proteus.apis.run_state import set_resume
    from proteus.apis.training import set_work_dir, test, train, use_bfloat16
    from proteus.config.load import load_config, validate
    from proteus.structures import ConfigError

__all__ = [
    "ConfigError",
    "check",
    "load_config",
    "set_resume",
    "set_work_dir",
    "test",
    "train",
    "use_bfloat16",
    "use_loggers",
    "validate",
]

_MODULES = {
    "ConfigError": "proteus.structures",
    "check": "proteus.apis.dry_run",
    "load_config": "proteus.config.load",
    "set_resume": "proteus.apis.run_state",
    "set_work_dir": "proteus.apis.training",
    "test": "proteus.apis.training",
    "train": "proteus.apis.training",
    "use_bfloat16": "proteus.apis.training",
    "use_loggers": "proteus.apis.loggers",
    "validate": "proteus.config.load",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
