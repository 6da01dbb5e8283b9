"""Processes and checkpoints under MMEngine's runner."""

from proteus.engine.runner.data_parallel import DataParallel
from proteus.engine.runner.distributed import leave_processes, prepare_processes
from proteus.engine.runner.safe_checkpoints import use_safe_checkpoints

__all__ = ["DataParallel", "leave_processes", "prepare_processes", "use_safe_checkpoints"]
