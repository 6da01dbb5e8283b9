"""Processes and checkpoints of MMEngine's runner."""

from proteus.engine.runner.data_parallel import DataParallel
from proteus.engine.runner.distributed import keep_start_method, leave_processes, prepare_processes

__all__ = ["DataParallel", "keep_start_method", "leave_processes", "prepare_processes"]
