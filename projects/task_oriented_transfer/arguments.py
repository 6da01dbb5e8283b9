"""What the commands that run a backbone on images are told alike: the backbone, how it reads, and which images."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

import projects.task_oriented_transfer.efficientnet  # noqa: F401  (reads the weights of its PyTorch port)
from proteus.apis import ConfigError, load_config
from proteus.apis.cli import KeyValues, device, integer, number, positive_int
from proteus.config.build_errors import as_config_error
from proteus.datasets import LabelledFolder, ProxySet
from proteus.models.backbones import BackboneSpec, locate_backbone
from proteus.registry import DATASETS
from proteus.structures import DataError


def add_backbone_arguments(parser: ArgumentParser) -> None:
    """Add which backbone runs, and how."""
    parser.add_argument("--backbone", required=True, help="as for tools/evaluate.py: a weight file, or a timm name")
    parser.add_argument("--arch", help="its name in timm, for a weight file that does not tell (CNNs)")
    parser.add_argument(
        "--mean", nargs=3, type=number(0, 1), help="channel means it was trained with, if they are not known"
    )
    parser.add_argument("--std", nargs=3, type=number(0, 1, above=0), help="channel standard deviations, likewise")
    parser.add_argument("--img-size", type=positive_int, default=224, help="side in pixels (default: %(default)s)")
    parser.add_argument("--batch-size", type=positive_int, default=64)
    parser.add_argument("--workers", type=integer(0, 512), default=0, help="processes that read images")
    parser.add_argument("--device", type=device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=KeyValues,
        default={},
        metavar="KEY=VALUE",
        help="override keys of the config that images are taken from: train_dataloader.dataset.data_root=DIR",
    )


def backbone_of(args: Namespace) -> BackboneSpec:
    """The backbone that was asked for, with its statistics.

    Raises:
        DataError: One of ``--mean`` and ``--std`` is missing, or there is no such backbone.
        CheckpointError: Its file is missing, or another model's.
    """
    if (args.mean is None) != (args.std is None):
        raise DataError("--mean and --std go together: give both")
    spec = locate_backbone(args.backbone, args.arch, args.img_size)
    if args.mean is None:
        return spec
    return BackboneSpec(spec.name, spec.config, tuple(args.mean), tuple(args.std), spec.digest, spec.note, spec.seed)


def reading(args: Namespace) -> dict[str, Any]:
    """How :func:`~projects.task_oriented_transfer.embedding.embed` reads."""
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
    """The labelled images of a folder, or those that a config reads.

    Args:
        where: A folder ``CLASS/IMAGE``, or a config such as ``configs/ham10k/finetune.py``.
        loader: Which of the config's sets: its few labels, or its test images.
        per_class: Take so many of each class; by default all, and what the config says.
        seed: Which of them; by default 0, and what the config says.
        cfg_options: Other keys of the config to override.

    Raises:
        ConfigError: The config is wrong, or there are not so many images of a class.
        FileNotFoundError: The set, or a file of it, is missing.
        DataError: The set is not what it should be.
    """
    part = {"images_per_class": per_class, "subset_seed": seed}
    part = {key: value for key, value in part.items() if value is not None}
    with as_config_error(str(where)):
        if where.suffix != ".py":
            if cfg_options:
                raise ConfigError(["is for a config's images, and this is a folder"], "--cfg-options")
            return LabelledFolder(data_root=str(where), **part)
        dataset = f"{loader}_dataloader.dataset"
        asked = {**(cfg_options or {}), **{f"{dataset}.{key}": value for key, value in part.items()}}
        cfg = load_config(where, asked)
        images: ProxySet = DATASETS.build({**cfg[f"{loader}_dataloader"].dataset, "pipeline": []})
        if not hasattr(images, "num_classes"):
            raise DataError(f"{where}: {dataset} ({type(images).__name__}) has no labels; name a set of classes")
        return images
