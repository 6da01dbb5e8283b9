"""What must fit in a segmentation model before it is trained or tested."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from proteus.evaluation.metrics.checked import check_metrics_finite
from proteus.models.segmentor_widths import check_widths, heads
from proteus.registry import HOOKS
from proteus.structures import DataError

_NO_LABEL = (
    ": no pixel of the masks has a label of a class; check that they hold class numbers and not only the ignored label "
    "(255, or 0 with reduce_zero_label)"
)


@HOOKS.register_module()
class SegmentorCheckHook(Hook):
    """Before the first image is read, compare the widths of backbone, neck and heads, and the numbers of classes.

    Raises:
        DataError: From ``before_run``: a neck or head does not take what the backbone gives. From ``before_train``,
            ``before_val`` and ``before_test``: a head and the data have different numbers of classes. From
            ``after_val_epoch`` and ``after_test_epoch``: a figure is NaN, as where no pixel has a label that counts.
    """

    priority = "VERY_HIGH"

    def before_run(self, runner: Runner) -> None:
        """Compare widths."""
        check_widths(_segmentor(runner))

    def before_train(self, runner: Runner) -> None:
        """Compare with the training set."""
        _compare_classes(runner, "train_dataloader", runner.train_loop.dataloader)

    def before_val(self, runner: Runner) -> None:
        """Compare with the validation set."""
        _compare_classes(runner, "val_dataloader", runner.val_loop.dataloader)

    def before_test(self, runner: Runner) -> None:
        """Compare with the test set."""
        _compare_classes(runner, "test_dataloader", runner.test_loop.dataloader)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Refuse metrics without a valid pixel."""
        check_metrics_finite(metrics or {}, "val_evaluator", _NO_LABEL)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Refuse metrics without a valid pixel."""
        check_metrics_finite(metrics or {}, "test_evaluator", _NO_LABEL)


def _segmentor(runner: Runner) -> Any:
    model: Any = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _compare_classes(runner: Runner, key: str, loader: Any) -> None:
    classes = getattr(loader.dataset, "metainfo", {}).get("classes")
    for name, head in heads(_segmentor(runner)):
        if classes is not None and getattr(head, "num_classes", len(classes)) != len(classes):
            raise DataError(
                f"{name}.num_classes = {head.num_classes}, but {key}.dataset has {len(classes)} classes: write "
                f"{name}.num_classes={len(classes)}"
            )
