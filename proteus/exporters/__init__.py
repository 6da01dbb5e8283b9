"""Write a backbone in the formats of other tools: the model folder."""

from proteus.exporters.compare import ExportError
from proteus.exporters.facts import CardFacts
from proteus.exporters.folder import FORMATS, ModelFolder, write_model_folder
from proteus.exporters.model import ExportModel, FormatSkippedError

__all__ = [
    "FORMATS",
    "CardFacts",
    "ExportError",
    "ExportModel",
    "FormatSkippedError",
    "ModelFolder",
    "write_model_folder",
]
