"""NYU Depth V2, and batches of images with depth maps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from mmengine.logging import print_log
from torch import Tensor

from proteus.datasets.depth.pairs import Pair, check_depths, check_headers, list_folders, read_split_file
from proteus.datasets.proxy.collate import stack_images
from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.datasets.seeding import SampleKey, seeded
from proteus.datasets.transforms import CorruptImageError
from proteus.registry import DATASETS, FUNCTIONS
from proteus.structures import DataError
from proteus.utils.argument_checks import check_number, check_whole
from proteus.utils.files import no_folder

Split = Literal["train", "test"]
SIZES: dict[str, int] = {"train": 24231, "test": 654}
"""Official numbers of pairs: BTS's training selection, and the labelled frames of Eigen's test split."""

_LAYOUTS = """\
expected files, as tools/dataset_converters/nyu.py writes them:
  nyu_train.txt, nyu_test.txt       lines of IMAGE DEPTH FOCAL
  kitchen_0028b/rgb_00045.jpg, kitchen_0028b/sync_depth_00045.png ...
or, in the layout of mmseg:
  images/{train,test}/kitchen_0028b_00045.jpg ...
  annotations/{train,test}/kitchen_0028b_00045.png ..."""


@DATASETS.register_module()
class NYUDepth(ProxySet):
    """NYU-Depth V2 (Silberman et al., 2012; docs/reproduction.md#nyu-depth-v2): images with depth maps in metres.

    Two layouts are supported: that of BTS and the Monocular-Depth-Estimation-Toolbox, with the lists ``nyu_train.txt``
    and ``nyu_test.txt``, and that of mmseg, with the folders ``images`` and ``annotations``. If both exist, the lists
    are used.

    Files are checked when the set is built: presence, size and pixel type of every pair, and the depths of some maps.
    A pair that turns out to be unreadable later is an error and is never replaced. A copy with another number of pairs
    than the official one works, with a warning in the log.

    Args:
        data_root: Folder of the set.
        split: ``train`` or ``test``.
        split_file: List of pairs to use instead of ``nyu_<split>.txt``, absolute or relative to ``data_root``.
        depth_scale: Stored value of one metre: 1000 if millimetres are stored.
        check_maps: Number of depth maps to read when the set is built; None for all, which takes minutes for the
            training set; 0 for none, if the depths are not indoor depths.
        pipeline: Transforms from ``dict(img_path=..., depth_path=..., depth_scale=...)`` to a packed sample.
        indices: As for :class:`~proteus.datasets.ProxySet`.

    Attributes:
        full_size: Number of pairs in the split, before ``indices``.
        without_depth: Number of images that are listed without a depth map.
        repeated: Number of pairs that are listed more than once.

    Raises:
        FileNotFoundError: Neither layout is present.
        DataError: A file is missing (the message has the line of the list), a line is malformed, a depth map has
            another size than its image, not 16 bits or no valid depth, or ``depth_scale`` gives implausible depths.
        ValueError: The split is unknown, or a number is out of range.
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
            raise ValueError(f"dataset.split={split!r}: write 'train' or 'test', and the name of a list in split_file")
        check_number("dataset.depth_scale", depth_scale, 0, above=True)
        if check_maps is not None:
            check_whole("dataset.check_maps", check_maps, 0)
        self.split = split
        self.split_file = split_file
        self.depth_scale = float(depth_scale)
        self.check_maps = check_maps
        self.full_size = self.without_depth = self.repeated = 0
        super().__init__(data_root, pipeline, indices)
        if self.differences:
            print_log(self.describe(), "current", logging.WARNING)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the pairs, sorted by image, and check them."""
        pairs = self._pairs()
        if not pairs:
            raise DataError(f"dataset.data_root: {self.data_root} has no pairs in split={self.split!r}")
        check_headers(pairs)
        check_depths(pairs, self.depth_scale, self.check_maps)
        self.full_size = len(pairs)
        self.repeated = len(pairs) - len({(pair.image, pair.depth) for pair in pairs})
        return [{"img_path": pair.image, "depth_path": pair.depth, "depth_scale": self.depth_scale} for pair in pairs]

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """Load the view of a pair that the key identifies; a plain index gives the view of seed 0.

        Raises:
            DataError: The pair cannot be read; the message names the file.
        """
        key = SampleKey.of(key)
        with seeded(key, 0):
            try:
                sample = self.read(key.image, key.epoch)
            except CorruptImageError as error:
                raise DataError(f"{error}; restore the file, since pairs are never skipped or replaced") from error
        return sample

    @property
    def differences(self) -> str:
        """How the copy differs from the official set; empty if it does not."""
        found = []
        if self.full_size != SIZES[self.split]:
            found.append(f"officially {SIZES[self.split]:,}")
        if self.without_depth:
            found.append(f"{self.without_depth:,} more are listed without a depth map")
        if self.repeated:
            found.append(f"{self.repeated:,} are listed twice")
        return "; ".join(found)

    def describe(self) -> str:
        """Return name, folder and number of pairs, and how the copy differs from the official set."""
        text = f"NYU Depth V2 ({self.split}) {self.data_root}: {len(self):,} pairs"
        if len(self) != self.full_size:
            text += f" of {self.full_size:,}"
        return f"{text} ({self.differences})" if self.differences else text

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


@FUNCTIONS.register_module()
def depth_collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack images and depth maps that have equal sizes.

    Args:
        samples: Samples of ``PackDepth``. A depth map may have another size than its image.

    Returns:
        ``inputs`` ``(B, 3, H, W)``, or a list of ``(3, H, W)`` if sizes differ; ``depths`` ``(B, H, W)`` in metres with
        0 for invalid, or likewise a list; and ``data_samples``.
    """
    return {
        "inputs": _stacked([sample["inputs"] for sample in samples]),
        "depths": _stacked([sample["depth"] for sample in samples]),
        "data_samples": [sample["data_samples"] for sample in samples],
    }


def _stacked(tensors: list[Tensor]) -> Tensor | list[Tensor]:
    return stack_images(tensors) if len({tensor.shape for tensor in tensors}) == 1 else tensors
