"""A folder of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, Literal

from proteus.datasets.proxy.folder_index import cache_folder, image_names
from proteus.datasets.proxy.image_list import ImageList
from proteus.datasets.proxy.subsampling import NamedImages
from proteus.registry import DATASETS
from proteus.utils.files import no_folder
from proteus.utils.images import EXTENSIONS as EXTENSIONS


@DATASETS.register_module()
class ImageFolder(NamedImages):
    """All images below a folder, however nested; labels and file names mean nothing, unless a part is asked for.

    Where listing takes a second or more, the list is kept, and later starts take it from there unless a folder's time
    of last change differs (:func:`~proteus.datasets.proxy.folder_index.image_names`). Nothing is written beside the images.

    Args:
        data_root: The folder, for instance ``data/imagenet/train``.
        pipeline: As for :class:`ProxySet`.
        indices: As for :class:`ProxySet`.
        split: ``all``, or one side of a division in two that depends only on each file's path below the folder.
        held_out: Share of the images on the ``held-out`` side of that division.
        index_cache: Where the list is kept: True for the folder of the environment variable ``PROTEUS_CACHE``
            (default ``~/.cache/proteus``), another folder, or False to list at every start, as on file systems that
            do not keep their folders' times.
        **subset: ``images_per_class``, ``classes``, ``subset_seed`` and ``list_file``, as for
            :class:`~proteus.datasets.proxy.subsampling.NamedImages`: a part of what ``split`` leaves.

    Raises:
        FileNotFoundError: There is no such folder, or no image in it.
        ValueError: ``split`` is not one of the three.
    """

    def __init__(
        self,
        data_root: str,
        pipeline: Sequence[Any] = (),
        indices: int | Sequence[int] | None = None,
        split: Literal["all", "train", "held-out"] = "all",
        held_out: float = 0.2,
        index_cache: bool | str = True,
        **subset: Any,
    ) -> None:
        if split not in ("all", "train", "held-out"):
            raise ValueError(f"dataset.split={split!r}: write 'all', 'train' or 'held-out'")
        self.split = split
        self.held_out = held_out
        self.index_cache = index_cache
        # What stands before the names in the paths.
        self._prefix = len(str(Path(data_root).expanduser())) + 1
        super().__init__(data_root, pipeline, indices, **subset)

    def load_data_list(self) -> Sequence[dict[str, Any]]:
        """List the images, sorted by path."""
        root = Path(self.data_root).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(
                f"dataset.data_root: {no_folder(root)}; put the images there, or give their folder with "
                "--cfg-options train_dataloader.dataset.data_root=DIR"
            )
        images = ImageList(os.path.join(root, ""), image_names(root, EXTENSIONS, self._keep_in()))
        found = len(images)
        if self.split != "all":
            names = images.names()
            chosen = (self.is_chosen(name, self.split, self.held_out) for name in names)
            images = images.take([position for position, is_in in enumerate(chosen) if is_in])
        if not images:
            what = f"{found} images, none of them in split={self.split!r} (which names decide)" if found else "no image"
            raise FileNotFoundError(f"dataset.data_root: {what} in {root} ({', '.join(EXTENSIONS)} are looked for)")
        return images

    def name_of(self, info: dict[str, Any]) -> str:
        """The path below the folder."""
        return str(info["img_path"])[self._prefix :]

    def _keep_in(self) -> Path | None:
        if isinstance(self.index_cache, str):
            return Path(self.index_cache).expanduser()
        return cache_folder() if self.index_cache else None

    @staticmethod
    def is_chosen(name: str, split: str, held_out: float) -> bool:
        """Whether an image of this name below the folder is in ``train`` or ``held-out``."""
        share = int.from_bytes(sha1(os.fsencode(Path(name).as_posix())).digest()[:8], "big") / 2**64
        return (share < held_out) == (split == "held-out")
