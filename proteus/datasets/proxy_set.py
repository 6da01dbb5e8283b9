"""The images a student is distilled on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.dataset import BaseDataset, Compose

from proteus.datasets.randomness import SampleKey, seeded
from proteus.datasets.transforms import CorruptImageError
from proteus.registry import DATASETS
from proteus.structures import DataError, UserError

# A run of this many unreadable images in a row is no accident.
_MAX_REPLACEMENTS = 50


def failed_transform(error: BaseException) -> str | None:
    """Name the transform in which an error was raised, by its position in the pipeline.

    Args:
        error: What was raised.

    Returns:
        Such as ``dataset.pipeline[2] (RandAugment)``; None if it was not raised in a pipeline.
    """
    found, trace = None, error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code is Compose.__call__.__code__:
            transform = frame.f_locals.get("t")
            position = next((i for i, step in enumerate(frame.f_locals["self"].transforms) if step is transform), None)
            found = f"dataset.pipeline[{position}] ({type(transform).__name__})"
        trace = trace.tb_next
    return found


@DATASETS.register_module()
class ProxySet(BaseDataset):
    """Unlabelled images, each view of which depends on its :class:`SampleKey` alone.

    A subclass lists its images in ``load_data_list``. An image that cannot be read is replaced by another of the set
    (chosen by the key), and its path travels with the sample so that the run can name and count it.

    Args:
        data_root: Folder of the images.
        pipeline: Transforms from ``dict(img_path=...)`` to a packed sample.
        indices: Use only the first N images (int), or those at these positions.
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
                except UserError:
                    raise
                except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
                    transform = failed_transform(error)
                    if transform is None:
                        raise
                    raise DataError(f"{transform}: {type(error).__name__}: {error}") from error
                else:
                    if not isinstance(sample, dict) or not isinstance(sample.get("meta"), dict):
                        raise DataError("dataset.pipeline does not end in dict(type='PackInputs'), or the like")
                    sample["meta"]["corrupt"] = corrupt
                    return sample
            index = (key.image + 7919 * len(corrupt)) % len(self)

    def _get_unserialized_subset(self, indices: int | Sequence[int]) -> Any:
        """Take the images that ``indices`` names.

        Raises:
            ValueError: The set has fewer images.
        """
        count, last = len(self.data_list), indices - 1 if isinstance(indices, int) else max(indices, default=0)
        if last >= count:
            shown = indices if isinstance(indices, int) else f"[..., {last}]"
            raise ValueError(f"dataset.indices={shown}: there are {count:,} images; write None to use all of them")
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

    def take_pipeline(self, pipeline: Compose) -> None:
        """Use a pipeline unless there is one already."""
        if not self.pipeline.transforms:
            self.pipeline = pipeline

    def describe(self) -> str:
        """What the set is, where it is and how many images it has, for the log."""
        return f"{type(self).__name__} {self.data_root or ''}".rstrip() + f": {len(self):,} images"

    def chosen(self) -> dict[str, list[str]]:
        """The names of the images of each set of which a part was taken, by what that set is called.

        Only a :class:`~proteus.datasets.merge.Merge` calls sets anything; elsewhere the key is empty.
        """
        return {}
