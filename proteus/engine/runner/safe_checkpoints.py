"""Resuming without unpickling; see :mod:`proteus.checkpoints.training`."""

from proteus.checkpoints.training import check_resumable, load_checkpoint, use_safe_checkpoints

__all__ = ["check_resumable", "load_checkpoint", "use_safe_checkpoints"]
