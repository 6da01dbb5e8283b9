"""What must fit in a segmentation model before it is trained or tested."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from proteus.evaluation.metrics.checked import refuse_not_finite_figures
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
        refuse_not_finite_figures(metrics or {}, "val_evaluator", _NO_LABEL)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Refuse metrics without a valid pixel."""
        refuse_not_finite_figures(metrics or {}, "test_evaluator", _NO_LABEL)


def check_widths(model: nn.Module) -> None:
    """Compare the maps that a backbone of ours gives with what mmseg's ``Feature2Pyramid`` and heads take.

    Raises:
        DataError: Names the key and the value that fits.
    """
    widths = getattr(getattr(model, "backbone", None), "channels", None)
    neck = getattr(model, "neck", None)
    if widths is None:
        return
    if neck is not None:
        if type(neck).__name__ != "Feature2Pyramid":
            return
        taken, given = neck.upsample_2x[0].in_channels, set(widths)
        if given != {taken} or len(widths) != len(neck.rescales):
            raise DataError(
                f"model.neck takes {len(neck.rescales)} maps of width {taken}, and model.backbone gives "
                f"{list(widths)}: write model.neck.embed_dim={widths[0]}"
                + ("" if len(given) == 1 else ", or model.neck=None for a backbone whose maps shrink by themselves")
            )
    for key, head in _heads(model):
        transform, index = head.input_transform, head.in_index
        chosen = index if isinstance(index, (list, tuple)) else [index]
        if max(chosen) >= len(widths):
            raise DataError(f"{key}.in_index = {index}: model.backbone gives {len(widths)} maps (out_indices)")
        wanted = [widths[position] for position in chosen]
        taken = [head.in_channels] if isinstance(head.in_channels, int) else list(head.in_channels)
        if taken != ([sum(wanted)] if transform == "resize_concat" else wanted):
            value = wanted if transform else wanted[0]
            raise DataError(
                f"{key}.in_channels does not fit the maps of model.backbone: write {key}.in_channels={value}"
            )


def _heads(model: Any) -> list[tuple[str, Any]]:
    auxiliary = getattr(model, "auxiliary_head", None)
    several = isinstance(auxiliary, nn.ModuleList)
    others = enumerate(auxiliary) if several else [("", auxiliary)]  # type: ignore[arg-type]
    found = [("model.decode_head", getattr(model, "decode_head", None))]
    found += [(f"model.auxiliary_head.{number}".rstrip("."), head) for number, head in others]
    return [(key, head) for key, head in found if head is not None and hasattr(head, "in_index")]


def _segmentor(runner: Runner) -> Any:
    model: Any = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _compare_classes(runner: Runner, key: str, loader: Any) -> None:
    classes = getattr(loader.dataset, "metainfo", {}).get("classes")
    for name, head in _heads(_segmentor(runner)):
        if classes is not None and getattr(head, "num_classes", len(classes)) != len(classes):
            raise DataError(
                f"{name}.num_classes = {head.num_classes}, but {key}.dataset has {len(classes)} classes: write "
                f"{name}.num_classes={len(classes)}"
            )
