"""What every backbone returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Features:
    """The output of a backbone for a batch of images.

    Attributes:
        cls: Image tokens, ``(B, D)``. For a CNN, its pooled map.
        patches: Patch tokens in row-major order, ``(B, N, D)`` with ``N = h * w``. For a CNN, its last map, flattened.
        grid: ``(h, w)``, the number of patches down and across.
    """

    cls: Tensor
    patches: Tensor
    grid: tuple[int, int]

    @property
    def maps(self) -> Tensor:
        """The patch tokens as a feature map, ``(B, D, h, w)``."""
        return self.patches.transpose(1, 2).unflatten(2, self.grid)

    def __getitem__(self, images: slice) -> Features:
        """The features of some images of the batch: ``features[:4]``."""
        return Features(self.cls[images], self.patches[images], self.grid)
