"""Necks: they turn ``Features`` into what another toolbox's head takes."""

from proteus.models.necks.token_pooling import TokenPooling

__all__ = ["TokenPooling"]
