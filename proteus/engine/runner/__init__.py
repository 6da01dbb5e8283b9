"""Processes and checkpoints of MMEngine's runner."""

from proteus.engine.runner.data_parallel import DataParallel
from proteus.engine.runner.distributed import leave_processes, prepare_processes

__all__ = ["DataParallel", "leave_processes", "prepare_processes"]
