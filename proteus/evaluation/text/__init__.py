"""Text embeddings for zero-shot classification and retrieval: names, prompts, text towers and prepared files."""

from proteus.evaluation.text.class_names import class_names
from proteus.evaluation.text.embedding_file import read_text_embeddings
from proteus.evaluation.text.image_projection import ImageProjection, read_projection
from proteus.evaluation.text.prompts import PromptEnsemble, ensemble
from proteus.evaluation.text.text_tower import TextTower

__all__ = [
    "ImageProjection",
    "PromptEnsemble",
    "TextTower",
    "class_names",
    "ensemble",
    "read_projection",
    "read_text_embeddings",
]
