"""Proxy set with a fixed number of augmented views per image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from mmengine.dataset import Compose

from proteus.compat import mark_initialized
from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.datasets.proxy.seeded_set import sets_in
from proteus.datasets.seeding import SampleKey, seeded
from proteus.datasets.teacher_cache import StaleCacheError, TeacherCache, dataset_fingerprint, plain
from proteus.datasets.teacher_cache.reader import Tokens
from proteus.datasets.transforms import MaskTransform, RandomErasing
from proteus.registry import DATASETS

# Separates the random streams of masks from those of views for all seeds.
_SALT = 0x3A5C


@DATASETS.register_module()
class FixedViews(ProxySet):
    """Proxy set with a fixed number of views per image: epoch ``e`` shows view ``e mod views`` of each image.

    If the sampler repeats an image within an epoch, the repeats show the next views: repeat ``r`` in epoch ``e`` is
    view ``(e + r) mod views``. A view depends only on ``view_seed``, its number and the image. Masks are still drawn
    from the key of the run each time: the teacher never sees them, and a student would learn less from repeated masks.

    Since the number of views is fixed, ``proteus cache`` can compute the teacher's tokens once. Any run reads
    them from ``cache``, also with other students and seeds.

    A :class:`~proteus.datasets.proxy.concat.ConcatProxySet` with fractional ``repeats`` advances from view to view, as
    it otherwise does from epoch to epoch: with 0.25, each image is seen once in 4 views.

    Args:
        dataset: Config of the proxy set. Put a ``ConcatProxySet`` in here; this set cannot be part of one.
        views: Number of views per image.
        cache: Folder of the teacher's tokens of these views; None runs the teacher. For several teachers, folders by
            the teacher's name; those without one run.
        view_seed: Seed of the views. It is independent of the seed of the run.

    Attributes:
        caches: The caches by the teacher's name, which is empty for a single teacher.
        cache: That of a single teacher.
        has_fixed_views: Marks data sets with views that a teacher cache can hold.

    Raises:
        ValueError: ``views`` is below 1, ``dataset`` is not a proxy set, or its sets use different mask transforms.
    """

    has_fixed_views: ClassVar[bool] = True

    def __init__(
        self,
        dataset: Mapping[str, Any],
        views: int = 4,
        cache: str | Mapping[str, str | None] | None = None,
        view_seed: int = 0,
    ) -> None:
        if views < 1:
            raise ValueError(f"dataset.views={views}: write at least 1")
        super().__init__()
        inner = DATASETS.build(dict(dataset))
        if not isinstance(inner, ProxySet) or isinstance(inner, FixedViews):
            raise ValueError(f"dataset.dataset: {type(inner).__name__} is not a proxy set with views to fix")
        self.config = plain(dataset)
        self.dataset = inner
        self.pipeline = inner.pipeline
        self.views = views
        self.view_seed = view_seed
        folders = cache if isinstance(cache, Mapping) else {"": cache}
        self.caches = {name: TeacherCache(folder) for name, folder in folders.items() if folder is not None}
        self.cache = self.caches.get("")
        masks = {repr((type(step).__name__, sorted(vars(step).items()))): step for step in mask_transforms(inner)}
        if len(masks) > 1:
            raise ValueError(f"dataset.dataset: its sets use {len(masks)} different mask transforms; use one")
        self.mask = next(iter(masks.values()), None)

    def full_init(self) -> None:
        """Do nothing: BaseDataset's list stays empty."""
        mark_initialized(self)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.dataset)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """Load the view of an image for this epoch, with ``teacher_cls`` and ``teacher_patches`` from the cache.

        Raises:
            StaleCacheError: The view shows another image than when the cache was built.
        """
        key = SampleKey.of(key)
        view = (key.epoch + key.view) % self.views
        sample = self.view(key.image, view, key.size)
        if self.mask is not None:
            with seeded(key, _SALT):
                sample["mask"] = self.mask({"img": sample["inputs"]})["mask"]
        found = {name: self._tokens(cache, key.image, view, sample) for name, cache in self.caches.items()}
        if found:
            cls = {name: torch.from_numpy(tokens.cls) for name, tokens in found.items()}
            patches = {name: torch.from_numpy(tokens.patches) for name, tokens in found.items()}
            sample["teacher_cls"], sample["teacher_patches"] = cls.get("", cls), patches.get("", patches)
        return sample

    def view(self, image: int, view: int, size: tuple[int, int] | None = None) -> dict[str, Any]:
        """Load one of the fixed views, of ``size`` pixels, with the mask of the view's random stream."""
        return self.dataset[SampleKey(self.view_seed, view, image, size=size)]

    @staticmethod
    def _tokens(cache: TeacherCache, image: int, view: int, sample: Mapping[str, Any]) -> Tokens:
        tokens = cache.read(image, view)
        corrupt = sample["data_samples"].corrupt
        if tokens.corrupt != len(corrupt):
            raise StaleCacheError(
                f"image {image:,}, view {view}: {len(corrupt)} unreadable images were replaced before it "
                f"({', '.join(corrupt) or 'none'}), but {tokens.corrupt} when the cache in {cache.folder} was built: "
                "restore the images, or build the cache again with proteus cache"
            )
        return tokens

    def identity(self) -> dict[str, Any]:
        """Return everything that the views depend on: ``views``, ``images``, ``transform`` and ``dataset``."""
        return {"views": {"seed": self.view_seed}, **dataset_fingerprint(self.config, self.dataset)}

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return the entry of an image in the set."""
        return self.dataset.get_data_info(idx)

    def read(self, index: int, epoch: int) -> dict[str, Any]:
        """Raise an error: choosing the view needs the complete key."""
        raise ValueError(
            "FixedViews cannot be part of a ConcatProxySet; write dict(type='FixedViews', "
            "dataset=dict(type='ConcatProxySet', ...))"
        )

    def set_default_pipeline(self, pipeline: Compose) -> None:
        """Raise an error: only a ``ConcatProxySet`` calls this, and this set cannot be part of one."""
        self.read(0, 0)

    def with_pipeline(self, pipeline: Compose) -> ProxySet:
        """Return the images with other transforms, without the teacher's tokens: those of fixed views."""
        return self.dataset.with_pipeline(pipeline)

    def describe(self) -> str:
        """Describe the set, the number of views, and the source of the teacher's tokens."""
        folders = ", ".join(str(cache.folder) for cache in self.caches.values())
        source = f"the teacher's tokens are read from {folders}" if folders else "the teacher runs"
        return f"{self.views} fixed views (view_seed={self.view_seed}; {source}) of {self.dataset.describe()}"

    def chosen(self) -> dict[str, list[str]]:
        """Return the chosen images of the set."""
        return self.dataset.chosen()


def mask_transforms(dataset: Any) -> Iterator[MaskTransform]:
    """Yield the mask transforms of a data set and of the sets in it."""
    yield from (step for step in _steps(dataset) if isinstance(step, MaskTransform))


def erases(dataset: Any) -> bool:
    """Whether a data set, or a set in it, erases parts of its images."""
    return any(isinstance(step, RandomErasing) for step in _steps(dataset))


def _steps(dataset: Any) -> Iterator[Any]:
    for part in sets_in(dataset):
        yield from getattr(getattr(part, "pipeline", None), "transforms", ())
