"""Proxy set of all images below a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, Literal

from proteus.datasets.proxy.folder_index import ImageList, image_names
from proteus.datasets.proxy.subsampling import SubsampledProxySet
from proteus.registry import DATASETS
from proteus.structures import DataError
from proteus.utils.files import cache_folder, no_folder, walk
from proteus.utils.images import EXTENSIONS as EXTENSIONS


@DATASETS.register_module()
class ImageFolder(SubsampledProxySet):
    """All images below a folder and its subfolders. Names and labels are ignored unless a subset is requested.

    If listing takes a second or more, the list is cached, and later runs use it until the modification time of a folder
    changes (:func:`~proteus.datasets.proxy.folder_index.image_names`). Nothing is written into the image folders.

    Args:
        data_root: The folder, such as ``data/imagenet/train``.
        pipeline: As for :class:`ProxySet`.
        indices: As for :class:`ProxySet`.
        split: ``all``, or one part of a split into ``train`` and ``held-out`` that depends only on the path of each
            file relative to the folder.
        held_out: Fraction of the images in ``held-out``.
        index_cache: Folder of the cached list; True for that of the environment variable ``PROTEUS_CACHE`` (default
            ``~/.cache/proteus``), False to list at every start, for file systems without modification times of folders.
        **subset: ``images_per_class``, ``classes``, ``subset_seed`` and ``list_file``, as for
            :class:`~proteus.datasets.proxy.subsampling.SubsampledProxySet`, applied after ``split``.

    Raises:
        FileNotFoundError: The folder does not exist, or has no images.
        ValueError: ``split`` is unknown.
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
        self._root_length = len(str(Path(data_root).expanduser())) + 1
        super().__init__(data_root, pipeline, indices, **subset)

    def load_data_list(self) -> Sequence[dict[str, Any]]:
        """List the images, sorted by path."""
        root = Path(self.data_root).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(
                f"dataset.data_root: {no_folder(root)}; put the images there, or give their folder with "
                "--cfg-options train_dataloader.dataset.data_root=DIR"
            )
        images = ImageList(os.path.join(root, ""), image_names(root, EXTENSIONS, self._cache_folder()))
        found = len(images)
        if self.split != "all":
            names = images.names()
            chosen = (self.is_chosen(name, self.split, self.held_out) for name in names)
            images = images.take([position for position, is_in in enumerate(chosen) if is_in])
        if not images:
            if found:
                fault = f"none of the {found} images in {root} belongs to split={self.split!r}"
            else:
                fault = f"no images in {root} (looked for {', '.join(EXTENSIONS)}){walk(root, EXTENSIONS).hint}"
            raise FileNotFoundError(f"dataset.data_root: {fault}")
        return images

    def name_of(self, info: dict[str, Any]) -> str:
        """Return the path relative to the folder."""
        return str(info["img_path"])[self._root_length :]

    def _cache_folder(self) -> Path | None:
        if isinstance(self.index_cache, str):
            return Path(self.index_cache).expanduser()
        return cache_folder() if self.index_cache else None

    @staticmethod
    def is_chosen(name: str, split: str, held_out: float) -> bool:
        """Whether an image with this name is in a split, ``train`` or ``held-out``."""
        share = int.from_bytes(sha1(os.fsencode(Path(name).as_posix())).digest()[:8], "big") / 2**64
        return (share < held_out) == (split == "held-out")


def list_images(folder: str | Path, option: str) -> list[str]:
    """Return the names of the images below a folder that a user named, sorted.

    Args:
        folder: The folder.
        option: Name of the argument, for the error.

    Raises:
        DataError: The folder does not exist, or has no images.
    """
    try:
        return ImageFolder(str(folder)).names()
    except FileNotFoundError as error:  # names the key of a config
        fault = str(error).removeprefix("dataset.data_root: ").partition("; put the images there")[0]
        raise DataError(f"{option}: {fault}; name a folder that has images in it or below it") from None
