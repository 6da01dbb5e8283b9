"""Metainfo of images, as ``PackInputs`` and the collate function make it."""

from __future__ import annotations

from typing import Any

from mmengine.structures import BaseDataElement


def data_samples(*metainfo: dict[str, Any]) -> list[BaseDataElement]:
    return [BaseDataElement(metainfo=each) for each in metainfo]
