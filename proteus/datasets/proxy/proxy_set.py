"""Base class of proxy sets, the images that a student is distilled on."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

from mmengine.dataset import BaseDataset, Compose
from mmengine.structures import BaseDataElement

from proteus.datasets.failures import failed_transform, raised
from proteus.datasets.seeding import SampleKey, making_size_of, seeded
from proteus.datasets.transforms import CorruptImageError
from proteus.registry import DATASETS
from proteus.structures import DataError, UserError

# Give up after this many consecutive unreadable images.
_MAX_REPLACEMENTS = 50


@DATASETS.register_module()
class ProxySet(BaseDataset):
    """Images with views that depend only on their :class:`SampleKey`.

    A subclass lists its images in ``load_data_list``. An unreadable image is replaced by another image of the set that
    the key determines. The metainfo ``corrupt`` of the sample's ``data_samples`` lists the images that were replaced;
    :class:`~proteus.engine.CorruptImageHook` counts them. Its field ``sample_key`` has the parts of the key. Other data
    sets need not provide these entries.

    Args:
        data_root: Folder of the images.
        pipeline: Transforms from ``dict(img_path=...)`` to a packed sample.
        indices: Use only the first N images (int; at most all), or the images at these positions.
    """

    pipeline: Compose

    def __init__(
        self, data_root: str = "", pipeline: Sequence[Any] = (), indices: int | Sequence[int] | None = None
    ) -> None:
        super().__init__(data_root=str(data_root), pipeline=list(pipeline), indices=indices)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """Load the view of an image that a key identifies; a plain index gives the view of seed 0, for validation.

        Raises:
            CorruptImageError: 50 consecutive images could not be read; the message names the first and the last.
            DataError: A transform failed, for example because another one must precede it.
        """
        key = SampleKey.of(key)
        corrupt: list[str] = []
        index = key.image
        while True:
            with making_size_of(key), seeded(key, len(corrupt)):
                try:
                    sample = self.read(index, key.epoch)
                except CorruptImageError as error:
                    corrupt.append(str(error))
                    if len(corrupt) >= _MAX_REPLACEMENTS:
                        raise CorruptImageError(
                            f"{len(corrupt)} images in a row cannot be read, from {corrupt[0]} to {corrupt[-1]}: "
                            "repair or replace them"
                        ) from error
                except (UserError, MemoryError):
                    raise
                except Exception as error:
                    transform, is_ours = failed_transform(error) or ("", True)
                    # The command line reports files that our transforms cannot open.
                    if not transform or (is_ours and isinstance(error, OSError)):
                        raise
                    raise DataError(f"{transform}: {raised(error, place=not is_ours)}") from error
                else:
                    if not isinstance(sample, dict) or not isinstance(sample.get("data_samples"), BaseDataElement):
                        raise DataError("dataset.pipeline must end in dict(type='PackInputs') or a similar transform")
                    sample["data_samples"].set_metainfo({"corrupt": corrupt})
                    sample["data_samples"].sample_key = key.parts
                    return sample
            # A step without a common factor with the length reaches all images; 7919 is a prime.
            step = 7919 if len(self) % 7919 else 1
            index = (key.image + step * len(corrupt)) % len(self)

    def _get_unserialized_subset(self, indices: int | Sequence[int]) -> Any:
        """Take the first N images (at most all), or the images at some positions.

        Raises:
            ValueError: A position is out of range.
        """
        count = len(self.data_list)
        if not isinstance(indices, int):
            beyond = [position for position in indices if not -count <= position < count]
            if beyond:
                raise ValueError(f"dataset.indices=[..., {max(beyond, key=abs)}]: the set has {count:,} images")
        return super()._get_unserialized_subset(indices)

    def read(self, index: int, epoch: int) -> dict[str, Any]:
        """Read an image and draw a view of it with the current random state.

        Args:
            index: Position in the set.
            epoch: The epoch, from 0.

        Raises:
            CorruptImageError: The image cannot be read.
        """
        return self.pipeline(self.get_data_info(index))

    def set_default_pipeline(self, pipeline: Compose) -> None:
        """Set the pipeline if the set has none."""
        if not self.pipeline.transforms:
            self.pipeline = pipeline

    def with_pipeline(self, pipeline: Compose) -> ProxySet:
        """Return the same images with other transforms."""
        other = copy(self)
        other.pipeline = pipeline
        return other

    def describe(self) -> str:
        """Return type, folder and number of images, for the log."""
        return f"{type(self).__name__} {self.data_root or ''}".rstrip() + f": {len(self):,} images"

    def chosen(self) -> dict[str, list[str]]:
        """Return the names of the images in each subsampled set, by set name.

        The key is empty except in a :class:`~proteus.datasets.proxy.concat.ConcatProxySet`, where sets have names.
        """
        return {}
