"""ImageNet-C: 15 corruptions of ImageNet's validation images, each at five severities."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, overload

from mmengine.dataset import BaseDataset

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
        corruption: Its name in ImageNet-C.
        severity: 1 to 5.
        folder: Where the images are.
        names: ``WNID/IMAGE`` of each. Parts with the same names share one list: ImageNet-C has 3.75 million images.
    """

    corruption: str
    severity: int
    folder: Path
    names: Sequence[str]


class PartList(Sequence[dict[str, Any]]):
    """What BaseDataset takes for a list of images, each entry made when asked for; one part after another.

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
    """Images that know their ``corruption`` and ``severity``, beside ``img_path`` and ``label``."""

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
        # Not ProxySet's: pickled one by one, so many images' entries would take gigabytes.
        BaseDataset.__init__(
            self, data_root=str(data_root), pipeline=list(pipeline), indices=indices, serialize_data=False
        )
        self._metainfo["source"] = self.source

    def describe(self) -> str:
        """Where the images come from, and how many there are of what."""
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
    """ImageNet-C on disk, as its archives unpack, with or without the archives' folders (``blur/defocus_blur``).

    The images are 224 px already, so that they are only cropped (docs/reproduction.md#robustness). Folders that
    ``tools/generate_imagenet_c.py`` wrote are read alike, and :meth:`describe` tells them apart.

    Args:
        data_root: The folder.
        pipeline: As for :class:`ProxySet`; ``PackInputs`` needs ``keys=('corruption', 'severity')``.
        indices: As for :class:`ProxySet`; the images of a part follow each other.
        corruptions: These only; by default those that are there.
        severities: These only.
        all_classes: All 1,000 class folders must be in each part.

    Attributes:
        parts: What there is.
        source: ``ImageNet-C as released``, or with what it was generated; also in ``metainfo``, for the metric.

    Raises:
        FileNotFoundError: There is no such folder, no corruption's folder in it, or not one that was asked for.
        DataError: A corruption is there twice, a severity is missing, a part is empty or has other classes, or the
            generation was not finished.
        ValueError: There is no such corruption or severity.
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
        """Find the parts and list the first one's images; a further part's only where they differ."""
        root = Path(self.data_root).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"dataset.data_root: {no_folder(root)}; ImageNet-C is laid out as {_LAYOUT}")
        marker = read_marker(root)
        self.source = "ImageNet-C as released" if marker is None else f"ImageNet-C generated with {marker.library}"
        folders = _find(root, self.corruptions or CORRUPTIONS)
        absent = [name for name in self.corruptions or () if name not in folders]
        if absent or not folders:
            raise FileNotFoundError(
                f"dataset.data_root: {root} has no folder {', '.join(absent or CORRUPTIONS[:1])}; ImageNet-C is laid "
                f"out as {_LAYOUT}"
            )
        unfinished = [name for name in folders if marker is not None and name not in marker.finished]
        if unfinished:
            raise DataError(
                f"{root}: the generation of {', '.join(unfinished)} was not finished; call "
                "tools/generate_imagenet_c.py again to go on, or leave them out with dataset.corruptions"
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
    """ImageNet-C made on the fly from a validation folder by ``dict(type='Corrupt')`` in the pipeline.

    Each image is read once for every corruption and severity. The same images can be written to disk beforehand by
    ``tools/generate_imagenet_c.py``, which is quicker where several models are tested.

    Args:
        data_root: The validation images, a folder for each class, called by its wnid.
        pipeline: As for :class:`ImageNetC`.
        indices: As for :class:`ImageNetC`.
        corruptions: These only; all 15 by default.
        severities: These only.
        all_classes: All 1,000 class folders must be there.
        images_per_class: Take only so many images of each class, as for :class:`~proteus.datasets.proxy.subsampling.NamedImages`;
            all 50,000 in 75 parts are 3.75 million.

    Raises:
        FileNotFoundError: There is no such folder, or no image in it, or the library is not installed.
        DataError: The folders are not the classes'.
        ValueError: There is no such corruption or severity.
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
        """List the validation images once, and refer to them for each part."""
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
    """The folder of each corruption that is there, in ImageNet-C's order."""
    folders = {}
    for name in (name for name in CORRUPTIONS if name in corruptions):
        found = [path for path in (root / name, *sorted(root.glob(f"*/{name}"))) if path.is_dir()]
        if len(found) > 1:
            raise DataError(f"{root} has {name} twice: {' and '.join(map(str, found))}; keep one of them")
        if found:
            folders[name] = found[0]
    return folders


def _names(folder: Path, all_classes: bool) -> list[str]:
    if not folder.is_dir():
        raise DataError(
            f"{no_folder(folder)}: unpack the archive again, or give the severities that there are with "
            "dataset.severities (mCE needs all five)"
        )
    wnids = class_names(folder)
    check_wnids(wnids, folder, range(1000) if all_classes else None, "each part of ImageNet-C")
    names: list[str] = []
    for wnid in wnids:
        images = sorted(_images(folder / wnid))
        if not images:
            raise DataError(f"{folder / wnid} has no image: each part of ImageNet-C needs some of each class")
        names += [f"{wnid}/{image}" for image in images]
    if not names:
        raise DataError(f"{folder} has no image; ImageNet-C is laid out as {_LAYOUT}")
    return names


def _images(folder: Path) -> Iterator[str]:
    names = (entry.name for entry in os.scandir(folder))
    return (name for name in names if name.lower().endswith(EXTENSIONS) and not is_junk(name))
