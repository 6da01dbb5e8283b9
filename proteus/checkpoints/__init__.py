"""Read, recognise, convert and write weights; no code in a file is ever run."""

from proteus.checkpoints import dinov3_keys as dinov3_keys  # registers its converter
from proteus.checkpoints.convert import FORMS, convert, from_timm_keys
from proteus.checkpoints.description import Description, read_description
from proteus.checkpoints.errors import CheckpointError, prefix_checkpoint_errors
from proteus.checkpoints.export import export_backbone
from proteus.checkpoints.inspect import inspect_file
from proteus.checkpoints.keys import to_timm_keys
from proteus.checkpoints.load import check_fit, load_strictly, read_state_dict
from proteus.checkpoints.paths import locate

__all__ = [
    "FORMS",
    "CheckpointError",
    "Description",
    "check_fit",
    "convert",
    "export_backbone",
    "from_timm_keys",
    "inspect_file",
    "load_strictly",
    "locate",
    "prefix_checkpoint_errors",
    "read_description",
    "read_state_dict",
    "to_timm_keys",
]
