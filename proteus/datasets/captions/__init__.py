"""Images with captions."""

from proteus.datasets.captions.captioned_images import CaptionedImages, has_captions

__all__ = ["CaptionedImages", "has_captions"]
