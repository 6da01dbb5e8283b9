"""Evaluate a backbone with several protocols and write a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from proteus.apis.own_sets import checked_folder, fitting_sets, own_sets
from proteus.apis.resources import check_device, check_out_folder
from proteus.apis.training import test, train
from proteus.compat import config_dict, runners_on
from proteus.config.build_errors import as_config_error, build_steps
from proteus.config.check_consistency import sized_transform
from proteus.config.load import load_config
from proteus.datasets.transforms import ResizeSquare
from proteus.evaluation.features.store import FeatureStore
from proteus.evaluation.input_checks import is_integer
from proteus.evaluation.protocols import EvalContext, Protocol, ProtocolResult, SetProtocol
from proteus.evaluation.report import main_score, read_results, write_report
from proteus.models.backbones import BackboneSpec
from proteus.models.backbones.features import probe
from proteus.registry import PROTOCOLS
from proteus.structures import ConfigError, UserError
from proteus.utils import exclusive
from proteus.visualization.segmentation import draw_examples

CONFIGS = {
    "knn": "knn/imagenet.py",
    "linear": "linear_probe/protocol.py",
    "linear-cached": "linear_probe/protocol_cached.py",
    "fine-grained": "fine_grained/all.py",
    "robustness": "robustness/all.py",
    "dense-knn": "dense_knn/ade20k.py",
    "zero-shot": "zero_shot/imagenet.py",
    "retrieval": "retrieval/coco_flickr30k.py",
}
"""Config of each protocol by name, relative to ``configs``."""


def protocol_configs(
    names: Sequence[str],
    configs: Path,
    overrides: Mapping[str, Any] | None = None,
    img_size: int = 224,
    sets: Sequence[str] = (),
) -> dict[str, Config]:
    """Load the configs of protocols.

    Args:
        names: Names in :data:`CONFIGS`, or config files.
        configs: The folder ``configs``.
        overrides: Values by dotted key, for a single protocol.
        img_size: Side of the images in pixels. Sizes before the crop are scaled in proportion; ImageNet-C's images are
            cropped and corrupted at 224 px and then resized.
        sets: Folders of labelled images (``train/CLASS`` and ``test/CLASS``), of images and masks
            (``images/{train,val}`` and ``annotations/{train,val}``), or of images and a file of captions, that replace
            the data sets of the configs. Each protocol takes those of its kind.

    Returns:
        Configs by name of the protocol.

    Raises:
        ConfigError: A protocol is unknown, or a config or an override is wrong.
        UserError: A folder of ``sets`` is missing or has another layout, or ``img_size`` is not positive.
    """
    if not is_integer(img_size) or img_size < 1:
        raise UserError(f"img_size={img_size!r}: write a positive integer, the side of the images in pixels")
    if not names:
        raise ConfigError([f"no protocol given; choose from: {', '.join(CONFIGS)}, or a config file"], "--protocols")
    if overrides and len(names) > 1:
        raise ConfigError(["needs exactly one protocol in --protocols"], "--cfg-options")
    own = own_sets(sets)
    loaded: dict[str, Config] = {}
    for name in names:
        if name not in CONFIGS and not name.endswith(".py"):
            raise ConfigError(
                [f"unknown protocol {name!r}; choose from: {', '.join(CONFIGS)}, or a config file (.py)"], "--protocols"
            )
        path = configs / CONFIGS[name] if name in CONFIGS else Path(name)
        cfg = _load(path, img_size, overrides)
        if not cfg.get("protocol"):
            raise ConfigError(["not an evaluation config (no key 'protocol')"], str(path))
        title = name if name in CONFIGS else path.stem
        if title in loaded:
            raise ConfigError([f"{title!r} is given twice; results are kept by this name"], "--protocols")
        if own and "sets" in cfg.protocol:
            cfg.protocol.sets = fitting_sets(name, cfg.protocol, own)
        build_steps(cfg, cfg.protocol.get("pipeline") or (), "protocol.pipeline")
        loaded[title] = cfg
    return loaded


def evaluate(
    spec: BackboneSpec,
    configs: Mapping[str, Config],
    data_root: Path | None,
    out: Path,
    img_size: int = 224,
    cache: Path | None = None,
    device: str | None = None,
    batch_size: int = 64,
    num_workers: int | None = None,
) -> dict[str, ProtocolResult]:
    """Evaluate a backbone and write ``report.json``, ``report.md`` and ``report.png``.

    Another call with the same ``out`` resumes: finished results are reused, and the report equals that of an
    uninterrupted evaluation. Results of other protocols for the same backbone stay in the report.

    Args:
        spec: The backbone.
        configs: From :func:`protocol_configs`.
        data_root: Folder of the data sets, by default ``data``. It need not exist if all data sets of the configs have
            absolute paths.
        out: Folder of the report.
        img_size: As for :func:`protocol_configs`.
        cache: Folder of extracted features, by default ``out/features``. Evaluations may share it.
        device: Device to compute on, features and runs alike; by default a GPU if there is one.
        batch_size: Images per forward pass.
        num_workers: Worker processes that read images.

    Returns:
        Results by name of the protocol.

    Raises:
        UserError: ``data_root`` or the device does not exist, a folder cannot be written to, or a number is out
            of range.
        LockedError: Another evaluation writes to ``out``. In a shared ``cache``, one evaluation waits for the features
            that another extracts.
        DataError: An earlier report in ``out`` is damaged.
    """
    store = _checked_store(spec, configs, data_root, out, cache, device, batch_size, num_workers)
    lock = exclusive(out, "an evaluation", remedy="wait for it, or name another folder with --out")
    with lock, runners_on(store.device):
        return _evaluate(spec, configs, (data_root or Path("data")).resolve(), out, img_size, store)


def extract_features(
    spec: BackboneSpec,
    configs: Mapping[str, Config],
    data_root: Path | None,
    out: Path,
    img_size: int = 224,
    cache: Path | None = None,
    device: str | None = None,
    batch_size: int = 64,
    num_workers: int | None = None,
) -> None:
    """Extract the features that :func:`evaluate` reads, on all ranks of a process group, which call this together.

    Arguments and errors are those of :func:`evaluate`.
    """
    store = _checked_store(spec, configs, data_root, out, cache, device, batch_size, num_workers)
    root = (data_root or Path("data")).resolve()
    for cfg in configs.values():
        protocol, context = _prepared(spec, cfg, root, out, img_size, store)
        if isinstance(protocol, SetProtocol):
            protocol.extract(context)


def _checked_store(
    spec: BackboneSpec,
    configs: Mapping[str, Config],
    data_root: Path | None,
    out: Path,
    cache: Path | None,
    device: str | None,
    batch_size: int,
    num_workers: int | None,
) -> FeatureStore:
    """Check the arguments of an evaluation, and return its store of features."""
    if data_root is not None or not all(map(_has_own_folders, configs.values())):
        checked_folder(data_root or "data", "--data-root")
    device = check_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if not is_integer(batch_size) or batch_size < 1:
        raise UserError(f"batch_size={batch_size!r}: write a positive integer")
    if num_workers is not None and (not is_integer(num_workers) or num_workers < 0):
        raise UserError(f"num_workers={num_workers!r}: write a non-negative integer, or None")
    check_out_folder(out)
    check_out_folder(cache or out)
    return FeatureStore(cache or out / "features", spec, device, batch_size, num_workers)


def _prepared(
    spec: BackboneSpec, cfg: Config, data_root: Path, out: Path, img_size: int, store: FeatureStore
) -> tuple[Protocol, EvalContext]:
    init_default_scope(cfg.get("default_scope", "proteus"))
    load = partial(_load, img_size=img_size)
    context = EvalContext(spec, store, data_root, out, cfg, load, train, test, draw_examples)
    with as_config_error(cfg):
        return PROTOCOLS.build(cfg.protocol), context


def _evaluate(
    spec: BackboneSpec, configs: Mapping[str, Config], data_root: Path, out: Path, img_size: int, store: FeatureStore
) -> dict[str, ProtocolResult]:
    device = str(store.device)
    about = backbone_summary(spec, device)
    earlier = read_results(out, spec, about)
    results: dict[str, ProtocolResult] = {}
    for name, cfg in configs.items():
        print(f"\n== {name}: {cfg.filename}", flush=True)
        protocol, context = _prepared(spec, cfg, data_root, out, img_size, store)
        results[name] = protocol.run(context)
        print("\n".join(format_result(results[name])), flush=True)
        # After each protocol, to be read while the others run.
        write_report(out, spec, about, {**earlier, **results})
    return results


def format_result(result: ProtocolResult) -> list[str]:
    """Format the results of a protocol as lines for the terminal."""
    lines = []
    for title, row in result.rows.items():
        values = ", ".join(
            f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
        )
        lines.append(f"  {title:<16} {values}" if main_score(row) is not None else f"  {title:<16} {values or 'done'}")
    lines += [f"  {title:<16} {value:.2f}" for title, value in result.summary.items()]
    lines += [f"  note: {note}" for note in result.notes]
    lines += [f"  {title:<16} FAILED: {reason}" for title, reason in result.failed.items()]
    lines += [f"  {title:<16} not on disk: {where}" for title, where in result.missing.items()]
    return lines


def backbone_summary(spec: BackboneSpec, device: str) -> dict[str, Any]:
    """Return width, parameters, image size and precision of a backbone for the report."""
    with torch.device("meta"):
        config = {key: value for key, value in spec.config.items() if key not in ("checkpoint", "init_cfg")}
        model = BackboneSpec(spec.name, config, spec.mean, spec.std, spec.digest).build()
    size = spec.config.get("img_size", 224)
    return {
        "width": probe(model, size).cls.shape[-1],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "img_size": size,
        "precision": "float16" if device.startswith("cuda") else "float32",
    }


def _has_own_folders(cfg: Config) -> bool:
    sets = cfg.protocol.get("sets")
    roots = [config.get("data_root", "") for config in (sets or {}).values() if config]
    return bool(roots) and all(Path(root).is_absolute() for root in roots)


def _load(path: Path, img_size: int, overrides: Mapping[str, Any] | None = None) -> Config:
    cfg = load_config(path, dict(overrides or {}))
    if img_size != 224:
        cfg = Config(cfg.to_dict(), filename=cfg.filename)  # copies steps that are used twice
        _resize(config_dict(cfg), img_size)
    return cfg


def _resize(value: Any, img_size: int) -> None:
    """Scale resizing and cropping from 224 pixels to another image size.

    A ``ResizeSquare`` sets the size whatever comes before it, which is left as it is.
    """
    if isinstance(value, dict):
        for item in value.values():
            _resize(item, img_size)
    elif isinstance(value, (list, tuple)):
        transforms = [sized_transform(item) for item in value]
        squares = [i for i, kind in enumerate(transforms) if isinstance(kind, type) and issubclass(kind, ResizeSquare)]
        for item, transform in list(zip(value, transforms, strict=True))[max(squares, default=0) :]:
            if transform is not None and transform.size_argument in item:
                item[transform.size_argument] = round(item[transform.size_argument] * img_size / 224)
            _resize(item, img_size)
