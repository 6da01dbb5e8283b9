"""Evaluation of the student during distillation."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dataset import Compose
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from proteus.compat import restart_iter_timer
from proteus.config.check_consistency import trained_size
from proteus.datasets import CorruptImageError, ProxySet
from proteus.datasets.proxy.fixed_views import mask_transforms
from proteus.engine.hooks.corrupt_images import CorruptProxySetError
from proteus.engine.hooks.student_ema import delivered_weights
from proteus.evaluation.metrics import TeacherAgreement
from proteus.evaluation.online.compare import compare_with_teacher, eval_mode, knn_accuracy, missing_metrics
from proteus.evaluation.online.jsonl_log import JSONLLog
from proteus.evaluation.online.probe_images import (
    LabelledImages,
    ProbeImages,
    count_shared_files,
    evenly_spaced_indices,
    load_probe_images,
)
from proteus.models import Distiller, Teacher
from proteus.registry import HOOKS
from proteus.structures import DataError
from proteus.utils.models import unwrap_model


@HOOKS.register_module()
class OnlineEvalHook(Hook):
    """Evaluate the student before the first iteration, every ``interval`` iterations and after the last.

    There are four kinds of metrics: the agreement of the heads' predictions with the teacher's tokens
    (``centered_cosine_*``, as in ``TeacherAgreement``), the effective ranks of the features of student and teacher
    (``effective_rank_*``), the fraction of variance unexplained of each squared-error term of the loss
    (``unexplained_variance_*``), and the k-NN accuracy of student and teacher on a small labelled set (``knn_*``, per
    cent). Metrics that a model or config does not support are skipped; the log lists them once. Training is not
    affected.

    Each evaluation appends a line to ``online_eval.jsonl`` in the work directory, which a resumed run continues, and
    adds scalars ``online_eval/*`` to the visualizer. The student's current weights are evaluated, not their EMA unless
    ``StudentEMAHook`` delivers it, in float32 and evaluation mode. With several students or teachers each is evaluated
    in turn, and its name precedes those of its metrics: ``small.centered_cosine_cls``, ``dinov2/centered_cosine_cls``.

    The images are those of the validation set. If training images are among them, or training images are used for lack
    of a validation set, the names of the metrics begin with ``trained_on/``.

    Rank 0 reads the images once, keeps them as bytes, and computes everything while the others wait, so that no rank
    can miss a collective call of another. Only with a teacher that ranks run together (sharded or spread) do all of
    them compute; rank 0 writes.

    Cost in the paper's recipe (ViT-S from DINOv2-B, 1024 images per iteration, 445 images/s on each of 8 GPUs): 2,500
    iterations take 2500 x 1024 / (8 x 445) = 719 s. With a teacher's forward pass as 4 units and a student's as 1,
    training on an image takes 4 + 1.5 x 3 = 8.5 units; each of the 1,024 images takes 4 + 2 units and each of the 2,000
    labelled ones 1, which equals training on (6 x 1024 + 2000) / 8.5 = 958 images. At bfloat16's speed this is 2.2 s on
    one GPU, or 0.3 %; in float32, if four times slower, the student's part makes it 5.4 s, or 0.7 %. Reading 3,024
    JPEGs takes about half a minute once, of 30 hours.

    Args:
        interval: Iterations between evaluations.
        images: Largest number of images for agreement, ranks and unexplained variances, evenly spaced in the set.
        knn: Keys of :class:`~proteus.evaluation.online.probe_images.LabelledImages`; None disables k-NN.
        patches_per_image: Number of patches of each image for agreement and rank.

    Raises:
        ValueError: A number is too small, or ``knn`` has an unknown key.
        FileNotFoundError: At the start, on every rank: ``knn.data_root`` does not exist.
        CorruptProxySetError: At the start: a labelled image cannot be read.
        DataError: At the start: ``TeacherAgreement`` has fewer than two validation images, or ``knn`` too few labelled
            images.
    """

    # Before the checkpoint hook: a run killed between the two then lacks no line when it resumes.
    priority = 80

    def __init__(
        self,
        interval: int = 2500,
        images: int = 1024,
        knn: Mapping[str, Any] | None = None,
        patches_per_image: int = 16,
    ) -> None:
        if interval < 1 or images < 2 or patches_per_image < 1:
            raise ValueError(
                f"OnlineEvalHook(interval={interval}, images={images}, patches_per_image={patches_per_image}): write "
                "interval of 1 or more, images of 2 or more and patches_per_image of 1 or more, or "
                "default_hooks.online_eval=None to disable it"
            )
        keys = [field.name for field in dataclasses.fields(LabelledImages)]
        unknown = sorted(set(knn or {}) - set(keys))
        if unknown:
            raise ValueError(f"unknown key default_hooks.online_eval.knn.{unknown[0]}; choose from {', '.join(keys)}")
        self.interval = interval
        self.max_images = images
        self.patches_per_image = patches_per_image
        self.labelled = None if knn is None else LabelledImages(**knn)
        self.probe_images: ProbeImages | None = None
        self.knn_images: ProbeImages | None = None
        self.prefixes = {"": "", "knn": ""}
        self.teacher_knn: dict[Teacher, dict[str, float]] = {}
        self.student_knn: dict[Any, dict[str, float]] = {}  # of the latest evaluation; several teachers share a student
        self.ks: list[int] = []
        self.missing_logged = False
        self.seconds = 0.0
        self.disabled = False

    def before_train(self, runner: Runner) -> None:
        """Read the images, and evaluate for the first time unless the run resumes."""
        model = unwrap_model(runner.model)
        if not hasattr(model, "distillers"):
            self.disabled = True
            runner.logger.warning("online evaluation disabled: the model is not a Distiller")
            return
        collective = any(teacher.collective for teacher in model.teachers_by_name.values())
        self.disabled = not (is_main_process() or collective)
        validation = runner.val_dataloader.dataset if runner.val_loop is not None else None
        folder = self.labelled.find_folder(validation) if self.labelled else None
        if self.disabled:
            return
        self.start_time = time.perf_counter()
        with eval_mode(model):
            self._load_images(runner, validation)
            if folder is not None:
                self._load_labelled_images(runner, validation, folder)
        if is_main_process():
            self.log = JSONLLog(Path(runner.work_dir) / "online_eval.jsonl", runner.iter)
        if runner.iter == 0:
            self._evaluate(runner, 0)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Evaluate if it is due."""
        due = self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner)
        if due and not self.disabled:
            self._evaluate(runner, runner.iter + 1)
            restart_iter_timer(runner)  # the evaluation is not data time of the next iteration

    def _evaluate(self, runner: Runner, iteration: int) -> None:
        start = time.perf_counter()
        metrics: dict[str, float] = {}
        missing: dict[str, list[str]] = {}
        self.student_knn = {}
        with delivered_weights(runner), eval_mode(unwrap_model(runner.model)):
            students = _distillers(runner)
            several_teachers = "" not in unwrap_model(runner.model).teachers_by_name
            for student, model in students.items():
                found = self._compute(model, runner.train_dataloader.batch_size or 64)
                metrics |= {_add_name(student, name, several_teachers): value for name, value in found.items()}
                for metric in missing_metrics(model, found, knn=self.labelled is not None):
                    missing.setdefault(metric, []).append(student)
        if not is_main_process():
            return
        if not self.missing_logged:
            self.missing_logged = True
            for metric, names in missing.items():
                suffix = "" if len(names) == len(students) else f", for {', '.join(names)}"
                runner.logger.info(f"online evaluation without {metric}{suffix}")
        seconds = time.perf_counter() - start
        self.seconds += seconds
        fraction = self.seconds / max(time.perf_counter() - self.start_time, 1e-9)
        self.log.write(iteration, {**metrics, "seconds": round(seconds, 3)})
        cost = f"{seconds:.1f} s" + (f", {fraction:.1%} of the run so far" if iteration else "")
        runner.logger.info(f"online evaluation [{iteration}/{runner.max_iters}] {_format_metrics(metrics)} ({cost})")
        invalid = sorted(name for name, value in metrics.items() if not math.isfinite(value))
        if invalid:
            runner.logger.warning(f"online evaluation: not finite: {', '.join(invalid)}; has the run diverged?")
        scalars = {f"online_eval/{name}": value for name, value in metrics.items() if name not in invalid}
        if scalars:
            runner.visualizer.add_scalars(scalars, step=iteration)

    def _compute(self, model: Distiller, batch_size: int) -> dict[str, float]:
        metrics: dict[str, float] = {}
        if self.probe_images is not None:
            found = compare_with_teacher(model, self.probe_images, batch_size, self.patches_per_image)
            metrics |= {self.prefixes[""] + name: value for name, value in found.items()}
        if self.knn_images is not None:
            metrics |= {self.prefixes["knn"] + name: value for name, value in self._knn(model, batch_size).items()}
        return metrics

    def _knn(self, model: Distiller, batch_size: int) -> dict[str, float]:
        assert self.knn_images is not None
        accuracy_of = partial(knn_accuracy, model, images=self.knn_images, ks=self.ks, batch_size=batch_size)
        if model.teacher.embed_dim and model.teacher not in self.teacher_knn:
            # Constant, so computed once.
            found = accuracy_of(model.teacher)
            self.teacher_knn[model.teacher] = {f"{name}_teacher": value for name, value in found.items()}
        if model.student not in self.student_knn:
            self.student_knn[model.student] = accuracy_of(model.student)
        return {**self.student_knn[model.student], **self.teacher_knn.get(model.teacher, {})}

    def _load_images(self, runner: Runner, validation: Any) -> None:
        training = runner.train_dataloader.dataset
        dataset = training if validation is None else validation
        if len(dataset) < 2:
            _check_agreement(runner, len(dataset))
            runner.logger.warning("online evaluation: only k-NN, since the validation set has fewer than two images")
            return
        mask = next(mask_transforms(training), None)

        def warn(error: CorruptImageError) -> None:
            runner.logger.warning(f"online evaluation: skipping an unreadable image: {error}")

        indices = evenly_spaced_indices(self.max_images, len(dataset))
        self.probe_images = load_probe_images(dataset, indices, mask, warn)
        if len(self.probe_images) < 2:
            raise DataError(
                "online evaluation needs two validation images, but only one can be read; repair the others, or write "
                "default_hooks.online_eval=None"
            )
        shared = len(self.probe_images) if validation is None else count_shared_files(training, self.probe_images.paths)
        kind = "held-out images"
        if shared:
            self.prefixes[""] = "trained_on/"
            kind = (
                f"images, {shared:,} of which are trained on (hold some out with dataset.split='train' and 'held-out')"
            )
        runner.logger.info(f"online evaluation: {len(self.probe_images):,} {kind}, every {self.interval:,} iterations")

    def _load_labelled_images(self, runner: Runner, validation: Any, folder: str) -> None:
        assert self.labelled is not None
        pipeline = validation.pipeline if isinstance(validation, ProxySet) else _eval_pipeline(self._side(runner))
        try:
            images = self.labelled.load(folder, pipeline)
        except CorruptImageError as error:
            raise CorruptProxySetError(
                f"default_hooks.online_eval.knn.data_root: {error}; repair or remove it"
            ) from error
        except ValueError as error:
            raise DataError(
                f"default_hooks.online_eval.knn.data_root: {error}; or write default_hooks.online_eval.knn=None"
            ) from error
        self.ks = [k for k in self.labelled.ks if k < len(images)]
        if not self.ks:
            raise DataError(
                f"default_hooks.online_eval.knn.ks={tuple(self.labelled.ks)}: write numbers below {len(images)}, the "
                f"number of images in {folder}"
            )
        self.knn_images = images
        if count_shared_files(runner.train_dataloader.dataset, images.paths):
            self.prefixes["knn"] = "trained_on/"
        classes = len(images.labels.unique()) if images.labels is not None else 0
        runner.logger.info(
            f"online evaluation: leave-one-out k-NN on {len(images):,} images of {classes:,} classes in {folder}"
        )

    def _side(self, runner: Runner) -> int:
        """Return the side of the labelled images: that of training, else of the other images, else 224 pixels."""
        first = next(iter(_distillers(runner).values()))
        others = None if self.probe_images is None else min(self.probe_images.pixels.shape[-2:])
        return trained_size(runner.cfg, first.student) or others or 224


def _check_agreement(runner: Runner, images: int) -> None:
    metrics = runner.val_evaluator.metrics if runner.val_loop is not None else []
    if any(isinstance(metric, TeacherAgreement) for metric in metrics):
        raise DataError(
            f"val_dataloader.dataset has {images} image{'s' * (images != 1)}, but TeacherAgreement needs at "
            "least two: hold out more images, or write val_evaluator=None, val_dataloader=None and val_cfg=None"
        )


def _distillers(runner: Runner) -> dict[str, Distiller]:
    """Return the distillers by the student's name; the name of a single student is empty."""
    distillers: dict[str, Distiller] = unwrap_model(runner.model).distillers
    return distillers


def _add_name(part: str, metric: str, teacher: bool) -> str:
    """Add the name of one of several students, or of one of several teachers, to that of a metric."""
    folder, slash, name = metric.rpartition("/")
    return f"{folder}{slash}{part}{'/' if teacher else '.'}{name}" if part else metric


def _eval_pipeline(size: int) -> Compose:
    return Compose(
        [
            {"type": "proteus.LoadImage"},
            {"type": "proteus.ResizeEdge", "scale": round(size * 256 / 224), "interpolation": "bicubic"},
            {"type": "proteus.CenterCrop", "crop_size": size},
            {"type": "proteus.ToTensor"},
            {"type": "proteus.PackInputs"},
        ]
    )


def _format_metrics(metrics: Mapping[str, float]) -> str:
    """Format metrics for the log, each with the teacher's in brackets."""
    parts = []
    for name, value in metrics.items():
        if not name.endswith("_teacher"):
            teacher = metrics.get(name.removesuffix("_student") + "_teacher")
            reference = "" if teacher is None else f" (teacher {teacher:.3g})"
            parts.append(f"{name.removesuffix('_student')} {value:.3g}{reference}")
    return ", ".join(parts)
