"""Processes and checkpoints under MMEngine's runner."""

from proteus.engine.runner.distributed import prepare_processes
from proteus.engine.runner.safe_checkpoints import use_safe_checkpoints

__all__ = ["prepare_processes", "use_safe_checkpoints"]
