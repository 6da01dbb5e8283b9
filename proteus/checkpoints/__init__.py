"""Reading, recognising and writing weights; nothing is ever unpickled into code."""

from proteus.checkpoints.export import export_backbone
from proteus.checkpoints.keys import to_timm_keys
from proteus.checkpoints.read import CheckpointError, check_fit, load_strictly, locate, read_state_dict

__all__ = [
    "CheckpointError",
    "check_fit",
    "export_backbone",
    "load_strictly",
    "locate",
    "read_state_dict",
    "to_timm_keys",
]
