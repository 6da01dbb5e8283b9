"""Heads that begin as the regression from a student's tokens to its teacher's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from proteus.models.inheritance.least_squares import LeastSquares


@torch.no_grad()
def fit_heads(distiller: Any, images: Tensor, batch_size: int = 32) -> list[str]:
    """Fit the linear layer at the end of each head to what the teacher makes of the same images.

    The head of an objective on masked patches is fitted on patches of which half are masked at random.

    Args:
        distiller: A :class:`~proteus.models.Distiller`, in evaluation mode.
        images: ``(B, 3, H, W)``, normalised for the student.
        batch_size: Images that are encoded at a time.

    Returns:
        Names of the objectives of which a head was fitted. One that does not end in a linear layer, or maps something
        else than tokens to the teacher's, is left as it is.
    """
    fitted: list[str] = []
    fits: list[tuple[bool, str, list[nn.Module], nn.Linear, LeastSquares]] = []
    for name, objective in distiller.objectives.items():
        for kind, head in objective.mapped.items():
            layers = list(head.children())
            if isinstance(head, nn.Sequential) and isinstance(layers[-1], nn.Linear):
                last = layers[-1]
                fitted.append(name)
                sums = LeastSquares(last.in_features, last.out_features, images.device)
                fits.append((objective.needs_masks, kind, layers[:-1], last, sums))
    drawn = torch.Generator().manual_seed(0)
    for batch in images.split(batch_size):
        student, teacher = distiller.student(batch), distiller.teacher(batch)
        if any(masked for masked, *_ in fits):
            masks = (torch.rand(teacher.patches.shape[:2], generator=drawn) < 0.5).to(images.device)
            hidden = distiller.student(batch, masks).patches[masks]
        for masked, kind, before, _, fit in fits:
            tokens = hidden if masked else getattr(student, kind).flatten(0, -2)
            wanted = teacher.patches[masks] if masked else getattr(teacher, kind).flatten(0, -2)
            for layer in before:
                tokens = layer(tokens)
            fit.add(tokens, wanted)
    for *_, last, fit in fits:
        weight, bias = fit.solve()
        last.weight.copy_(weight)
        if last.bias is not None:
            last.bias.copy_(bias)
    return list(dict.fromkeys(fitted))
