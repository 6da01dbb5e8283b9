"""The packaged photographs as a proxy set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proteus.datasets.packaged import Split, packaged_photographs
from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.registry import DATASETS


@DATASETS.register_module()
class PackagedPhotographs(ProxySet):
    """Photographs from installed pip packages: just enough to see a student learn.

    Args:
        split: ``train`` or ``held-out``; they share no scene.
        pipeline: As for :class:`ProxySet`.
        indices: As for :class:`ProxySet`.

    Raises:
        FileNotFoundError: A package is missing; the message has the command that installs it.
    """

    def __init__(
        self, split: Split = "train", pipeline: Sequence[Any] = (), indices: int | Sequence[int] | None = None
    ) -> None:
        self.split = split
        super().__init__(pipeline=pipeline, indices=indices)

    def load_data_list(self) -> list[dict[str, str]]:
        """List the photographs in their fixed order."""
        return [{"img_path": str(path)} for path in packaged_photographs(self.split)]
