"""Proteus: distil vision foundation models into small backbones on ImageNet-sized data."""

from proteus import compat as compat  # first: patches that later imports need
from proteus.version import __version__

__all__ = ["__version__"]
