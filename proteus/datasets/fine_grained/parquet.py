"""A labelled set in Parquet shards."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proteus.datasets.fine_grained.base import FineGrainedSet, Metric, Part, Split
from proteus.datasets.fine_grained.listing import Label, Listed
from proteus.datasets.fine_grained.parquet_rows import ParquetRows, open_parquet
from proteus.datasets.transforms import CorruptImageError
from proteus.registry import DATASETS

_NAMES: dict[Part, tuple[str, ...]] = {"train": ("train",), "val": ("validation", "valid", "val"), "test": ("test",)}
_SHARD = re.compile(r"-(\d+)-of-(\d+)")


@DATASETS.register_module()
class ParquetSet(FineGrainedSet):
    """Any labelled set in the Parquet shards that the Hugging Face Hub serves.

    A row group is read when an image of it is wanted, and let go for the next; reading in order is fast, reading at
    random is slow (:class:`~proteus.datasets.fine_grained.parquet_rows.ParquetRows`). The rows of such a copy need not
    stand in the official order, and then another fifth of them is for validation.

    Args:
        data_root: The folder that has ``data/train-00000-of-00001.parquet``, or these files themselves.
        split: As for :class:`FineGrainedSet`; ``val`` is the set's own where there are shards for it.
        pipeline: As for :class:`FineGrainedSet`.
        indices: As for :class:`FineGrainedSet`.
        image_column: A column of ``{bytes, path}``, or of bytes: image files.
        label_column: A column of classes from 0, or of lists of them, where an image may have several.
        num_classes: How many classes there are; by default what ``base_dataset`` or the shards themselves say.
        metric: How the set is judged; by default as ``base_dataset``, else by ``top1``.
        title: What to call it; by default the folder's name.
        base_dataset: A set of this package (``'CIFAR10'``) of which this is a copy: what is known of that holds here too.

    Raises:
        FileNotFoundError: There are no such shards, or not all of them.
        ValueError: A column is missing or has another type, or a label is out of range.
    """

    folder = "parquet"
    markers = ()
    layout = """
data/train-00000-of-00001.parquet ...
data/validation-00000-of-00001.parquet ... (where the set has that split)
data/test-00000-of-00001.parquet ..."""
    source = "the data set's repository"

    def __init__(
        self,
        data_root: str,
        split: Split,
        pipeline: Sequence[Any] = (),
        indices: int | Sequence[int] | None = None,
        image_column: str = "image",
        label_column: str = "label",
        num_classes: int | None = None,
        metric: Metric | None = None,
        title: str | None = None,
        base_dataset: str | None = None,
    ) -> None:
        copied = DATASETS.get(base_dataset) if base_dataset is not None else None
        if base_dataset is not None and (
            copied is None or not issubclass(copied, FineGrainedSet) or copied is ParquetSet
        ):
            raise ValueError(
                f"dataset.base_dataset={base_dataset!r}: write a fine-grained set's name, such as 'CIFAR10'"
            )
        self.image_column, self.label_column = image_column, label_column
        self.title = title or (copied.title if copied else Path(data_root).name)
        self.metric = metric or (copied.metric if copied else "top1")
        self.sizes = copied.sizes if copied else (None, None, None)
        self._asked_classes = num_classes or (copied.num_classes if copied else None)
        self.num_classes = self._asked_classes or 0
        self.home = Path(data_root).expanduser()
        self.has_val = bool(self._shards("val"))
        super().__init__(data_root, split, pipeline, indices)

    def list_part(self, part: Part) -> list[Listed]:
        """Read the labels of a split's shards."""
        paths = self._shards(part)
        if not paths:
            self.file(f"data/{_NAMES[part][0]}-00000-of-00001.parquet")
        listed: list[Listed] = []
        for path in paths:
            file = len(self._files)
            self._files.append(path)
            with open_parquet(path) as opened:
                labels = self._read_labels(path, opened)
                groups = [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]
            rows = ((group, row) for group, count in enumerate(groups) for row in range(count))
            for number, (label, (group, row)) in enumerate(zip(labels, rows, strict=True)):
                where = f"{path}, row {number}"
                place = {"file": file, "group": group, "row": row}
                listed.append(Listed(f"{path}/{number}", self._label(label, where), where, place))
        return listed

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images of the split."""
        self._files: list[Path] = []
        listed = super().load_data_list()
        self._rows = ParquetRows(self._files, self.image_column)
        return listed

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """The image file's content as ``img_bytes``, and an ``img_path`` to call it by.

        Raises:
            CorruptImageError: It is not there, or the shard is damaged.
        """
        info = super().get_data_info(idx)
        try:
            image = self._rows.read(info["file"], info["group"], info["row"])
        except ValueError as error:
            raise CorruptImageError(f"{info['img_path']} ({error})") from error
        content = image.get("bytes") if isinstance(image, dict) else image
        if not isinstance(content, bytes):
            raise CorruptImageError(f"{info['img_path']} (column {self.image_column!r} holds no bytes in this row)")
        return {**info, "img_bytes": content}

    def _shards(self, part: Part) -> list[Path]:
        for name in _NAMES[part]:
            for pattern in (f"data/{name}-*", f"{name}-*", f"{name}/*", f"default/{name}/*"):
                found = sorted(self.home.glob(f"{pattern}.parquet"))
                if found:
                    self._check_complete(found)
                    return found
        return []

    def _check_complete(self, paths: Sequence[Path]) -> None:
        numbered = [match for path in paths if (match := _SHARD.search(path.name))]
        counts = {int(match[2]) for match in numbered}
        if counts and (len(counts) > 1 or {int(match[1]) for match in numbered} != set(range(*counts))):
            raise FileNotFoundError(
                f"dataset.data_root: {paths[0].parent} has {len(paths)} shards such as {paths[0].name}, but not each "
                "of as many as their names say, and once; complete them"
            )

    def _read_labels(self, path: Path, opened: Any) -> list[Any]:
        names = opened.schema_arrow.names
        lacks = [name for name in (self.image_column, self.label_column) if name not in names]
        if lacks:
            option = "image_column" if lacks[0] == self.image_column else "label_column"
            raise ValueError(f"dataset.{option}={lacks[0]!r}: {path} has the columns {', '.join(names)}; write one")
        declared = _declared_classes(opened.schema_arrow.metadata or {}, self.label_column)
        if self._asked_classes is None and declared is None:
            raise ValueError(f"dataset.num_classes: {path} does not say how many classes there are; write it")
        self.num_classes = self._asked_classes or declared or 0
        if declared not in (None, self.num_classes):
            raise ValueError(
                f"dataset.num_classes: {self.num_classes} expected, but {path} declares {declared} classes"
            )
        return opened.read(columns=[self.label_column], use_threads=False).column(0).to_pylist()

    def _label(self, label: Any, where: str) -> Label:
        if (self.metric == "map11") != isinstance(label, list):
            kind = "a list of classes" if isinstance(label, list) else "one class"
            raise ValueError(f"{where}: {kind}, which metric={self.metric!r} cannot judge")
        if not isinstance(label, list):
            return self.numbered(label, 0, where)
        several = np.zeros(self.num_classes, np.int8)
        several[[self.numbered(one, 0, where) for one in label]] = 1
        return several


def _declared_classes(metadata: dict[bytes, bytes], column: str) -> int | None:
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        return len(feature["names"])
    except (KeyError, ValueError, TypeError):
        return None
