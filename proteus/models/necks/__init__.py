"""Between a backbone and another toolbox's head."""

from proteus.models.necks.token_pooling import TokenPooling

__all__ = ["TokenPooling"]
