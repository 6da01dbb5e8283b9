"""Data that travels between parts."""

from proteus.structures.errors import DataError
from proteus.structures.features import Features

__all__ = ["DataError", "Features"]
