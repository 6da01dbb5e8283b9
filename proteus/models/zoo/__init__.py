"""Models by the names that people know: their records, weights and licences."""

from proteus.models.zoo.load import backbone_spec, load_backbone, student_config, teacher_config
from proteus.models.zoo.locate import Located, locate_model
from proteus.models.zoo.names import find_model, list_models
from proteus.models.zoo.record import ModelRecord
from proteus.models.zoo.weights import find_weights, weights_on_disk

__all__ = [
    "Located",
    "ModelRecord",
    "backbone_spec",
    "find_model",
    "find_weights",
    "list_models",
    "load_backbone",
    "locate_model",
    "student_config",
    "teacher_config",
    "weights_on_disk",
]
