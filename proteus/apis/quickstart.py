"""``tools/quickstart.py``: distil, then evaluate the student on held-out photographs."""

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

# Held-out photographs are cropped to squares of this side before evaluation.
_SIDE = 320
_MAX_PHOTOGRAPHS = 200
_HELD_OUT = 0.2
_PICTURES = 6


@dataclass(frozen=True)
class Scores:
    """Scores of one network on held-out photographs.

    Attributes:
        patch: Centred cosine similarity of mapped patch tokens and the teacher's.
        cls: Centred cosine similarity of the mapped cls token and the teacher's.
        retrieval: Share of patches that retrieve a patch of the same photograph (``patch_retrieval``).
    """

    patch: float
    cls: float
    retrieval: float


def use_folder(cfg: Config, folder: str) -> None:
    """Use a folder of images instead of the packaged photographs: four fifths for training, one fifth held out.

    Raises:
        DataError: The folder has too few images: one for training and two held-out ones are needed.
        FileNotFoundError: The folder does not exist or has no images.
    """
    images = ImageFolder(folder)
    held_out = sum(images.is_chosen(name, "held-out", _HELD_OUT) for name in images.names())
    if held_out < 2 or held_out == len(images):
        raise DataError(
            f"{folder}: {len(images):,} images, of which {len(images) - held_out} train and {held_out} are held out "
            "(by their names); at least 1 and 2 are needed: use 20 images or more"
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


def quickstart(cfg: Config) -> dict[str, Scores]:
    """Distil a config and compare the student with its initial weights and with the teacher.

    Writes ``student.safetensors``, ``results.json``, ``curves.png`` and ``pca.png`` to the work directory.

    Returns:
        The scores of ``random student``, ``sliced student`` where the config has one, ``distilled student`` and
        ``teacher``.

    Raises:
        DataError: The validation set has fewer than two images.
    """
    init_default_scope(cfg.get("default_scope", "proteus"))
    with as_config_error(cfg):
        photographs = load_photographs(cfg)
    if len(photographs) < 2:
        raise DataError("val_dataloader.dataset has one image; at least two held-out images are compared")
    runner = build_runner(cfg)
    model: Distiller = runner.model
    first = photographs[:: max(len(photographs) // _PICTURES, 1)][:_PICTURES]
    size = 2 * model.student.img_size
    results, maps = {}, {}

    def score(name: str) -> None:
        results[name] = _scores(runner, photographs, cfg)
        maps[name] = _mapped(model, first, size)

    score("random student")
    for hook in runner.hooks:
        if isinstance(hook, SlicedInitHook):
            hook.before_train(runner)
            score("sliced student")
    run_training(runner)
    score("distilled student")
    retrieval = patch_retrieval(_encoder(model, model.teacher), photographs, model.student.img_size)
    results["teacher"] = Scores(patch=1.0, cls=1.0, retrieval=retrieval)
    work_dir = Path(runner.work_dir)
    write_json(work_dir / "results.json", {name: vars(row) for name, row in results.items()}, indent=2)
    draw_curves(work_dir, work_dir / "curves.png")
    teacher = _encoder(model, model.teacher)(_resized(first, size))
    pca = PCA(teacher)
    titled = {"teacher": teacher, **dict(reversed(maps.items()))}
    draw_pca(first.cpu(), {title: pca(features).cpu() for title, features in titled.items()}, work_dir / "pca.png")
    return results


def format_scores(results: dict[str, Scores], photographs: int) -> str:
    """Format the scores as a table for the terminal, with a column for each network."""
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
    """Return at most 200 held-out photographs, ``(N, 3, 320, 320)`` in [0, 1]."""
    config = dict(cfg.val_dataloader.dataset)
    config["pipeline"] = [
        {"type": "LoadImage", "short_side": _SIDE},
        {"type": "ResizeEdge", "scale": _SIDE},
        {"type": "CenterCrop", "crop_size": _SIDE},
        {"type": "ToTensor", "dtype": "float32"},
        {"type": "PackInputs"},
    ]
    dataset = DATASETS.build(config)
    return torch.stack([dataset[index]["inputs"] for index in range(min(len(dataset), _MAX_PHOTOGRAPHS))])


def _scores(runner: Runner, photographs: Tensor, cfg: Config) -> Scores:
    model: Distiller = runner.model
    model.eval()
    with torch.no_grad(), seeded(0):
        evaluator = runner.build_evaluator(cfg.val_evaluator)
        loader = runner.build_dataloader(cfg.val_dataloader)
        for batch in loader:
            evaluator.process(model.val_step(batch), batch)
        metrics = evaluator.evaluate(len(loader.dataset))
        retrieval = patch_retrieval(_encoder(model, model.student), photographs, model.student.img_size)
    return Scores(metrics["centered_cosine/patch"], metrics["centered_cosine/cls"], retrieval)


def _encoder(model: Distiller, network: Callable[[Tensor], Any]) -> Callable[[Tensor], Features]:
    def encode(images: Tensor) -> Features:
        with torch.no_grad():
            features: Features = network(model.data_preprocessor({"inputs": images})["inputs"])
        return Features(features.cls.cpu(), features.patches.cpu(), features.grid)

    return encode


def _mapped(model: Distiller, images: Tensor, size: int) -> Features:
    """Return the student's patch tokens mapped to the teacher's space by the heads of the objectives."""
    model.eval()
    features = _encoder(model, model.student)(_resized(images, size))
    device = next(model.parameters()).device
    with torch.no_grad():
        patches = model.predict_tokens(Features(features.cls.to(device), features.patches.to(device), features.grid))
    return Features(features.cls, patches["patches"].cpu(), features.grid)


def _resized(images: Tensor, size: int) -> Tensor:
    return torch.nn.functional.interpolate(images, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
