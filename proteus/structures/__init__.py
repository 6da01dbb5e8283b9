"""Data that travels between parts."""

from proteus.structures.features import Features

__all__ = ["Features"]
