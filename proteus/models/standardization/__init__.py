"""Maps of a teacher's tokens to a common scale, so that several teachers count alike."""

from proteus.models.standardization.standardization import (
    ChannelStandardization,
    PHIStandardization,
    Standardization,
)

__all__ = ["ChannelStandardization", "PHIStandardization", "Standardization"]
