"""Does it work? Asked while there is still time to stop the run."""

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
from mmengine.hooks import Hook, IterTimerHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from proteus.datasets import CorruptImageError, MaskTransform, ProxySet
from proteus.engine.hooks.corrupt_images import CorruptProxySetError
from proteus.evaluation.metrics import TeacherAgreement
from proteus.evaluation.online.compare import compare_with_teacher, left_out, nearest_neighbour_accuracy
from proteus.evaluation.online.eval_mode import eval_mode
from proteus.evaluation.online.jsonl_log import JSONLLog
from proteus.evaluation.online.labelled_images import LabelledImages
from proteus.evaluation.online.probe_images import ProbeImages, load_probe_images, number_in, spread
from proteus.models import Distiller
from proteus.registry import HOOKS
from proteus.structures import DataError


@HOOKS.register_module()
class OnlineEvalHook(Hook):
    """Look at the student during a distillation, without a trace in its training.

    Four figures, before the first iteration, every ``interval`` iterations and after the last: how well the heads
    predict the teacher's tokens (``centered_cosine_*``, as the metric ``TeacherAgreement``), in how many directions the
    features spread beside the teacher's (``effective_rank_*``), each squared term of the loss over that of the best
    constant answer (``unexplained_variance_*``), and the k-NN accuracy of a small labelled set beside the teacher's
    (``knn_*``, per cent). What a model or a config does not have is left out, and the log says so once.

    Each time adds a line to ``online_eval.jsonl`` in the work directory, which a resumed run goes on with, and scalars
    ``online_eval/*`` to the visualizer. The student is looked at as it is, not its EMA, in float32 and evaluation mode. Of
    several students each is looked at in turn, and its name stands before those of its figures.

    The images are of the validation set. If it holds images that are trained on, or there is none and views of the
    training set are taken, the figures' names begin with ``trained_on/``.

    The images are read once and kept, as bytes, by rank 0, which computes everything while the others wait: no rank
    takes part in anything that another one could miss. Only where a teacher is sharded over the ranks must all of them
    do the same, and rank 0 alone writes. What that costs, in the paper's recipe (ViT-S under DINOv2-B,
    1024 images a step, 445 images/s on each of 8 GPUs): 2,500 iterations take 2500 x 1024 / (8 x 445) = 719 s. With a
    teacher's forward pass as 4 units and a student's as 1, an image trained on takes 4 + 1.5 x 3 = 8.5 units; the 1,024
    images take 4 + 2 units each and the 2,000 labelled ones 1, which is (6 x 1024 + 2000) / 8.5 = 958 images' training.
    At bfloat16's speed that is 2.2 s on one GPU, or 0.3 %; in float32, if four times slower, the student's part makes
    it 5.4 s, or 0.7 %. Reading 3,024 JPEGs takes about half a minute once, of 30 hours.

    Args:
        interval: Iterations from one time to the next.
        images: Images at most that agreement, ranks and relative losses are of, at even distances in the set.
        knn: Keys of :class:`~proteus.evaluation.online.labelled_images.LabelledImages`; None leaves k-NN out.
        patches_per_image: Patches of each image that count for agreement and rank.

    Raises:
        ValueError: A number is too small, or ``knn`` has a key that is not known.
        FileNotFoundError: At start, on every rank: ``knn.data_root`` is not there.
        CorruptProxySetError: At start: a labelled image cannot be read.
        DataError: At start: ``TeacherAgreement`` is asked of fewer than two validation images, or ``knn`` of labelled
            images that are too few.
    """

    # Before a checkpoint is written, so that a run that is killed between the two lacks no line when it is resumed.
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
                f"OnlineEvalHook(interval={interval}, images={images}, patches_per_image={patches_per_image}): write at "
                "least 1, 2 and 1, or default_hooks.online_eval=None for no watch"
            )
        keys = [field.name for field in dataclasses.fields(LabelledImages)]
        unknown = sorted(set(knn or {}) - set(keys))
        if unknown:
            raise ValueError(
                f"default_hooks.online_eval.knn has no key {unknown[0]!r}: write some of {', '.join(keys)}"
            )
        self.interval = interval
        self.most = images
        self.patches_per_image = patches_per_image
        self.labelled = None if knn is None else LabelledImages(**knn)
        self.images: ProbeImages | None = None
        self.knn_images: ProbeImages | None = None
        self.prefixes = {"": "", "knn": ""}
        self.of_teacher: dict[str, float] = {}
        self.ks: list[int] = []
        self.said = False
        self.seconds = 0.0
        self.idle = False

    def before_train(self, runner: Runner) -> None:
        """Read the images, and look at the student for the first time unless the run is resumed."""
        model = _model_of(runner)
        if not hasattr(model, "distillers"):
            self.idle = True
            runner.logger.warning(f"online eval: {type(model).__name__} is no Distiller, and is not watched")
            return
        self.idle = not (is_main_process() or model.teacher.sharded)
        validation = runner.val_dataloader.dataset if runner.val_loop is not None else None
        folder = self.labelled.folder(validation) if self.labelled else None
        if self.idle:
            return
        self.began = time.perf_counter()
        with eval_mode(model):
            self._read(runner, validation)
            if folder is not None:
                self._read_labelled(runner, validation, folder)
        if is_main_process():
            self.journal = JSONLLog(Path(runner.work_dir) / "online_eval.jsonl", runner.iter)
        if runner.iter == 0:
            self._look(runner, 0)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Look at the student, if it is time."""
        due = self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner)
        if due and not self.idle:
            self._look(runner, runner.iter + 1)
            for hook in runner.hooks:
                if isinstance(hook, IterTimerHook):
                    # Else the log would say that the next iteration waited so long for its data.
                    hook.t = time.time()

    def _look(self, runner: Runner, iteration: int) -> None:
        start = time.perf_counter()
        figures: dict[str, float] = {}
        reasons: dict[str, list[str]] = {}
        with eval_mode(_model_of(runner)):
            students = _distillers(runner)
            for student, model in students.items():
                found = self._figures(model, runner.train_dataloader.batch_size or 64)
                figures |= {_named(student, name): value for name, value in found.items()}
                for line in left_out(model, found):
                    reasons.setdefault(line, []).append(student)
        if not is_main_process():
            return
        if not self.said:
            self.said = True
            for line, of in reasons.items():
                whose = "" if len(of) == len(students) else f" ({', '.join(of)})"
                runner.logger.info(f"online eval leaves out {line}{whose}")
        seconds = time.perf_counter() - start
        self.seconds += seconds
        share = self.seconds / max(time.perf_counter() - self.began, 1e-9)
        self.journal.write(iteration, {**figures, "seconds": round(seconds, 3)})
        cost = f"{seconds:.1f} s" + (f", {share:.1%} of the run so far" if iteration else "")
        runner.logger.info(f"online eval [{iteration}/{runner.max_iters}] {_sentence(figures)} ({cost})")
        lost = sorted(name for name, value in figures.items() if not math.isfinite(value))
        if lost:
            runner.logger.warning(f"online eval: not a number: {', '.join(lost)}; has the run diverged?")
        scalars = {f"online_eval/{name}": value for name, value in figures.items() if name not in lost}
        if scalars:
            runner.visualizer.add_scalars(scalars, step=iteration)

    def _figures(self, model: Distiller, batch_size: int) -> dict[str, float]:
        figures: dict[str, float] = {}
        if self.images is not None:
            found = compare_with_teacher(model, self.images, batch_size, self.patches_per_image)
            figures |= {self.prefixes[""] + name: value for name, value in found.items()}
        if self.knn_images is not None:
            figures |= {self.prefixes["knn"] + name: value for name, value in self._knn(model, batch_size).items()}
        return figures

    def _knn(self, model: Distiller, batch_size: int) -> dict[str, float]:
        assert self.knn_images is not None
        measure = partial(nearest_neighbour_accuracy, model, images=self.knn_images, ks=self.ks, batch_size=batch_size)
        if model.teacher.embed_dim and not self.of_teacher:
            # It never changes.
            self.of_teacher = {f"{name}_teacher": value for name, value in measure(model.teacher).items()}
        return {**measure(model.student), **self.of_teacher}

    def _read(self, runner: Runner, validation: Any) -> None:
        training = runner.train_dataloader.dataset
        dataset = training if validation is None else validation
        if len(dataset) < 2:
            _refuse_agreement_of_one(runner, len(dataset))
            runner.logger.warning("online eval: the validation set has fewer than two images; k-NN alone is watched")
            return
        steps = getattr(getattr(training, "pipeline", None), "transforms", ())
        mask = next((step for step in steps if isinstance(step, MaskTransform)), None)

        def warn(error: CorruptImageError) -> None:
            runner.logger.warning(f"online eval: cannot be read and is left out: {error}")

        self.images = load_probe_images(dataset, spread(self.most, len(dataset)), mask, warn)
        if len(self.images) < 2:
            raise DataError(
                "online eval: only one validation image can be read, and two are needed; repair the others, or write "
                "default_hooks.online_eval=None"
            )
        shared = len(self.images) if validation is None else number_in(training, self.images.paths)
        kind = "held-out images"
        if shared:
            self.prefixes[""] = "trained_on/"
            kind = (
                f"images, {shared:,} of which are trained on (to hold some out: dataset.split='train' and 'held-out')"
            )
        runner.logger.info(f"online eval: {len(self.images):,} {kind}, every {self.interval:,} iterations")

    def _read_labelled(self, runner: Runner, validation: Any, folder: str) -> None:
        assert self.labelled is not None
        pipeline = validation.pipeline if isinstance(validation, ProxySet) else _plain_pipeline(runner)
        try:
            kept = self.labelled.read(folder, pipeline)
        except CorruptImageError as error:
            raise CorruptProxySetError(
                f"default_hooks.online_eval.knn.data_root: {error}; mend or remove it"
            ) from error
        except ValueError as error:
            raise DataError(
                f"default_hooks.online_eval.knn.data_root: {error}; or write default_hooks.online_eval.knn=None"
            ) from error
        self.ks = [k for k in self.labelled.ks if k < len(kept)]
        if not self.ks:
            raise DataError(
                f"default_hooks.online_eval.knn.ks={tuple(self.labelled.ks)}: {folder} gives {len(kept)} images; k is less"
            )
        self.knn_images = kept
        if number_in(runner.train_dataloader.dataset, kept.paths):
            self.prefixes["knn"] = "trained_on/"
        classes = len(kept.labels.unique()) if kept.labels is not None else 0
        runner.logger.info(
            f"online eval: k-NN of {len(kept):,} images of {classes:,} classes in {folder}, each left out in turn"
        )


def _model_of(runner: Runner) -> Any:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _refuse_agreement_of_one(runner: Runner, images: int) -> None:
    metrics = runner.val_evaluator.metrics if runner.val_loop is not None else []
    if any(isinstance(metric, TeacherAgreement) for metric in metrics):
        raise DataError(
            f"val_dataloader.dataset has {images} image{'s' * (images != 1)}, and TeacherAgreement compares two or "
            "more: hold out more images, or write val_evaluator=None, val_dataloader=None and val_cfg=None"
        )


def _distillers(runner: Runner) -> dict[str, Distiller]:
    """The distillers by the name of their student; the name of a single student is empty."""
    distillers: dict[str, Distiller] = _model_of(runner).distillers
    return distillers


def _named(student: str, figure: str) -> str:
    folder, slash, name = figure.rpartition("/")
    return f"{folder}{slash}{student}.{name}" if student else figure


def _plain_pipeline(runner: Runner) -> Compose:
    first = next(iter(_distillers(runner).values()))
    size = getattr(first.student, "img_size", None) or 224
    return Compose(
        [
            {"type": "proteus.LoadImage"},
            {"type": "proteus.ResizeEdge", "scale": round(size * 256 / 224), "interpolation": "bicubic"},
            {"type": "proteus.CenterCrop", "crop_size": size},
            {"type": "proteus.ToTensor"},
            {"type": "proteus.PackInputs"},
        ]
    )


def _sentence(figures: Mapping[str, float]) -> str:
    """The figures for the log, the teacher's behind the student's."""
    parts = []
    for name, value in figures.items():
        if not name.endswith("_teacher"):
            of_teacher = figures.get(name.removesuffix("_student") + "_teacher")
            beside = "" if of_teacher is None else f" (teacher {of_teacher:.3g})"
            parts.append(f"{name.removesuffix('_student')} {value:.3g}{beside}")
    return ", ".join(parts)
