"""``model.pt2``, a program of ``torch.export``: it runs with torch alone."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from proteus.checkpoints.errors import first_sentence
from proteus.exporters.compare import ExportError, largest_difference
from proteus.exporters.model import ExportModel
from proteus.exporters.onnx_file import quiet
from proteus.exporters.traceable import other_size, traceable
from proteus.models.backbones import ViT
from proteus.utils.atomic import atomic_path


def write_program(model: ExportModel, path: Path, dynamic_size: bool = False) -> float:
    """Write a program: images -> ``(cls, patches)``, for any batch size.

    Args:
        model: The model.
        path: File to write.
        dynamic_size: Also take images of any size.

    Returns:
        Largest absolute difference between the features of the reloaded program and of the model, on random images at
        batch 1 and 3; with ``dynamic_size`` also at another size.

    Raises:
        ExportError: torch cannot export the model, or the features differ; nothing is written.
        FullDiskError: The disk is full.
    """
    module = traceable(model, dynamic_size)
    shapes: dict[int, object] = {0: torch.export.Dim("batch")}
    if dynamic_size and isinstance(model.backbone, ViT):
        rows, columns = torch.export.Dim("rows"), torch.export.Dim("columns")
        shapes |= {2: model.backbone.patch_size * rows, 3: model.backbone.patch_size * columns}
    elif dynamic_size:
        shapes |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    with atomic_path(path) as temporary, quiet():
        try:
            program = torch.export.export(module, (model.images(2),), dynamic_shapes=(shapes,))
        except Exception as error:  # torch raises many types for a model that it cannot export
            raise ExportError(f"torch.export cannot export {model.architecture} ({first_sentence(error)})") from error
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # paths of this machine
        # Through memory: torch's writer ends the process if the disk is full.
        content = io.BytesIO()
        torch.export.save(program, content)
        temporary.write_bytes(content.getbuffer())
        run = torch.export.load(content).module()
        sizes = [other_size(model)] if dynamic_size else ()
        return largest_difference(model, run, path.name, sizes=sizes, reference=module)
