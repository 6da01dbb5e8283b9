"""Checks of a run's model, data and checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from mmengine.structures import BaseDataElement

from proteus.checkpoints import check_fit
from proteus.checkpoints.parts import take_part
from proteus.checkpoints.training import check_resumable
from proteus.compat import checkpoint_of, is_resuming, loops_of
from proteus.evaluation.metrics import DepthMetric
from proteus.evaluation.metrics.checked import check_metrics_finite
from proteus.models.backbones.checkpoint_positions import fit_positions
from proteus.models.segmentor_widths import check_widths, heads
from proteus.registry import HOOKS
from proteus.structures import DataError
from proteus.utils.models import unwrap_model

_NO_LABEL = (
    ": no pixel of the masks has a label of a class; check that they hold class numbers and not only the ignored label "
    "(255, or 0 with reduce_zero_label)"
)


@HOOKS.register_module()
class StrictCheckpointHook(Hook):
    """Raise an error when a resumed or loaded checkpoint does not match the config's model.

    MMEngine would log a warning, load the matching weights, and leave the others random. Position embeddings of ViTs
    for another ``img_size`` are resampled, unless the run resumes. Of the two sets of weights in a checkpoint of a
    distillation with an EMA, a training from its plain name (``load_from``) starts from the trained ones, as
    everywhere in Proteus, and ``#ema`` means the average. A test evaluates the average, as the validation did.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare names and shapes before anything is loaded.

        Raises:
            CheckpointError: A weight is missing, unexpected, or has another shape; or a run should resume and the
                file has weights only.
        """
        source = getattr(checkpoint, "source", None) or checkpoint_of(runner) or "the checkpoint"
        model, state = unwrap_model(runner.model, tta=True), checkpoint.get("state_dict", checkpoint)
        if is_resuming(runner):
            check_resumable(checkpoint, source)
        else:
            testing = isinstance(loops_of(runner)[2], BaseLoop)
            trained = [] if testing else _take_trained(checkpoint, source)
            for change in (*trained, *fit_positions(model, state)):
                runner.logger.info(f"{source}: {change}")
        check_fit(model.state_dict(), state, source)


def _take_trained(checkpoint: dict[str, Any], source: str | Path) -> list[str]:
    """Put the trained weights back where MMEngine's ``EMAHook`` has saved their average; return what to log."""
    state = checkpoint.get("state_dict")
    if state is None or "ema_state_dict" not in checkpoint:
        return []
    # The hook names those of its average "module.*".
    part = take_part(checkpoint, None, Path(source))
    trained = {name.removeprefix("module."): weight for name, weight in part.items()}
    changed = {name: trained[name] for name, weight in state.items() if trained.get(name, weight) is not weight}
    state.update(changed)
    return [f"the trained weights are loaded; write {source}#ema for their average"] if changed else []


class _CheckHook(Hook):
    """Base of checks before training, validation and test."""

    priority = "VERY_HIGH"

    def before_train(self, runner: Runner) -> None:
        """Compare with the training set, and with the validation set, which is not read until much later."""
        self.check_classes(runner, "train_dataloader", runner.train_loop.dataloader)
        if runner.val_loop is not None:
            self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        """Compare with the validation set."""
        self.check_classes(runner, "val_dataloader", runner.val_loop.dataloader)

    def before_test(self, runner: Runner) -> None:
        """Compare with the test set."""
        self.check_classes(runner, "test_dataloader", runner.test_loop.dataloader)

    def check_classes(self, runner: Runner, key: str, loader: Any) -> None:
        """Compare the numbers of classes of model and data; ``key`` is the loader's config key."""
        raise NotImplementedError


@HOOKS.register_module()
class ClassifierCheckHook(_CheckHook):
    """Compare backbone, head and data before the first image is read; never test on a replaced image.

    For mmpretrain's ``ImageClassifier`` with one of our backbones. Training replaces and counts corrupt images
    (``CorruptImageHook``); in a test set this would change what the accuracy is measured on. Of the accuracies of an
    evaluator (``topk``), those of more guesses than there are classes are left out, with a warning.

    Raises:
        DataError: From ``before_run``: the head does not accept the backbone's width. From ``before_train``,
            ``before_val`` and ``before_test``: numbers of classes differ, or an evaluator asks only for accuracies of
            more guesses than there are classes. From ``after_val_iter`` and ``after_test_iter``: an image could not be
            read.
    """

    def before_run(self, runner: Runner) -> None:
        """Compare the widths of backbone, neck and head."""
        model = unwrap_model(runner.model, tta=True)
        width, expected = getattr(model.backbone, "embed_dim", None), getattr(model.head, "in_channels", None)
        if width is None or expected is None:
            return
        pool = getattr(model.neck, "pool", "cls")
        width *= 2 if pool == "cls+avg" else 1
        if width != expected:
            raise DataError(
                f"model.head.in_channels = {expected}, but the backbone gives {width} at model.neck.pool = {pool!r}: "
                f"write model.head.in_channels={width}"
            )

    def before_val(self, runner: Runner) -> None:
        """Compare with the validation set, and check the evaluator."""
        super().before_val(runner)
        _fit_topk(runner, "val_evaluator", runner.val_loop.evaluator)

    def before_test(self, runner: Runner) -> None:
        """Compare with the test set, and check the evaluator."""
        super().before_test(runner)
        _fit_topk(runner, "test_evaluator", runner.test_loop.evaluator)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Check that no image of the batch was replaced."""
        _check_not_replaced(data_batch)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Check that no image of the batch was replaced."""
        _check_not_replaced(data_batch)

    def check_classes(self, runner: Runner, key: str, loader: Any) -> None:
        """Compare the numbers of classes of model and data."""
        model = unwrap_model(runner.model, tta=True)
        counts = {
            "model.head.num_classes": getattr(model.head, "num_classes", None),
            "model.head.loss.num_classes": getattr(getattr(model.head, "loss_module", None), "num_classes", None),
            "model.data_preprocessor.num_classes": getattr(model.data_preprocessor, "num_classes", None),
            f"the folders of {key}.dataset": len(getattr(loader.dataset, "classes_found", ())) or None,
        }
        known = {name: count for name, count in counts.items() if count is not None}
        if len(set(known.values())) > 1:
            found = ", ".join(f"{name} = {count}" for name, count in known.items())
            raise DataError(f"numbers of classes differ: {found}; write the same number everywhere")


@HOOKS.register_module()
class SegmentorCheckHook(_CheckHook):
    """Compare the widths of backbone, neck and heads, and the numbers of classes, before the first image is read.

    Raises:
        DataError: From ``before_run``: a neck or head does not accept the backbone's maps. From ``before_train``,
            ``before_val`` and ``before_test``: a head and the data have different numbers of classes. From
            ``after_val_epoch`` and ``after_test_epoch``: a metric is NaN, for example because no pixel has a label.
    """

    def before_run(self, runner: Runner) -> None:
        """Compare widths."""
        check_widths(unwrap_model(runner.model, tta=True))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Check that the metrics are finite."""
        check_metrics_finite(metrics or {}, "val_evaluator", _NO_LABEL)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Check that the metrics are finite."""
        check_metrics_finite(metrics or {}, "test_evaluator", _NO_LABEL)

    def check_classes(self, runner: Runner, key: str, loader: Any) -> None:
        """Compare the numbers of classes of model and data."""
        classes = getattr(loader.dataset, "metainfo", {}).get("classes")
        for name, head in heads(unwrap_model(runner.model, tta=True)):
            if classes is not None and getattr(head, "num_classes", len(classes)) != len(classes):
                inner = f"{key}.dataset.dataset" if hasattr(loader.dataset, "inner") else f"{key}.dataset"
                raise DataError(
                    f"{name}.num_classes = {head.num_classes}, but {key}.dataset has {len(classes)} classes: write "
                    f"{name}.num_classes={len(classes)}; or, for masks of {head.num_classes} classes of yours, write "
                    f"{inner}.type='BaseSegDataset', their names in {inner}.metainfo.classes, and "
                    f"{inner}.reduce_zero_label=True if label 0 means no class, else False"
                )


@HOOKS.register_module()
class DepthCheckHook(Hook):
    """Check before training that ``DepthMetric`` can use the ground truth of the validation set's first image.

    Raises:
        DataError: From ``before_train``: the ground truth is missing, lies outside range and crop, or has a size that
            the crop does not support.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Runner) -> None:
        """Read the image, and compare its ground truth with itself."""
        metrics = runner.val_evaluator.metrics if runner.val_loop is not None else []
        metrics = [metric for metric in metrics if isinstance(metric, DepthMetric)]
        if not metrics:
            return
        loader = runner.val_dataloader
        batch = loader.collate_fn([loader.dataset[0]])
        data_sample = (batch.get("data_samples") or [BaseDataElement()])[0]
        known = {"depth": batch["depths"][0], "gt_depth": batch["depths"][0]} if "depths" in batch else {}
        for metric in metrics:
            metric.process(batch, [{**data_sample.metainfo, **known}])
            metric.results.clear()


def _fit_topk(runner: Runner, key: str, evaluator: Any) -> None:
    """Take accuracies of more guesses than there are classes from mmpretrain's metric, which fails on them."""
    classes = getattr(unwrap_model(runner.model, tta=True).head, "num_classes", None)
    for metric in evaluator.metrics:
        topk = getattr(metric, "topk", None)
        if classes is None or not isinstance(topk, tuple) or all(guesses <= classes for guesses in topk):
            continue
        metric.topk = tuple(guesses for guesses in topk if guesses <= classes)
        if not metric.topk:
            raise DataError(f"{key}.topk = {topk}, but model.head.num_classes = {classes}: write {key}.topk=(1,)")
        runner.logger.warning(
            f"{key}.topk = {topk} with model.head.num_classes = {classes}: only top {metric.topk} is computed"
        )


def _check_not_replaced(batch: Any) -> None:
    corrupt = [name for data_sample in batch["data_samples"] for name in data_sample.get("corrupt", ())]
    if corrupt:
        raise DataError(f"images of the test set cannot be read: {'; '.join(corrupt)}: repair or remove them")
