"""What a user calls: load and check a config, and run what it describes."""

from proteus.apis.check import check
from proteus.apis.config import ConfigError, load_config, validate
from proteus.apis.train import set_work_dir, test, train, use_bfloat16

__all__ = ["ConfigError", "check", "load_config", "set_work_dir", "test", "train", "use_bfloat16", "validate"]
