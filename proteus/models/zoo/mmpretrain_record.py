"""Records of mmpretrain's models: names of its model zoo, or of its classes of backbones."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from proteus.models.backbones.openmmlab import build_backbone, import_toolbox
from proteus.models.zoo.known import IMAGENET_MEAN, IMAGENET_STD
from proteus.models.zoo.record import ModelRecord
from proteus.structures import UserError


def mmpretrain_record(name: str) -> ModelRecord:
    """Return the record of a model of mmpretrain's.

    Args:
        name: Name in mmpretrain's model zoo (``resnet18_8xb32_in1k``), or of a class (``MobileNetV2``), which is built
            with its default arguments.

    Raises:
        UserError: mmpretrain is not installed or has no such model, or its backbone cannot be built or takes BGR
            images.
    """
    classes = _classes()
    if name in classes:
        _check_defaults(name, classes[name])
        return _record(name, {"type": name}, classes[name], IMAGENET_MEAN, IMAGENET_STD)
    if name.lower() not in mmpretrain_names():
        near = get_close_matches(name, [*mmpretrain_names(), *classes], n=3)
        listed = ", ".join(f"mmpretrain/{one}" for one in near) or "none"
        raise UserError(f"mmpretrain/{name}: mmpretrain has no model of this name; nearest: {listed}")
    entry = import_module("mmpretrain.apis").ModelHub.get(name)
    config = entry.config
    backbone: dict[str, Any] = config.model.get("backbone", config.model).to_dict()
    if backbone["type"] not in classes:
        raise UserError(f"mmpretrain/{name}: its {backbone['type']} is not a backbone; name another model")
    values = config.get("data_preprocessor") or {}
    if not values.get("to_rgb", True):
        raise UserError(f"mmpretrain/{name}: it takes BGR images, which Proteus does not give; name another model")
    mean, std = (tuple(round(value / 255, 6) for value in values.get(key, ())) for key in ("mean", "std"))
    return _record(
        name, backbone, classes[backbone["type"]], mean or IMAGENET_MEAN, std or IMAGENET_STD, entry.weights or ""
    )


def mmpretrain_names() -> list[str]:
    """Return the names of mmpretrain's model zoo.

    Raises:
        UserError: mmpretrain is not installed.
    """
    _require()
    return import_module("mmpretrain.apis").list_models()


def _classes() -> dict[str, type]:
    _require()
    registry = import_module("mmpretrain.registry").MODELS
    registry.import_from_location()
    return {
        key: value
        for key, value in registry.module_dict.items()
        if inspect.isclass(value) and value.__module__.startswith("mmpretrain.models.backbones.")
    }


def _require() -> None:
    try:
        import_toolbox("mmpretrain")
    except ImportError as error:
        raise UserError(f"models of mmpretrain: {error}") from error


def _check_defaults(name: str, cls: type) -> None:
    """Refuse a class that cannot be built without arguments, such as ``ResNet``.

    Raises:
        UserError: The message lists the arguments, and models of the zoo with such a name.
    """
    parameters = inspect.signature(cls).parameters.values()
    required = [one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    if required:
        zoo = sorted((one for one in mmpretrain_names() if one.startswith(name.lower())), key=len)
        example = f" such as mmpretrain/{zoo[0]}" if zoo else ""
        raise UserError(
            f"mmpretrain/{name}: {name} cannot be built without {', '.join(required)}; name a model of mmpretrain's "
            f"zoo{example}, or write student=dict(type='mmpretrain.{name}', {required[0]}=...) in a config"
        )


def _record(
    name: str,
    backbone: dict[str, Any],
    cls: type,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    weights: str = "",
) -> ModelRecord:
    kind, arguments = backbone["type"], {key: value for key, value in backbone.items() if key != "type"}
    arguments.pop("init_cfg", None)
    if "out_type" in inspect.signature(cls).parameters:
        arguments["out_type"] = "raw"  # cls token and patches
    config = {"type": f"mmpretrain.{kind}", **arguments}
    try:
        model = build_backbone(config)
        width = model.embed_dim
    except Exception as error:  # constructors raise many types for missing arguments
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"mmpretrain/{name}: {kind} cannot be built ({words}); name a model of mmpretrain's zoo, or write a config"
        ) from error
    patch_size = arguments.get("patch_size", getattr(model.guest, "patch_size", None))
    return ModelRecord(
        name=f"mmpretrain/{name}",
        architecture=f"mmpretrain.{kind}",
        arguments=arguments,
        config=config,
        patch_size=patch_size if isinstance(patch_size, int) else None,
        img_size=model.img_size or 224,
        width=width,
        depth=getattr(model.guest, "num_layers", None),
        params=sum(value.numel() for value in model.guest.parameters()),
        mean=mean,
        std=std,
        title=f"{name} (mmpretrain)",
        files=(weights.rpartition("/")[2],) if weights else (),
        url=weights,
    )
