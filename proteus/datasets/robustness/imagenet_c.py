"""ImageNet-C: 15 corruptions of ImageNet's validation images at five severities."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, overload

from mmengine.dataset import BaseDataset

from proteus.compat import set_metainfo
from proteus.datasets.proxy.folder import EXTENSIONS
from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.datasets.proxy.subsampling import Amount
from proteus.datasets.robustness.generation import read_marker
from proteus.datasets.robustness.imagenet_variants import ImageNetVariant
from proteus.datasets.robustness.wnids import check_wnids, wnid_numbers
from proteus.datasets.transforms.corruption import CORRUPTIONS, SEVERITIES, check_corruptions, library
from proteus.registry import DATASETS
from proteus.structures import DataError
from proteus.utils.files import class_names, is_junk, no_folder

_LAYOUT = "DIR/CORRUPTION/SEVERITY/WNID/IMAGE or DIR/GROUP/CORRUPTION/SEVERITY/WNID/IMAGE"


class Part(NamedTuple):
    """The images of one corruption at one severity.

    Attributes:
        corruption: Name of the corruption in ImageNet-C.
        severity: Severity, 1 to 5.
        folder: Folder of the images.
        names: ``WNID/IMAGE`` of each image. Parts with equal names share one list: ImageNet-C has 3.75 million images.
    """

    corruption: str
    severity: int
    folder: Path
    names: Sequence[str]


class PartList(Sequence[dict[str, Any]]):
    """List of the images of several parts, one after another, with entries made on access.

    Args:
        parts: The parts.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self._ends = list(accumulate(len(part.names) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | Sequence[dict[str, Any]]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        which = bisect_right(self._ends, index)
        part = self.parts[which]
        name = part.names[index - (self._ends[which - 1] if which else 0)]
        return {
            "img_path": str(part.folder / name),
            "label": wnid_numbers()[name.partition("/")[0]],
            "corruption": part.corruption,
            "severity": part.severity,
        }


class _CorruptionSet(ProxySet):
    """Images with ``corruption`` and ``severity`` in addition to ``img_path`` and ``label``."""

    parts: list[Part]
    source: str

    def __init__(
        self,
        data_root: str,
        pipeline: Sequence[Any],
        indices: int | Sequence[int] | None,
        corruptions: Sequence[str] | None,
        severities: Sequence[int],
    ) -> None:
        self.corruptions = None if corruptions is None else list(corruptions)
        self.severities = list(severities)
        check_corruptions(self.corruptions or CORRUPTIONS, self.severities)
        # Skip ProxySet's constructor: serializing the entries of millions of images would take gigabytes.
        BaseDataset.__init__(
            self, data_root=str(data_root), pipeline=list(pipeline), indices=indices, serialize_data=False
        )
        set_metainfo(self, source=self.source)

    def describe(self) -> str:
        """Return source, folder, and numbers of images, corruptions and severities."""
        sizes = Counter(len(part.names) for part in self.parts)
        each = " or ".join(f"{size:,}" for size in sorted(sizes))
        corruptions = dict.fromkeys(part.corruption for part in self.parts)
        severities = {part.severity for part in self.parts}
        text = (
            f"{self.source}, {self.data_root}: {len(self):,} images, {len(self.parts)} parts of {each} "
            f"({len(corruptions)} of 15 corruptions, {len(severities)} of 5 severities)"
        )
        absent = [name for name in CORRUPTIONS if name not in corruptions]
        return text + (f"; without {', '.join(absent)}" if absent else "")


@DATASETS.register_module()
class ImageNetC(_CorruptionSet):
    """ImageNet-C on disk as unpacked from its archives, with or without their group folders (``blur/defocus_blur``).

    The images have 224 px already and are only cropped (docs/reproduction.md#robustness). Folders written by
    ``tools/generate_imagenet_c.py`` are also read; :attr:`source` distinguishes them.

    Args:
        data_root: Folder of the set.
        pipeline: As for :class:`ProxySet`; ``PackInputs`` needs ``keys=('corruption', 'severity')``.
        indices: As for :class:`ProxySet`; the images of a part are consecutive.
        corruptions: Corruptions to use; by default all that are present.
        severities: Severities to use.
        all_classes: Require all 1,000 class folders in each part.

    Attributes:
        parts: The parts that are used.
        source: ``ImageNet-C as released``, or the library it was generated with; also in ``metainfo``, for the metric.

    Raises:
        FileNotFoundError: The folder does not exist, or has no folder of a corruption.
        DataError: A corruption has two folders, a severity is missing, a part is empty or has other classes, or the
            generation was not finished.
        ValueError: A corruption or severity is unknown.
    """

    def __init__(
        self,
        data_root: str,
        pipeline: Sequence[Any] = (),
        indices: int | Sequence[int] | None = None,
        corruptions: Sequence[str] | None = None,
        severities: Sequence[int] = SEVERITIES,
        all_classes: bool = True,
    ) -> None:
        self.all_classes = all_classes
        super().__init__(data_root, pipeline, indices, corruptions, severities)

    def load_data_list(self) -> Sequence[dict[str, Any]]:
        """List the images of each part; parts with equal names share one list."""
        root = Path(self.data_root).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"dataset.data_root: {no_folder(root)}; ImageNet-C has the layout {_LAYOUT}")
        marker = read_marker(root)
        self.source = "ImageNet-C as released" if marker is None else f"ImageNet-C generated with {marker.library}"
        folders = _find(root, self.corruptions or CORRUPTIONS)
        absent = [name for name in self.corruptions or () if name not in folders]
        if absent or not folders:
            raise FileNotFoundError(
                f"dataset.data_root: {root} has no folder {', '.join(absent or CORRUPTIONS[:1])}; ImageNet-C has "
                f"the layout {_LAYOUT}"
            )
        unfinished = [name for name in folders if marker is not None and name not in marker.finished]
        if unfinished:
            raise DataError(
                f"{root}: the generation of {', '.join(unfinished)} was not finished; run "
                "tools/generate_imagenet_c.py again to resume, or leave them out of dataset.corruptions"
            )
        self.parts = []
        for corruption, folder in folders.items():
            for severity in self.severities:
                names = _names(folder / str(severity), self.all_classes)
                shared = next((part.names for part in self.parts if part.names == names), names)
                self.parts.append(Part(corruption, severity, folder / str(severity), shared))
        return PartList(self.parts)


@DATASETS.register_module()
class GeneratedImageNetC(_CorruptionSet):
    """ImageNet-C made on the fly from the validation images, with ``dict(type='Corrupt')`` in the pipeline.

    Each image is read once for every corruption and severity. ``tools/generate_imagenet_c.py`` writes the same images
    to disk, which is faster if several models are tested.

    Args:
        data_root: Validation images in one folder per class, named by wnid.
        pipeline: As for :class:`ImageNetC`.
        indices: As for :class:`ImageNetC`.
        corruptions: Corruptions to use; by default all 15.
        severities: Severities to use.
        all_classes: Require all 1,000 class folders.
        images_per_class: As for :class:`~proteus.datasets.proxy.subsampling.SubsampledProxySet`; all 50,000 images in
            75 parts are 3.75 million.

    Raises:
        FileNotFoundError: The folder does not exist or has no images, or the library is not installed.
        DataError: The folders are not those of the classes.
        ValueError: A corruption or severity is unknown.
    """

    def __init__(
        self,
        data_root: str,
        pipeline: Sequence[Any] = (),
        indices: int | Sequence[int] | None = None,
        corruptions: Sequence[str] | None = None,
        severities: Sequence[int] = SEVERITIES,
        all_classes: bool = True,
        images_per_class: Amount = None,
    ) -> None:
        self.all_classes = all_classes
        self.images_per_class = images_per_class
        super().__init__(data_root, pipeline, indices, corruptions, severities)

    def load_data_list(self) -> Sequence[dict[str, Any]]:
        """List the validation images once; all parts share the list."""
        self.source = f"ImageNet-C generated with {library()}"
        images = ImageNetVariant(
            variant="val" if self.all_classes else None,
            data_root=self.data_root,
            images_per_class=self.images_per_class,
        )
        names = [Path(name).as_posix() for name in images.names()]
        root = Path(self.data_root).expanduser()
        self.parts = [
            Part(corruption, severity, root, names)
            for corruption in self.corruptions or CORRUPTIONS
            for severity in self.severities
        ]
        return PartList(self.parts)


def _find(root: Path, corruptions: Sequence[str]) -> dict[str, Path]:
    """Find the folders of the corruptions that are present, in ImageNet-C's order."""
    folders = {}
    for name in (name for name in CORRUPTIONS if name in corruptions):
        found = [path for path in (root / name, *sorted(root.glob(f"*/{name}"))) if path.is_dir()]
        if len(found) > 1:
            raise DataError(f"{root} has two folders {name}: {' and '.join(map(str, found))}; keep one")
        if found:
            folders[name] = found[0]
    return folders


def _names(folder: Path, all_classes: bool) -> list[str]:
    if not folder.is_dir():
        raise DataError(
            f"{no_folder(folder)}: unpack the archive again, or list the available severities in "
            "dataset.severities (mCE needs all five)"
        )
    wnids = class_names(folder)
    check_wnids(wnids, folder, range(1000) if all_classes else None, "each part of ImageNet-C")
    names: list[str] = []
    for wnid in wnids:
        images = sorted(_images(folder / wnid))
        if not images:
            raise DataError(f"{folder / wnid} has no images: each part of ImageNet-C needs images of every class")
        names += [f"{wnid}/{image}" for image in images]
    if not names:
        raise DataError(f"{folder} has no images; ImageNet-C has the layout {_LAYOUT}")
    return names


def _images(folder: Path) -> Iterator[str]:
    names = (entry.name for entry in os.scandir(folder))
    return (name for name in names if name.lower().endswith(EXTENSIONS) and not is_junk(name))
