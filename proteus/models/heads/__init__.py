"""Student width -> teacher width."""

from proteus.models.heads.distill_head import DistillHead

__all__ = ["DistillHead"]
