"""What must fit before a classifier's figures mean something."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from proteus.registry import HOOKS
from proteus.structures import DataError


@HOOKS.register_module()
class ClassifierCheckHook(Hook):
    """Before the first image is read, compare backbone, head and data; never test on a replaced image.

    It is for mmpretrain's ``ImageClassifier`` with a backbone of ours. In training a corrupt image is replaced and
    counted (``CorruptImageHook``); in a test set that would change what the accuracy is measured on.

    Raises:
        DataError: From ``before_run``: the head does not take the backbone's width. From ``before_train``,
            ``before_val`` and ``before_test``: numbers of classes differ. From ``after_val_iter`` and
            ``after_test_iter``: an image could not be read.
    """

    priority = "VERY_HIGH"

    def before_run(self, runner: Runner) -> None:
        """Compare the widths of backbone, neck and head."""
        model = _classifier(runner)
        width, taken = getattr(model.backbone, "embed_dim", None), getattr(model.head, "in_channels", None)
        if width is None or taken is None:
            return
        pool = getattr(model.neck, "pool", "cls")
        width *= 2 if pool == "cls+avg" else 1
        if width != taken:
            raise DataError(
                f"model.head.in_channels = {taken}, but the backbone gives {width} at model.neck.pool = {pool!r}: "
                f"write model.head.in_channels={width}"
            )

    def before_train(self, runner: Runner) -> None:
        """Compare with the training set."""
        _compare_classes(runner, "train_dataloader", runner.train_loop.dataloader)

    def before_val(self, runner: Runner) -> None:
        """Compare with the validation set."""
        _compare_classes(runner, "val_dataloader", runner.val_loop.dataloader)

    def before_test(self, runner: Runner) -> None:
        """Compare with the test set."""
        _compare_classes(runner, "test_dataloader", runner.test_loop.dataloader)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Refuse a batch with a replaced image."""
        _refuse_replaced(data_batch)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Refuse a batch with a replaced image."""
        _refuse_replaced(data_batch)


def _classifier(runner: Runner) -> Any:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _compare_classes(runner: Runner, key: str, loader: Any) -> None:
    model = _classifier(runner)
    counts = {
        "model.head.num_classes": getattr(model.head, "num_classes", None),
        "model.head.loss.num_classes": getattr(getattr(model.head, "loss_module", None), "num_classes", None),
        "model.data_preprocessor.num_classes": getattr(model.data_preprocessor, "num_classes", None),
        f"the folders of {key}.dataset": len(getattr(loader.dataset, "classes_found", ())) or None,
    }
    known = {name: count for name, count in counts.items() if count is not None}
    if len(set(known.values())) > 1:
        told = ", ".join(f"{name} = {count}" for name, count in known.items())
        raise DataError(f"numbers of classes differ: {told}; write the same number everywhere")


def _refuse_replaced(batch: Any) -> None:
    corrupt = [name for data_sample in batch["data_samples"] for name in data_sample.get("corrupt", ())]
    if corrupt:
        raise DataError(f"images of the test set cannot be read: {'; '.join(corrupt)}: mend or remove them")
