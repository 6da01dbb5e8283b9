"""Corrupt images in training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.dist import all_gather_object, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from proteus.compat import is_resuming
from proteus.engine.hooks.save_on_signal import save_before_stop
from proteus.registry import HOOKS
from proteus.structures import UserError
from proteus.utils.argument_checks import check_number, check_whole


class CorruptProxySetError(UserError):
    """More images are corrupt than the run allows."""


@HOOKS.register_module()
class CorruptImageHook(Hook):
    """Log every corrupt image once and their number at the end, and stop a run with too many.

    Before it stops, a run saves a checkpoint. A run resumed from that one starts counting at zero, since the images may
    have been repaired.

    Args:
        max_share: Largest fraction of the proxy set that may be corrupt.
        interval: Iterations between exchanges among ranks; a single process logs in every iteration.
        few: Number of corrupt images that is allowed in any case: in a small proxy set one may exceed ``max_share``.

    Raises:
        CorruptProxySetError: From ``after_train_iter`` and ``add``, on every rank at the same time.
    """

    priority = "LOW"

    def __init__(self, max_share: float = 0.01, interval: int = 50, few: int = 3) -> None:
        self.max_share = check_number("max_share", max_share, 0, 1)
        self.interval = check_whole("interval", interval)
        self.few = check_whole("few", few, 0)
        self.named: set[str] = set()
        self._new: set[str] = set()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Collect the corrupt images that the batch reports."""
        self._new |= corrupt_in(data_batch)
        if get_world_size() == 1 or self.every_n_train_iters(runner, self.interval):
            self._exchange(runner, runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        """Log the number of corrupt images."""
        self._exchange(runner)
        if self.named:
            runner.logger.warning(f"{self._count(runner)} were corrupt and were replaced (listed above)")

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Store the names, so that a resumed run continues the count."""
        checkpoint["corrupt_images"] = sorted(self.named | self._new)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restore the names of a resumed run; another run's images are not this one's."""
        if is_resuming(runner):
            self.named.update(checkpoint.get("corrupt_images", ()))

    def add(self, runner: Runner, names: Iterable[str]) -> None:
        """Count images that were replaced before training; all ranks call this together."""
        self._new.update(names)
        self._exchange(runner)

    def _exchange(self, runner: Runner, iteration: int | None = None) -> None:
        """Log the images that any rank has met since the last call; save ``iteration``, if given, before stopping."""
        found = set().union(*all_gather_object(self._new)) - self.named
        self._new.clear()
        for name in sorted(found):
            runner.logger.warning(f"unreadable image replaced: {name}")
        self.named |= found
        share = self.max_share * len(runner.train_dataloader.dataset)
        if found and len(self.named) > max(share, self.few):
            limit = f"{self.max_share:.1%}" if share > self.few else str(self.few)
            problem = f"{self._count(runner)} are corrupt, more than {limit} (listed above)"
            self.named.clear()  # the saved checkpoint must not hold what the user repairs
            saved = None if iteration is None else save_before_stop(runner, iteration)
            raise CorruptProxySetError(
                f"{problem}: repair or remove them, or raise default_hooks.corrupt_images.max_share"
                + (f"; then resume with --resume ({saved} is saved)" if saved else "")
            )

    def _count(self, runner: Runner) -> str:
        return f"{len(self.named)} of {len(runner.train_dataloader.dataset)} images of the proxy set"


def corrupt_in(batch: Any) -> set[str]:
    """Return the names of the images of a batch that were replaced."""
    data_samples = batch.get("data_samples", ()) if isinstance(batch, Mapping) else ()
    names: set[str] = set()
    for data_sample in data_samples:
        # Data sets that do not replace images do not report any.
        found = data_sample.get("corrupt") if isinstance(data_sample, BaseDataElement) else None
        names.update(found if isinstance(found, list) else ())
    return names


def count_corrupt(runner: Runner, names: Iterable[str]) -> None:
    """Name and count images that were replaced before training, if the run counts them; all ranks call this together.

    Raises:
        CorruptProxySetError: With those that are known, too many images of the proxy set are corrupt; on every rank.
    """
    for hook in runner.hooks:
        if isinstance(hook, CorruptImageHook):
            hook.add(runner, names)
