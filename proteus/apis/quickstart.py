"""The first run: distil, then show on held-out photographs what the student learnt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import Tensor

from proteus.apis.run_state import run_training
from proteus.apis.training import build_runner
from proteus.config.build_errors import as_config_error
from proteus.datasets import ImageFolder, seeded
from proteus.engine.hooks import SlicedInitHook
from proteus.evaluation import patch_retrieval
from proteus.models import Distiller
from proteus.registry import DATASETS
from proteus.structures import DataError, Features
from proteus.utils import write_json
from proteus.visualization import PCA, draw_curves, draw_pca

# Held-out photographs are cut square to this side before the views for the figures are taken from them.
_SIDE = 320
_MOST = 200
_HELD_OUT = 0.2
_PICTURES = 6


@dataclass(frozen=True)
class Figures:
    """What the table says of one network, on held-out photographs.

    Attributes:
        patch: Centred cosine of its mapped patch tokens to the teacher's.
        cls: Centred cosine of its mapped cls token to the teacher's.
        retrieval: Share of patches that find the photograph they are from (``patch_retrieval``).
    """

    patch: float
    cls: float
    retrieval: float


def use_folder(cfg: Config, folder: str) -> None:
    """Distil on your own images instead of the packaged photographs: four fifths train, a fifth is held out.

    Raises:
        DataError: Its images are too few: one is needed to train on, and two held-out ones to compare.
        FileNotFoundError: The folder does not exist or has no images.
    """
    images = ImageFolder(folder)
    held_out = sum(images.is_chosen(name, "held-out", _HELD_OUT) for name in images.names())
    if held_out < 2 or held_out == len(images):
        raise DataError(
            f"{folder}: {len(images):,} images, of which {len(images) - held_out} train and {held_out} are held out "
            "(by their names); at least 1 and 2 are needed: give 20 images or more"
        )
    for loader, split in (
        ("train_dataloader", "train"),
        ("val_dataloader", "held-out"),
        ("test_dataloader", "held-out"),
    ):
        dataset = cfg[loader].dataset
        cfg[loader].dataset = {
            "type": "ImageFolder",
            "data_root": folder,
            "split": split,
            "held_out": _HELD_OUT,
            "pipeline": dataset.pipeline,
        }


def quickstart(cfg: Config) -> dict[str, Figures]:
    """Distil a config and compare its student with its own random start and with the teacher.

    Writes ``student.safetensors``, ``results.json``, ``curves.png`` and ``pca.png`` to the work directory.

    Returns:
        The figures of ``random student``, ``sliced student`` where the config has one, ``distilled student`` and
        ``teacher``.

    Raises:
        DataError: The validation set has fewer than two images.
    """
    init_default_scope(cfg.get("default_scope", "proteus"))
    with as_config_error(cfg):
        photographs = load_photographs(cfg)
    if len(photographs) < 2:
        raise DataError("val_dataloader.dataset has one image; the figures compare two held-out images or more")
    runner = build_runner(cfg)
    model: Distiller = runner.model
    first = photographs[:: max(len(photographs) // _PICTURES, 1)][:_PICTURES]
    size = 2 * model.student.img_size
    results, maps = {}, {}

    def look(name: str) -> None:
        results[name] = _figures(runner, photographs, cfg)
        maps[name] = _mapped(model, first, size)

    look("random student")
    for hook in runner.hooks:
        if isinstance(hook, SlicedInitHook):
            hook.before_train(runner)
            look("sliced student")
    run_training(runner)
    look("distilled student")
    retrieval = patch_retrieval(_encoder(model, model.teacher), photographs, model.student.img_size)
    results["teacher"] = Figures(patch=1.0, cls=1.0, retrieval=retrieval)
    work_dir = Path(runner.work_dir)
    write_json(work_dir / "results.json", {name: vars(row) for name, row in results.items()}, indent=2)
    draw_curves(work_dir, work_dir / "curves.png")
    teacher = _encoder(model, model.teacher)(_resized(first, size))
    pca = PCA(teacher)
    titled = {"teacher": teacher, **dict(reversed(maps.items()))}
    draw_pca(first.cpu(), {title: pca(features).cpu() for title, features in titled.items()}, work_dir / "pca.png")
    return results


def table(results: dict[str, Figures], photographs: int) -> str:
    """Format the figures for a terminal, a column for each network."""
    rows = {
        "centred patch cosine": "patch",
        "centred cls cosine": "cls",
        f"patch retrieval (chance {1 / photographs:.3f})": "retrieval",
    }
    lines = [" " * 32 + "".join(f"{name:>20}" for name in results)]
    for title, field in rows.items():
        lines.append(f"{title:<32}" + "".join(f"{getattr(row, field):>20.3f}" for row in results.values()))
    return "\n".join(lines)


def load_photographs(cfg: Config) -> Tensor:
    """The held-out photographs, at most 200 of them, ``(N, 3, 320, 320)`` in [0, 1]."""
    config = dict(cfg.val_dataloader.dataset)
    config["pipeline"] = [
        {"type": "LoadImage", "short_side": _SIDE},
        {"type": "Resize", "size": _SIDE},
        {"type": "CenterCrop", "size": _SIDE},
        {"type": "ToTensor", "dtype": "float32"},
        {"type": "PackInputs"},
    ]
    dataset = DATASETS.build(config)
    return torch.stack([dataset[index]["image"] for index in range(min(len(dataset), _MOST))])


def _figures(runner: Runner, photographs: Tensor, cfg: Config) -> Figures:
    model: Distiller = runner.model
    model.eval()
    with torch.no_grad(), seeded(0):
        evaluator = runner.build_evaluator(cfg.val_evaluator)
        loader = runner.build_dataloader(cfg.val_dataloader)
        for batch in loader:
            evaluator.process(model.val_step(batch), batch)
        metrics = evaluator.evaluate(len(loader.dataset))
        retrieval = patch_retrieval(_encoder(model, model.student), photographs, model.student.img_size)
    return Figures(metrics["centered_cosine/patch"], metrics["centered_cosine/cls"], retrieval)


def _encoder(model: Distiller, network: Callable[[Tensor], Any]) -> Callable[[Tensor], Features]:
    def encode(images: Tensor) -> Features:
        with torch.no_grad():
            features: Features = network(model.data_preprocessor({"images": images})["images"])
        return Features(features.cls.cpu(), features.patches.cpu(), features.grid)

    return encode


def _mapped(model: Distiller, images: Tensor, size: int) -> Features:
    """The student's patches in the teacher's space, as its objectives' heads map them."""
    model.eval()
    features = _encoder(model, model.student)(_resized(images, size))
    device = next(model.parameters()).device
    with torch.no_grad():
        patches = model.predict_tokens(Features(features.cls.to(device), features.patches.to(device), features.grid))
    return Features(features.cls, patches["patches"].cpu(), features.grid)


def _resized(images: Tensor, size: int) -> Tensor:
    return torch.nn.functional.interpolate(images, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
