"""Features of a batch, as every backbone returns them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.utils import _pytree

from proteus.structures.errors import UserError


@dataclass(frozen=True)
class Features:
    """The output of a backbone for a batch of images.

    Attributes:
        cls: Cls tokens, ``(B, D)``; the pooled map of a CNN.
        patches: Patch tokens in row-major order, ``(B, N, D)`` with ``N = h * w``; the flattened last map of a CNN.
        grid: ``(h, w)``, the number of rows and columns of patches.
    """

    cls: Tensor
    patches: Tensor
    grid: tuple[int, int]

    @property
    def maps(self) -> Tensor:
        """The patch tokens as a feature map, ``(B, D, h, w)``."""
        return self.patches.transpose(1, 2).unflatten(2, self.grid)

    def __getitem__(self, images: slice) -> Features:
        """The features of some images of the batch: ``features[:4]``.

        Raises:
            UserError: The index is a level, as of a tuple of maps; the message names classes that return one.
        """
        if not isinstance(images, slice):
            raise UserError(
                "the backbone returns Features, and a head or neck of another toolbox expects a tuple of maps or "
                "vectors: for a classifier write model.neck=dict(type='proteus.TokenPooling'), for a dense model "
                "model.backbone.type='proteus.DenseViT'"
            )
        return Features(self.cls[images], self.patches[images], self.grid)


def _flatten(features: Features) -> tuple[list[Tensor], tuple[int, int]]:
    return [features.cls, features.patches], features.grid


def _unflatten(tensors: Iterable[Tensor], grid: Sequence[int]) -> Features:
    cls, patches = tensors
    return Features(cls, patches, (grid[0], grid[1]))


# torch.export, its ONNX exporter and torch.func flatten and rebuild Features.
_pytree.register_pytree_node(
    Features,
    _flatten,
    _unflatten,
    serialized_type_name="proteus.structures.Features",
    to_dumpable_context=list,
    from_dumpable_context=tuple,
    flatten_with_keys_fn=lambda features: (
        [(_pytree.GetAttrKey("cls"), features.cls), (_pytree.GetAttrKey("patches"), features.patches)],
        features.grid,
    ),
)
