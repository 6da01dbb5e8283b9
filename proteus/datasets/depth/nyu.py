"""NYU Depth V2."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from mmengine.logging import print_log

from proteus.datasets.depth.checks import check_depths, check_headers
from proteus.datasets.depth.listing import Pair, list_folders, read_split_file
from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.datasets.seeding import SampleKey, seeded
from proteus.datasets.transforms import CorruptImageError
from proteus.registry import DATASETS
from proteus.structures import DataError
from proteus.utils.argument_checks import check_number, check_whole
from proteus.utils.files import no_folder

Split = Literal["train", "test"]
SIZES: dict[str, int] = {"train": 24231, "test": 654}
"""Official numbers of pairs: BTS's selection for training, and the labelled frames of Eigen's test."""

_LAYOUTS = """\
what must be there, as tools/dataset_converters/nyu.py writes it:
  nyu_train.txt, nyu_test.txt       lines of IMAGE DEPTH FOCAL
  kitchen_0028b/rgb_00045.jpg, kitchen_0028b/sync_depth_00045.png ...
or, as mmseg has it:
  images/{train,test}/kitchen_0028b_00045.jpg ...
  annotations/{train,test}/kitchen_0028b_00045.png ..."""


@DATASETS.register_module()
class NYUDepth(ProxySet):
    """NYU-Depth V2 (Silberman et al., 2012; docs/reproduction.md#nyu-depth-v2): images, and depth in metres.

    Two layouts are read: the Monocular-Depth-Estimation-Toolbox's (and BTS's), with lists ``nyu_train.txt`` and
    ``nyu_test.txt``, and mmseg's, with folders ``images`` and ``annotations``. Where both are, the lists count.

    What is wrong with the files is told at once: of every pair the presence, the size and the kind of pixels, and of
    some depth maps the depths. A pair that cannot be read later is an error too, never replaced. A copy with another
    number of pairs than the official one works, and the log tells it.

    Args:
        data_root: The set's folder.
        split: ``train`` or ``test``.
        split_file: A list of pairs instead of ``nyu_<split>.txt``, absolute or below ``data_root``.
        depth_scale: Stored numbers to the metre: 1000 where millimetres are stored.
        check_maps: How many depth maps to look into at once; None for all, which takes minutes for the training
            set; 0 for none, where its depths are not indoor ones.
        pipeline: Transforms from ``dict(img_path=..., depth_path=..., depth_scale=...)`` to a packed sample.
        indices: As for :class:`~proteus.datasets.ProxySet`.

    Raises:
        FileNotFoundError: Neither layout is there.
        DataError: A file is missing (named with the list's line), a line is malformed, a depth map has not its image's
            size or not 16 bits or no valid depth, or ``depth_scale`` makes depths that cannot be.
        ValueError: There is no such split, or a number is out of range.
    """

    def __init__(
        self,
        data_root: str,
        split: Split = "train",
        split_file: str | None = None,
        depth_scale: float = 1000.0,
        check_maps: int | None = 16,
        pipeline: Sequence[Any] = (),
        indices: int | Sequence[int] | None = None,
    ) -> None:
        if split not in get_args(Split):
            raise ValueError(f"dataset.split={split!r}: write 'train' or 'test', and a list's name in split_file")
        check_number("dataset.depth_scale", depth_scale, 0, above=True)
        if check_maps is not None:
            check_whole("dataset.check_maps", check_maps, 0)
        self.split = split
        self.split_file = split_file
        self.depth_scale = float(depth_scale)
        self.check_maps = check_maps
        self.whole = self.without_depth = self.repeated = 0
        super().__init__(data_root, pipeline, indices)
        if self.deviation:
            print_log(self.describe(), "current", logging.WARNING)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the pairs, sorted by image, and check them."""
        pairs = self._pairs()
        if not pairs:
            raise DataError(f"dataset.data_root: {self.data_root} has no pair in split={self.split!r}")
        check_headers(pairs)
        check_depths(pairs, self.depth_scale, self.check_maps)
        self.whole = len(pairs)
        self.repeated = len(pairs) - len({(pair.image, pair.depth) for pair in pairs})
        return [{"img_path": pair.image, "depth_path": pair.depth, "depth_scale": self.depth_scale} for pair in pairs]

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """The view of a pair, a function of the key alone; a plain index gives the view drawn without a seed.

        Raises:
            DataError: The pair cannot be read; names the file.
        """
        key = SampleKey.of(key)
        with seeded(key, 0):
            try:
                sample = self.read(key.image, key.epoch)
            except CorruptImageError as error:
                raise DataError(f"{error}; restore the file, it is never left out or replaced") from error
        return sample

    @property
    def deviation(self) -> str:
        """In what the copy differs from the official one; empty where it does not."""
        told = []
        if self.whole != SIZES[self.split]:
            told.append(f"officially {SIZES[self.split]:,}")
        if self.without_depth:
            told.append(f"{self.without_depth:,} more are listed without a depth map")
        if self.repeated:
            told.append(f"{self.repeated:,} are listed twice")
        return "; ".join(told)

    def describe(self) -> str:
        """What the set is, where it is, how many pairs it has, and how that differs from the official set."""
        told = f"NYU Depth V2 ({self.split}) {self.data_root}: {len(self):,} pairs"
        if len(self) != self.whole:
            told += f" of {self.whole:,}"
        return f"{told} ({self.deviation})" if self.deviation else told

    def _pairs(self) -> list[Pair]:
        root = Path(self.data_root).expanduser()
        listed = root / (self.split_file or f"nyu_{self.split}.txt")
        if listed.is_file():
            pairs, self.without_depth = read_split_file(listed, root)
            return pairs
        images, depths = root / "images" / self.split, root / "annotations" / self.split
        if self.split_file is None and images.is_dir():
            return list_folders(images, depths)
        what = f"{listed} does not exist" if root.is_dir() else no_folder(root)
        raise FileNotFoundError(f"dataset.data_root: {what}; {_LAYOUTS}")
