"""Command-line arguments shared by the commands: the backbone, how to run it, and the images."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

import projects.task_oriented_transfer.efficientnet  # noqa: F401  (reads the weights of its PyTorch port)
from proteus.apis import ConfigError, load_config
from proteus.cli.run import KeyValues, device, integer, number, positive_int
from proteus.config.build_errors import as_config_error
from proteus.datasets import LabelledFolder, ProxySet
from proteus.models.backbones import BackboneSpec
from proteus.models.zoo import backbone_spec
from proteus.registry import DATASETS
from proteus.structures import DataError


def add_backbone_arguments(parser: ArgumentParser) -> None:
    """Add the arguments for the backbone and how to run it."""
    parser.add_argument("--backbone", required=True, help="as for tools/evaluate.py: a weight file, or a timm name")
    parser.add_argument(
        "--arch", help="timm architecture name, required when it cannot be inferred from the checkpoint (CNNs)"
    )
    parser.add_argument("--mean", nargs=3, type=number(0, 1), help="channel means of its training, if unknown")
    parser.add_argument(
        "--std", nargs=3, type=number(0, 1, above=0), help="channel standard deviations of its training"
    )
    parser.add_argument("--img-size", type=positive_int, default=224, help="side in pixels (default: %(default)s)")
    parser.add_argument("--batch-size", type=positive_int, default=64)
    parser.add_argument("--workers", type=integer(0, 512), default=0, help="data loading processes")
    parser.add_argument("--device", type=device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=KeyValues,
        default={},
        metavar="KEY=VALUE",
        help="override keys of the config of the images: train_dataloader.dataset.data_root=DIR",
    )


def backbone_of(args: Namespace) -> BackboneSpec:
    """Return the requested backbone with its statistics.

    Raises:
        DataError: Only one of ``--mean`` and ``--std`` is given, or the backbone is unknown.
        CheckpointError: Its file is missing, or does not match.
    """
    if (args.mean is None) != (args.std is None):
        raise DataError("--mean and --std go together: give both")
    spec = backbone_spec(args.backbone, args.arch, args.img_size)
    if args.mean is None:
        return spec
    return BackboneSpec(spec.name, spec.config, tuple(args.mean), tuple(args.std), spec.digest, spec.note, spec.seed)


def reading(args: Namespace) -> dict[str, Any]:
    """Return the arguments of :func:`~projects.task_oriented_transfer.embedding.embed`."""
    return {
        "img_size": args.img_size,
        "batch_size": args.batch_size,
        "num_workers": args.workers,
        "device": args.device,
    }


def labelled_images(
    where: Path,
    loader: Literal["train", "val"] = "train",
    per_class: int | None = None,
    seed: int | None = None,
    cfg_options: Mapping[str, Any] | None = None,
) -> ProxySet:
    """Return the labelled images of a folder or of a config.

    Args:
        where: A folder ``CLASS/IMAGE``, or a config such as ``configs/ham10k/finetune.py``.
        loader: The config's labelled (``train``) or test (``val``) images.
        per_class: Number of images per class; by default all of a folder, or the config's.
        seed: Seed of their selection; by default 0 for a folder, or the config's.
        cfg_options: Other keys of the config to override.

    Raises:
        ConfigError: The config is invalid, or a class has too few images.
        FileNotFoundError: The set, or a file of it, is missing.
        DataError: The set is damaged, or has no labels.
    """
    part = {"images_per_class": per_class, "subset_seed": seed}
    part = {key: value for key, value in part.items() if value is not None}
    with as_config_error(str(where)):
        if where.suffix != ".py":
            if cfg_options:
                raise ConfigError(["only applies to a config; the images are from a folder"], "--cfg-options")
            return LabelledFolder(data_root=str(where), **part)
        dataset = f"{loader}_dataloader.dataset"
        asked = {**(cfg_options or {}), **{f"{dataset}.{key}": value for key, value in part.items()}}
        cfg = load_config(where, asked)
        images: ProxySet = DATASETS.build({**cfg[f"{loader}_dataloader"].dataset, "pipeline": []})
        if not hasattr(images, "num_classes"):
            raise DataError(f"{where}: {dataset} ({type(images).__name__}) has no labels; name a labelled set")
        return images
