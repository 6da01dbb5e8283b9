"""Frozen backbones with their own input."""

from proteus.models.teachers.no_teacher import NoTeacher
from proteus.models.teachers.teacher import Teacher, TeacherOutput

__all__ = ["NoTeacher", "Teacher", "TeacherOutput"]
