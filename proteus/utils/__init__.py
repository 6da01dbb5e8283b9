"""Helpers that every part of the package may import."""

from proteus.utils.atomic import atomic_path, disk_full_errors, read_json, write_bytes, write_json, write_text
from proteus.utils.lock import exclusive
from proteus.utils.npy import load_npy

__all__ = [
    "atomic_path",
    "disk_full_errors",
    "exclusive",
    "load_npy",
    "read_json",
    "write_bytes",
    "write_json",
    "write_text",
]
