"""A few fixed views of each image, over and over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.dataset import Compose

from proteus.datasets.proxy.concat import ConcatProxySet
from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.datasets.seeding import SampleKey, seeded
from proteus.datasets.teacher_cache import StaleCacheError, TeacherCache, dataset_fingerprint, plain
from proteus.datasets.transforms import MaskTransform
from proteus.registry import DATASETS

# Keeps the masks' random streams apart from those of the views, whatever the seeds are.
_SALT = 0x3A5C


@DATASETS.register_module()
class FixedViews(ProxySet):
    """A proxy set of whose views there are only so many: epoch ``e`` shows view ``e mod views`` of each image.

    Where the sampler repeats an image within an epoch, its repeats show the next views: repeat ``r`` in epoch ``e``
    is view ``(e + r) mod views``. All that a pipeline draws for a view depends on ``view_seed``, the view and the image
    alone. Masks do not: they are drawn anew each time, from the run's own key, since the teacher never sees them and
    a student that sees the same patches masked again would learn less.

    As there are only so many views, the teacher's tokens of them can be computed once, by ``tools/cache_teacher.py``,
    and be read from ``cache`` by this run and by others, also of other students and with other seeds.

    A set that comes with factors (:class:`~proteus.datasets.proxy.concat.ConcatProxySet`, 0.25 say) goes on from view to view as it
    otherwise does from epoch to epoch: in 4 views each image is seen once.

    Args:
        dataset: Config of the proxy set. A ``ConcatProxySet`` goes in here, and never this set into a ``ConcatProxySet``.
        views: How many views of each image there are.
        cache: Folder of the teacher's tokens of these views; None lets the teacher run.
        view_seed: Another one gives other views. It is not the run's seed.

    Raises:
        ValueError: ``views`` is below 1, ``dataset`` is no proxy set, or its images are masked in several ways.
    """

    def __init__(
        self, dataset: Mapping[str, Any], views: int = 4, cache: str | None = None, view_seed: int = 0
    ) -> None:
        if views < 1:
            raise ValueError(f"dataset.views={views}: write at least 1")
        super().__init__()
        inner = DATASETS.build(dict(dataset))
        if not isinstance(inner, ProxySet) or isinstance(inner, FixedViews):
            raise ValueError(f"dataset.dataset: {type(inner).__name__} is no proxy set to fix the views of")
        self.config = plain(dataset)
        self.dataset = inner
        self.pipeline = inner.pipeline
        self.views = views
        self.view_seed = view_seed
        self.cache = None if cache is None else TeacherCache(cache)
        masks = {repr((type(step).__name__, sorted(vars(step).items()))): step for step in _masks(inner)}
        if len(masks) > 1:
            raise ValueError(f"dataset.dataset: its sets mask in {len(masks)} ways; give all the same mask transform")
        self.mask = next(iter(masks.values()), None)

    def full_init(self) -> None:
        """Nothing is listed here: BaseDataset's list stays empty."""
        self._fully_initialized = True

    def __len__(self) -> int:
        """Number of images."""
        return len(self.dataset)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """The view of an image that is this epoch's turn, with ``teacher_cls`` and ``teacher_patches`` from the cache.

        Raises:
            StaleCacheError: The view shows another image than it did when the cache was built.
        """
        key = SampleKey.of(key)
        view = (key.epoch + key.view) % self.views
        sample = self.view(key.image, view)
        if self.mask is not None:
            with seeded(key, _SALT):
                sample["mask"] = self.mask({"img": sample["inputs"]})["mask"]
        if self.cache is not None:
            tokens = self.cache.read(key.image, view)
            corrupt = sample["data_samples"].corrupt
            if tokens.corrupt != len(corrupt):
                raise StaleCacheError(
                    f"image {key.image:,}, view {view}: {len(corrupt)} images could not be read on the way to it "
                    f"({', '.join(corrupt) or 'none'}), and {tokens.corrupt} when the cache in {self.cache.folder} was "
                    "built: bring the images back into that state, or build the cache anew with tools/cache_teacher.py"
                )
            sample["teacher_cls"] = torch.from_numpy(tokens.cls)
            sample["teacher_patches"] = torch.from_numpy(tokens.patches)
        return sample

    def view(self, image: int, view: int) -> dict[str, Any]:
        """One of the fixed views, with the mask that is part of its own stream."""
        return self.dataset[SampleKey(self.view_seed, view, image)]

    def identity(self) -> dict[str, Any]:
        """What the views depend on: ``views``, ``images``, ``transform`` and ``dataset``."""
        return {"views": {"seed": self.view_seed}, **dataset_fingerprint(self.config, self.dataset)}

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """What the set says of an image."""
        return self.dataset.get_data_info(idx)

    def read(self, index: int, epoch: int) -> dict[str, Any]:
        """Not for this set: which view it is takes the whole key."""
        raise ValueError(
            "FixedViews goes round a ConcatProxySet, not into it: dict(type='FixedViews', dataset=dict(type='ConcatProxySet'))"
        )

    def set_default_pipeline(self, pipeline: Compose) -> None:
        """Only a merge offers one, and this set cannot be merged."""
        self.read(0, 0)

    def describe(self) -> str:
        """The set, the number of views, and where the teacher's tokens come from."""
        source = "the teacher runs" if self.cache is None else f"the teacher's tokens are read from {self.cache.folder}"
        return f"{self.views} fixed views (view_seed={self.view_seed}; {source}) of {self.dataset.describe()}"

    def chosen(self) -> dict[str, list[str]]:
        """As for the set."""
        return self.dataset.chosen()


def _masks(dataset: ProxySet) -> Iterator[MaskTransform]:
    if isinstance(dataset, ConcatProxySet):
        for member in dataset.members.values():
            yield from _masks(member)
    for step in getattr(dataset.pipeline, "transforms", ()):
        if isinstance(step, MaskTransform):
            yield step
