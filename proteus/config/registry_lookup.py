"""Look up the class that a ``type`` in a config names.

A :class:`Kind` of part is one of MMEngine's root registries. As at build time, the default scope selects its child.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mmengine.dataset
import mmengine.evaluator
import mmengine.runner  # these imports fill the root registries
import mmengine.visualization  # noqa: F401
from mmengine import registry as roots
from mmengine.registry import Registry

from proteus.registry import PROTOCOLS

PACKAGES = {
    "mmseg": "--no-deps onedl-mmcv onedl-mmsegmentation` and `pip install ftfy regex prettytable",
    "mmpretrain": "onedl-mmpretrain",
    "mmcv": "onedl-mmcv",
    "mmengine": "onedl-mmengine",
}


@dataclass(frozen=True)
class Kind:
    """A kind of part that a config can name: model, data set, hook, optimizer, ...

    Attributes:
        name: Name in messages.
        root: MMEngine's root registry.
        filled: Arguments that the runner or the enclosing part passes; a config need not have them.
        extra: Keys that are removed from the dict before the constructor is called.
    """

    name: str
    root: Registry
    filled: frozenset[str] = frozenset()
    extra: frozenset[str] = frozenset()


def _kind(name: str, root: Registry, filled: str = "", extra: str = "") -> Kind:
    return Kind(name, root, frozenset(filled.split()), frozenset(extra.split()))


MODEL = _kind("model", roots.MODELS)
DATASET = _kind("dataset", roots.DATASETS)
TRANSFORM = _kind("transform", roots.TRANSFORMS)
SAMPLER = _kind("data sampler", roots.DATA_SAMPLERS, "dataset seed")
BATCH_SAMPLER = _kind("batch sampler", roots.DATA_SAMPLERS, "sampler batch_size")
FUNCTION = _kind("function", roots.FUNCTIONS)
HOOK = _kind("hook", roots.HOOKS, extra="priority")
LOOP = _kind("loop", roots.LOOPS, "runner dataloader evaluator")
OPTIM_WRAPPER = _kind("optimizer wrapper", roots.OPTIM_WRAPPERS, extra="constructor paramwise_cfg")
OPTIMIZER = _kind("optimizer", roots.OPTIMIZERS, "params model_params")
CONSTRUCTOR = _kind(
    "optimizer wrapper constructor", roots.OPTIM_WRAPPER_CONSTRUCTORS, "optim_wrapper_cfg paramwise_cfg"
)
SCHEDULER = _kind("parameter scheduler", roots.PARAM_SCHEDULERS, "optimizer", "convert_to_iter_based")
METRIC = _kind("metric", roots.METRICS)
EVALUATOR = _kind("evaluator", roots.EVALUATOR)
VISUALIZER = _kind("visualizer", roots.VISUALIZERS, "name save_dir")
VIS_BACKEND = _kind("visualization backend", roots.VISBACKENDS, "save_dir")
LOG_PROCESSOR = _kind("log processor", roots.LOG_PROCESSORS)
WRAPPER = _kind("model wrapper", roots.MODEL_WRAPPERS, "module device_ids")
INITIALIZER = _kind("weight initializer", roots.WEIGHT_INITIALIZERS, extra="override")
PROTOCOL = _kind("protocol", PROTOCOLS)
# A protocol passes the folder and the split of its labelled sets.
LABELLED_SET = _kind("dataset", roots.DATASETS, "data_root split")
ALL = (
    MODEL, DATASET, TRANSFORM, SAMPLER, FUNCTION, HOOK, LOOP, OPTIM_WRAPPER, OPTIMIZER, CONSTRUCTOR, SCHEDULER, METRIC,
    EVALUATOR, VISUALIZER, VIS_BACKEND, LOG_PROCESSOR, WRAPPER, INITIALIZER, PROTOCOL,
    _kind("task utility", roots.TASK_UTILS), _kind("inferencer", roots.INFERENCERS), _kind("runner", roots.RUNNERS),
)  # fmt: skip


class ScopeError(ImportError):
    """The scope of a ``type`` cannot be imported; the message names the package to install."""


@dataclass(frozen=True)
class Found:
    """A registered class or function, and its kind if a registry of that kind holds it."""

    target: Callable[..., Any]
    kind: Kind | None


def import_scope(scope: str) -> None:
    """Import the registries of a scope if they are missing.

    Raises:
        ScopeError: No registry has this scope, and its package cannot be imported.
    """
    if scope == "mmengine" or any(_child(kind.root, scope) is not None for kind in ALL):
        return
    try:
        importlib.import_module(f"{scope}.registry")
    except Exception as error:  # a broken installation may raise anything
        package = PACKAGES.get(scope, scope)
        raise ScopeError(
            f"scope '{scope}' cannot be imported ({error}); `pip install {package}`, "
            "or name its module in custom_imports, or correct the scope"
        ) from error


def find(name: str, scope: str, kinds: tuple[Kind, ...]) -> Found | None:
    """Look up a registered name as MMEngine does at build time.

    Args:
        name: The ``type`` of a dict, with or without a scope.
        scope: Default scope.
        kinds: Kinds to search, in this order.

    Returns:
        The class or function; None if the name is not registered.

    Raises:
        ScopeError: The scope of the name, or the default scope, cannot be imported.
    """
    import_scope(scope)
    prefix = name.split(".")[0] if "." in name else None
    if prefix in PACKAGES:
        import_scope(str(prefix))
    failures = []
    for kind in kinds:
        registry = registry_of(kind, scope)
        try:
            target = registry.get(name)
        except RuntimeError:  # a dotted name that does not exist
            target = None
        except Exception as error:  # the package behind this registry cannot be imported
            failures.append(error)
            continue
        if target is not None:
            return Found(target, kind if _holds(kind, name) else None)
    if failures:
        raise ScopeError(f"'{name}' was not found, and parts could not be imported: {failures[0]}") from failures[0]
    if len(kinds) > 1:
        for registry in _own_registries(scope, prefix):
            target = registry.module_dict.get(name.rpartition(".")[2])
            if target is not None:
                return Found(target, None)
    return None


def bare_type(part: Any) -> str:
    """Return the ``type`` of a part without its scope; an empty string if it has none."""
    name = part.get("type") if isinstance(part, Mapping) else None
    return name.rpartition(".")[2] if isinstance(name, str) else ""


def registry_of(kind: Kind, scope: str) -> Registry:
    """Return the registry that a default scope searches for a kind of part."""
    child = _child(kind.root, scope)
    return kind.root if child is None else child  # an empty registry counts as false


def _child(root: Registry, scope: str) -> Registry | None:
    if root.scope == scope:
        return root
    below = (_child(child, scope) for child in root.children.values())
    return next((found for found in below if found is not None), None)


def _holds(kind: Kind, name: str) -> bool:
    """Whether a registry holds the name; otherwise it was imported as a dotted path."""
    stack, bare = [kind.root], name.rpartition(".")[2]
    while stack:
        registry = stack.pop()
        if bare in registry.module_dict:
            return True
        stack += registry.children.values()
    return False


def _own_registries(scope: str, prefix: str | None) -> Iterator[Registry]:
    """Yield registries of a toolbox without a root in MMEngine, such as mmpretrain's batch augmentations."""
    for package in (scope, prefix):
        for value in list(vars(sys.modules.get(f"{package}.registry", object)).values()):
            if isinstance(value, Registry) and value.parent is None:
                value.import_from_location()
                yield value
