"""mmseg's data sets with checks and reproducible random transforms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from proteus.datasets.seeding import SampleKey, seeded
from proteus.datasets.segmentation.pairs import check_folders, check_pairs, check_some_labels, readable
from proteus.registry import DATASETS
from proteus.structures import CorruptImageError, DataError
from proteus.utils.files import walk


@DATASETS.register_module()
class SegmentationSet(Dataset):
    """Data set of mmseg that is checked before training and draws randomly only from the sample's key.

    mmseg's transforms draw from global generators, so that a view depends on the worker and on all samples before it.
    Here the generators are seeded for each sample with the key of ``ProxySampler``: a resumed run sees the same views
    as an uninterrupted one.

    Args:
        dataset: Config of a ``BaseSegDataset`` of mmseg, such as ``ADE20KDataset``.
        read_masks: Number of masks to read at start. Every mask is also checked when it is loaded
            (:class:`~proteus.datasets.segmentation.CheckLabels`).

    Attributes:
        inner: The data set of mmseg.

    Raises:
        DataError: A folder is missing, an image has no mask or a mask no image, a mask has another size than its image,
            unknown labels, or only ignored labels. From ``[]``: a file cannot be read.
    """

    def __init__(self, dataset: Mapping[str, Any], read_masks: int = 32) -> None:
        self.inner: Any = DATASETS.build({**dataset, "lazy_init": True})
        prefix = {key: str(Path(self.inner.data_prefix[key])) for key in ("img_path", "seg_map_path")}
        suffixes = {"img_path": self.inner.img_suffix, "seg_map_path": self.inner.seg_map_suffix}
        check_folders(prefix, suffixes, self.inner.data_root)
        self.inner.full_init()
        pairs = [(info["img_path"], info["seg_map_path"]) for info in map(self.inner.get_data_info, range(len(self)))]
        uses_all = not self.inner.ann_file and self.inner._indices is None  # else some masks are unused on purpose
        if uses_all:
            suffix = self.inner.seg_map_suffix
            found = walk(prefix["seg_map_path"], (suffix.lower(),)).files
            # mmseg does not list hidden files.
            names = [name for name in found if name.endswith(suffix) and not name.rpartition("/")[2].startswith(".")]
            masks = [str(Path(prefix["seg_map_path"], name)) for name in names]
        else:
            masks = [mask for _, mask in pairs if Path(mask).is_file()]
        check_pairs(pairs, masks)
        check_some_labels(
            [mask for _, mask in pairs],
            read_masks,
            len(self.metainfo["classes"]),
            int(self.inner.reduce_zero_label),
            self.inner.label_map,
            self.inner.ignore_index,
        )

    @property
    def metainfo(self) -> dict[str, Any]:
        """Names and colours of the classes, from mmseg."""
        return self.inner.metainfo

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, key: SampleKey | int) -> Any:
        if not isinstance(key, SampleKey):
            return self._load(key)
        with seeded(key):
            return self._load(key.image)

    def _load(self, index: int) -> Any:
        try:
            return self.inner[index]
        except DataError:
            raise
        except CorruptImageError as error:
            raise DataError(f"cannot read {error}") from error
        except Exception as error:
            # mmcv decoders raise all kinds of errors; errors that no file explains are raised again.
            info = self.inner.get_data_info(index)
            wrong = [readable(info[key]) for key in ("img_path", "seg_map_path")]
            if any(wrong):
                raise DataError("; ".join(filter(None, wrong))) from error
            raise
