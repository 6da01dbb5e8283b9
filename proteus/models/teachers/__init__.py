"""Frozen backbones with their own input."""

from proteus.models.teachers.teacher import Teacher

__all__ = ["Teacher"]
