"""Turn the description in a weight file into the config of a backbone; the only way from a file's text to a model."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from proteus.checkpoints import CheckpointError, Description, to_timm_keys
from proteus.checkpoints.description import GUESTS
from proteus.checkpoints.detect_arch import detect_arch
from proteus.models.backbones.features import NoPatchesError
from proteus.models.backbones.openmmlab import build_backbone, build_guest, import_toolbox
from proteus.models.backbones.timm_names import timm_config
from proteus.models.backbones.vit import ViT

# A model may hold more values than its file: buffers, and positions of a larger grid.
_SPARE_FACTOR, _SPARE = 2, 1 << 26
_LONGEST_ROW = 256
# Arguments of timm's that our ViT does not take, with the only values that it builds.
_FIXED = (("in_chans", 3), ("global_pool", "token"))
_FACTORIES = {"empty", "empty_strided", "zeros", "ones", "full", "rand", "randn", "arange", "linspace", "eye"}
_FACTORIES |= {f"new_{name}" for name in ("empty", "empty_strided", "zeros", "ones", "full")}
_FACTORIES |= {"repeat", "tile", "cat", "stack", "meshgrid", "repeat_interleave", "tril_indices", "triu_indices"}


def described_backbone(
    description: Description, state: Mapping[str, Tensor], img_size: int, checkpoint: str
) -> dict[str, Any]:
    """Make the config of the backbone that a weight file describes, and check that it can be built.

    It is built once without weights: on the meta device, or, if it is another toolbox's, with a limit on the memory
    that its tensors take.

    Args:
        description: Description of the file, with an architecture.
        state: The file's tensors.
        img_size: Side of the images in pixels, where the backbone is made for one.
        checkpoint: The path as the user wrote it.

    Returns:
        A config for :func:`~proteus.models.backbones.build_backbone`.

    Raises:
        CheckpointError: The architecture is unknown, does not take the arguments, or is far larger than the weights
            of the file.
    """
    architecture, arguments = description.architecture or "", dict(description.arguments)
    scope = architecture.partition(".")[0]
    if scope in GUESTS:
        _check_guest(architecture, checkpoint)
        config = {"type": architecture, **arguments}
        check_described(config, state, checkpoint)
        return {**config, "init_cfg": {"type": "Pretrained", "checkpoint": checkpoint}}
    config = _vit_config(architecture, arguments, state) or {"type": "TimmBackbone", "arch": architecture, **arguments}
    config["img_size"] = img_size
    check_described(config, state, checkpoint)
    if config["type"] == "TimmBackbone" and _needs_levels(config):
        config["levels"] = (-1,)  # as its training had to; a file describes timm's model alone
    return {**config, "checkpoint": checkpoint}


def _needs_levels(config: Mapping[str, Any]) -> bool:
    with torch.device("meta"):
        backbone = build_backbone(config)
    try:
        backbone.grid_for(config["img_size"])
    except NoPatchesError:
        return True
    except (AssertionError, RuntimeError):  # of the size, which is reported where images have it
        return False
    return False


def _vit_config(architecture: str, arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Make the config of our ``ViT``, with the defaults of timm's architecture; None if it cannot build the model."""
    if detect_arch(to_timm_keys(state)) is None:
        return None
    base = timm_config(architecture)
    # Our ViT decides two itself, and timm writes others into every folder.
    given = {
        key: value
        for key, value in arguments.items()
        if key not in ("no_embed_class", "dynamic_img_size") and (key, value) not in _FIXED
    }
    if base["type"] != "ViT" or not set(given) <= set(inspect.signature(ViT).parameters):
        return None
    # Files do not say how positions are interpolated: as ViT does by default.
    return {key: value for key, value in base.items() if not key.startswith("interpolate")} | given


def check_described(config: Mapping[str, Any], state: Mapping[str, Tensor], checkpoint: str) -> None:
    """Check that a config made from a file's description can be built, with limits on its memory and patches.

    Args:
        config: Config of the backbone, without weights.
        state: The file's tensors.
        checkpoint: The file, for messages.

    Raises:
        CheckpointError: It cannot be built, or is far larger than the weights of the file.
    """
    _check_row(config, checkpoint)
    _try(config, state, checkpoint)


def _check_guest(architecture: str, checkpoint: str) -> None:
    """Look a name up in another toolbox's registry, by its exact key; nothing is imported by that name."""
    scope, _, name = architecture.partition(".")
    try:
        import_toolbox(scope)
    except ImportError as error:
        raise CheckpointError(f"{checkpoint} is a {architecture}: {error}") from error
    registry = importlib.import_module(f"{scope}.registry").MODELS
    registry.import_from_location()
    found = registry.module_dict.get(name)
    if not (inspect.isclass(found) and found.__module__.startswith(f"{scope}.models.backbones.")):
        raise CheckpointError(f"{checkpoint}: its description names {architecture}, which is not a backbone of {scope}")


def _check_row(config: Mapping[str, Any], checkpoint: str) -> None:
    """Limit the number of patches, since attention grows with its square."""
    sides = {}
    for key, unused in (("img_size", max), ("patch_size", min)):
        value = config.get(key)
        sides[key] = unused(value) if isinstance(value, tuple) else value
    side, patch = sides["img_size"], sides["patch_size"]
    if isinstance(side, int) and isinstance(patch, int) and side // max(patch, 1) > _LONGEST_ROW:
        raise CheckpointError(
            f"{checkpoint}: patches of {patch} px divide an image of {side} px into {side // max(patch, 1)} a row; at "
            f"most {_LONGEST_ROW} are accepted from a file's description"
        )


def _try(config: Mapping[str, Any], state: Mapping[str, Tensor], checkpoint: str) -> None:
    values = sum(value.numel() for value in state.values())
    limit = _SPARE_FACTOR * values + _SPARE
    try:
        with _Limit(limit):
            if str(config["type"]).partition(".")[0] in GUESTS:
                build_guest(config)
            else:
                with torch.device("meta"):
                    build_backbone(config)
    except _TooLargeError as error:
        raise CheckpointError(
            f"{checkpoint} describes a model of more than {limit:,} values and holds {values:,}: its description is "
            "not of these weights"
        ) from error
    except Exception as error:  # constructors raise many types for bad arguments
        raise CheckpointError(
            f"{checkpoint}: {config.get('arch') if '.' not in config['type'] else config['type']} cannot be built as "
            f"the file describes it ({type(error).__name__}: {error})"
        ) from error


class _TooLargeError(Exception):
    """A model allocates more values than the limit."""


class _Limit(TorchDispatchMode):
    """Stop before new tensors have more than ``limit`` values in total."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.left = limit

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in _FACTORIES:
            # On the meta device, where a tensor takes no memory.
            with torch.device("meta"):
                self.left -= _count(func, args, kwargs or {})
            if self.left < 0:
                raise _TooLargeError
        return func(*args, **(kwargs or {}))


def _count(func: Any, args: Any, kwargs: dict[str, Any]) -> int:
    from torch.utils._pytree import tree_leaves, tree_map

    args, kwargs = tree_map(lambda item: item.to("meta") if isinstance(item, Tensor) else item, (args, kwargs))
    if "device" in kwargs:
        kwargs = {**kwargs, "device": torch.device("meta"), "pin_memory": False}
    return sum(item.numel() for item in tree_leaves(func(*args, **kwargs)) if isinstance(item, Tensor))
