"""The images a student is distilled on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.dataset import BaseDataset, Compose
from mmengine.structures import BaseDataElement

from proteus.datasets.failures import failed_transform, raised
from proteus.datasets.seeding import SampleKey, seeded
from proteus.datasets.transforms import CorruptImageError
from proteus.registry import DATASETS
from proteus.structures import DataError, UserError

# A run of this many unreadable images in a row is no accident.
_MAX_REPLACEMENTS = 50


@DATASETS.register_module()
class ProxySet(BaseDataset):
    """Unlabelled images, each view of which depends on its :class:`SampleKey` alone.

    A subclass lists its images in ``load_data_list``. An image that cannot be read is replaced by another of the set
    (chosen by the key), and its path travels with the sample so that the run can name and count it.

    Args:
        data_root: Folder of the images.
        pipeline: Transforms from ``dict(img_path=...)`` to a packed sample.
        indices: Use only the first N images (int; all of them if there are fewer), or those at these positions.
    """

    pipeline: Compose

    def __init__(
        self, data_root: str = "", pipeline: Sequence[Any] = (), indices: int | Sequence[int] | None = None
    ) -> None:
        super().__init__(data_root=str(data_root), pipeline=list(pipeline), indices=indices)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """The view of an image; a plain index gives the view that is drawn without a seed (validation).

        Raises:
            CorruptImageError: 50 images in a row could not be read; names the first and the last.
            DataError: A transform fails, for instance since another should come before it.
        """
        key = SampleKey.of(key)
        corrupt: list[str] = []
        index = key.image
        while True:
            with seeded(key, len(corrupt)):
                try:
                    sample = self.read(index, key.epoch)
                except CorruptImageError as error:
                    corrupt.append(str(error))
                    if len(corrupt) >= _MAX_REPLACEMENTS:
                        raise CorruptImageError(
                            f"{len(corrupt)} images in a row cannot be read, from {corrupt[0]} to {corrupt[-1]}: "
                            "mend or replace them"
                        ) from error
                except (UserError, MemoryError):
                    raise
                except Exception as error:
                    transform, is_ours = failed_transform(error) or ("", True)
                    # The command line has its own words for files that our transforms cannot open.
                    if not transform or (is_ours and isinstance(error, OSError)):
                        raise
                    raise DataError(f"{transform}: {raised(error, place=not is_ours)}") from error
                else:
                    if not isinstance(sample, dict) or not isinstance(sample.get("data_samples"), BaseDataElement):
                        raise DataError("dataset.pipeline does not end in dict(type='PackInputs'), or the like")
                    sample["data_samples"].set_metainfo({"corrupt": corrupt})
                    return sample
            index = (key.image + 7919 * len(corrupt)) % len(self)

    def _get_unserialized_subset(self, indices: int | Sequence[int]) -> Any:
        """Take the first N images, or as many as there are; or those at some positions.

        Raises:
            ValueError: A position is beyond the set.
        """
        count = len(self.data_list)
        if not isinstance(indices, int):
            beyond = [position for position in indices if not -count <= position < count]
            if beyond:
                raise ValueError(f"dataset.indices=[..., {max(beyond, key=abs)}]: there are {count:,} images")
        return super()._get_unserialized_subset(indices)

    def read(self, index: int, epoch: int) -> dict[str, Any]:
        """Read an image and draw a view of it from the random state as it is.

        Args:
            index: Position within the set.
            epoch: How often the set has been gone through before.

        Raises:
            CorruptImageError: It cannot be read.
        """
        return self.pipeline(self.get_data_info(index))

    def set_default_pipeline(self, pipeline: Compose) -> None:
        """Use a pipeline unless there is one already."""
        if not self.pipeline.transforms:
            self.pipeline = pipeline

    def describe(self) -> str:
        """What the set is, where it is and how many images it has, for the log."""
        return f"{type(self).__name__} {self.data_root or ''}".rstrip() + f": {len(self):,} images"

    def chosen(self) -> dict[str, list[str]]:
        """The names of the images of each set of which a part was taken, by what that set is called.

        Only a :class:`~proteus.datasets.proxy.concat.ConcatProxySet` calls sets anything; elsewhere the key is empty.
        """
        return {}
