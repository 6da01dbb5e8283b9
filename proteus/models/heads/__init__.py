"""Heads that map the student's tokens to the teacher's width or to class scores."""

from proteus.models.heads.class_head import ClassHead
from proteus.models.heads.distill_head import DistillHead
from proteus.models.heads.linear_classifier import LinearClassifier

__all__ = ["ClassHead", "DistillHead", "LinearClassifier"]
