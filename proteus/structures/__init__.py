"""Data that travels between parts, and the errors that a user can correct."""

from proteus.structures.errors import ConfigError, CorruptImageError, DataError, FullDiskError, LockedError, UserError
from proteus.structures.features import Features

__all__ = ["ConfigError", "CorruptImageError", "DataError", "Features", "FullDiskError", "LockedError", "UserError"]
