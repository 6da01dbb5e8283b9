"""Use any map-style data set as a proxy set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import Dataset, IterableDataset

from proteus.datasets.failures import raised
from proteus.datasets.proxy.concat import ConcatProxySet
from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.datasets.seeding import SampleKey, making_size_of, reading, seeded
from proteus.registry import DATA_SAMPLERS, DATASETS
from proteus.structures import DataError, UserError


@DATASETS.register_module()
class SeededSet(Dataset):
    """A map-style data set with all random choices determined by the sample's key.

    Data sets of torch, torchvision and MMEngine draw from the global random generators. Here ``random``, NumPy
    and torch are seeded for each sample with its :class:`~proteus.datasets.SampleKey`, so that a resumed run sees the
    same samples as an uninterrupted one, with any number of workers. ``proteus train`` wraps such a set by itself;
    for MMEngine's own ``Runner``, write it: ``dataset=dict(type='proteus.SeededSet', dataset=dict(type='MySet'))``.

    A proxy set inside another wrapper (``Subset``, ``ConcatDataset``) draws the view that the key identifies. The
    attributes of the set can be read from this one.

    Args:
        dataset: The set, or its config.

    Raises:
        ValueError: The set has no length or cannot be indexed.
        DataError: From ``[]``: the set raised an error; the message has the index and the line of code.
    """

    def __init__(self, dataset: Mapping[str, Any] | Dataset) -> None:
        self.dataset: Any = DATASETS.build(dict(dataset)) if isinstance(dataset, Mapping) else dataset
        check_map_style(self.dataset)

    def full_init(self) -> None:
        """Initialise the wrapped set; MMEngine's runner calls this before the first sample."""
        if hasattr(self.dataset, "full_init"):
            self.dataset.full_init()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | SampleKey) -> Any:
        try:
            if not isinstance(key, SampleKey):
                return self.dataset[key]
            with reading(key), making_size_of(key), seeded(key):
                return self.dataset[key]
        except (UserError, MemoryError):
            raise
        except Exception as error:  # including StopIteration, which would silently end the epoch
            raise DataError(f"{type(self.dataset).__name__}[{int(key)}] raised {raised(error)}") from error

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "dataset" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.dataset, name)


def check_map_style(dataset: Any) -> None:
    """Refuse a data set that has no length or cannot be indexed.

    Raises:
        ValueError: Names the class and the methods that it needs.
    """
    missing = [method for method in ("__len__", "__getitem__") if not hasattr(type(dataset), method)]
    if isinstance(dataset, IterableDataset) or missing:
        raise ValueError(
            f"train_dataloader.dataset: {type(dataset).__name__} is not a map-style data set: write __len__ and "
            "__getitem__, which shuffling and resuming need"
        )


def has_own_seeds(dataset: Any) -> bool:
    """Whether a data set, or its class, handles a :class:`~proteus.datasets.SampleKey` itself."""
    kind = dataset if isinstance(dataset, type) else type(dataset)
    return issubclass(kind, (ProxySet, SeededSet)) or kind.__module__.partition(".")[0] == "proteus"


def holds_proxy_set(dataset: Any) -> bool:
    """Whether a wrapper that would lose the key contains a proxy set."""
    return not has_own_seeds(dataset) and any(
        isinstance(inner, ProxySet) or holds_proxy_set(inner) for inner in _inner(dataset)
    )


def sets_in(dataset: Any) -> Iterator[Any]:
    """Yield a data set, and all sets that it wraps or joins."""
    yield dataset
    for inner in _inner(dataset):
        yield from sets_in(inner)


def _inner(dataset: Any) -> Iterator[Any]:
    found = vars(dataset) if hasattr(dataset, "__dict__") else {}
    several = found.get("datasets")
    yield from [found["dataset"]] if isinstance(found.get("dataset"), Dataset) else []
    yield from [one for one in several if isinstance(one, Dataset)] if isinstance(several, (list, tuple)) else []
    yield from dataset.members.values() if isinstance(dataset, ConcatProxySet) else []


def seeded_config(loader: Mapping[str, Any], scope: str | None = None) -> Any:
    """Return the config of a loader's data set, in a :class:`SeededSet` if the set ignores the sampler's keys.

    Args:
        loader: Config of the loader.
        scope: Registry scope of the set's name; default: the current scope.
    """
    dataset, sampler = loader.get("dataset"), loader.get("sampler")
    if not isinstance(dataset, Mapping) or not isinstance(sampler, Mapping):
        return dataset
    kind, sampler_kind = dataset.get("type"), sampler.get("type")
    with DATASETS.switch_scope_and_registry(scope) as registry:
        target = registry.get(kind) if isinstance(kind, str) else kind
    with DATA_SAMPLERS.switch_scope_and_registry(scope) as registry:
        sampler_class = registry.get(sampler_kind) if isinstance(sampler_kind, str) else sampler_kind
    if not getattr(sampler_class, "gives_sample_keys", False):
        return dataset
    if not isinstance(target, type) or has_own_seeds(target):
        return dataset
    return {"type": "proteus.SeededSet", "dataset": dataset}
