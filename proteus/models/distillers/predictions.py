"""What ``predict`` of a distiller returns: tokens, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.structures import BaseDataElement
from torch import Tensor

from proteus.models.teachers import TeacherOutput


def teacher_tokens(output: TeacherOutput) -> dict[str, Tensor]:
    """What :meth:`Distiller.predict` returns of the teacher, for the whole batch."""
    tokens = {"teacher_cls": output.features.cls, "teacher_patches": output.features.patches}
    return tokens if output.logits is None else {**tokens, "teacher_logits": output.logits}


def split_by_image(
    tokens: Mapping[str, Tensor], count: int, data_samples: Sequence[BaseDataElement] | None
) -> list[dict[str, Any]]:
    """Split tokens of a batch into one dict per image, with the image's metainfo."""
    metainfo = [{}] * count if data_samples is None else [data_sample.metainfo for data_sample in data_samples]
    return [{**metainfo[i], **{name: value[i] for name, value in tokens.items()}} for i in range(count)]
