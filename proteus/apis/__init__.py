"""What a user calls: load and check a config, and run what it describes."""

from proteus.apis.dry_run import check
from proteus.apis.train import set_work_dir, test, train, use_bfloat16
from proteus.config.load import load_config, validate
from proteus.structures import ConfigError

__all__ = ["ConfigError", "check", "load_config", "set_work_dir", "test", "train", "use_bfloat16", "validate"]
