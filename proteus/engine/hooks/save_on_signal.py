"""Save a checkpoint when a signal stops a run."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from proteus.compat import is_resuming
from proteus.engine.hooks.checkpoint import AtomicCheckpointHook
from proteus.engine.runner.distributed import any_rank, max_over_ranks
from proteus.registry import HOOKS


class StoppedBySignal(SystemExit):
    """A signal ended a run after it saved a checkpoint; the exit status is 128 plus the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


@HOOKS.register_module()
class SaveOnSignalHook(Hook):
    """At SIGTERM, SIGUSR1 or Ctrl-C, finish the iteration, save a checkpoint and exit; a second one ends at once.

    Slurm sends SIGTERM some 30 seconds before SIGKILL (``--signal=USR1@120`` sends another signal, earlier). A run
    resumed from the checkpoint equals an uninterrupted one; it catches up on a validation that was due or running.
    The exit status is 128 plus the number of the signal: 143 for SIGTERM, 130 for Ctrl-C.

    A signal may reach one rank only. The ranks compare every ``patience`` seconds, at the same iteration; in between
    nothing waits. A run by epochs saves nothing within an epoch, since it could not be resumed there.

    Args:
        signals: Names of the signals.
        patience: With several ranks: about how many seconds may pass between a signal and the end of the last
            iteration.

    Raises:
        StoppedBySignal: From the run.
        ValueError: A signal is unknown, or ``patience`` is not positive.
    """

    # After the other hooks have seen the iteration, the checkpoint hook among them.
    priority = 99

    def __init__(self, signals: Sequence[str] = ("SIGTERM", "SIGINT", "SIGUSR1"), patience: float = 3.0) -> None:
        unknown = [name for name in signals if name not in signal.Signals.__members__]
        if unknown or isinstance(signals, str):
            raise ValueError(f"SaveOnSignalHook.signals={signals!r}: write names such as ('SIGTERM', 'SIGINT')")
        if not patience > 0:
            raise ValueError(f"SaveOnSignalHook.patience={patience!r}: write seconds, above 0")
        self.signals = [signal.Signals[name] for name in signals]
        self.patience = patience
        self.received = 0
        self.validation_due = False
        self._when = self._asked = 0.0
        self._count, self._wait = 0, 1
        self._process, self._several, self._validating = 0, False, False
        self._before: dict[signal.Signals, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Install the handlers; processes that are forked later, such as loader workers, ignore the signals."""
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning("signals are not handled: the run is not in the main thread")
            return
        self.received, self._count, self._wait = 0, 0, 1
        self._process, self._several = os.getpid(), get_world_size() > 1
        self._asked = time.monotonic()
        if not self._before:
            self._before = {number: signal.signal(number, self._receive) for number in self.signals}
            self._before[signal.SIGCHLD] = signal.getsignal(signal.SIGCHLD)

    def before_train_epoch(self, runner: Runner) -> None:
        """Run the validation that the stopped run missed."""
        if self.validation_due:
            self.validation_due = False
            if runner.val_loop is not None:
                runner.val_loop.run()
                _save(runner, runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Stop if any rank received a signal."""
        if self._agreed():
            self.validation_due = _validates(runner, runner.iter + 1)
            self.stop(runner, runner.iter + 1)

    def before_val_epoch(self, runner: Runner) -> None:
        """Remember that a validation is running."""
        self._validating = True

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stop during a validation in a single process only: ranks may have different numbers of batches."""
        if self.received and not self._several:
            self.stop(runner, runner.iter)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Stop after a validation."""
        self._validating = False
        if self._before and any_rank(bool(self.received)):
            self.stop(runner, runner.iter)

    def after_run(self, runner: Runner) -> None:
        """Restore the previous signal handlers."""
        self.close()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Store in the checkpoint which validation is still due."""
        checkpoint["validation_due"] = self.validation_due

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Read which validation is still due."""
        self.validation_due = bool(is_resuming(runner) and checkpoint.get("validation_due"))

    def close(self) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def lost_workers(self, runner: Runner) -> None:
        """Stop because the signal ended the data loader's workers too; return if no signal came."""
        if self.received:
            self.stop(runner, runner.iter, can_save=not self._several)

    def stop(self, runner: Runner, iteration: int, can_save: bool = True) -> NoReturn:
        """Save, and end the run.

        Raises:
            StoppedBySignal: Always.
        """
        if self._validating:
            self._validating, self.validation_due = False, True
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):  # it has swapped the average into the model
                    hook._swap_ema_parameters()
        saved = _save(runner, iteration) if can_save else None
        if saved is None:
            last = next((hook.last_ckpt for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
            saved = f"the last checkpoint is {last}" if last else "no checkpoint had been saved"
        else:
            saved = f"saved {saved}"
        number = max_over_ranks(self.received) if can_save else self.received
        runner.logger.warning(
            f"stopped by {signal.Signals(number).name} after iteration {iteration}; {saved}; resume with the same "
            "command and --resume"
        )
        self.close()
        raise StoppedBySignal(number)

    def _agreed(self) -> bool:
        if not self._several:
            return bool(self.received)
        self._count += 1
        if self._count < self._wait:
            return False
        now = time.monotonic()
        pace = (now - self._asked) / self._count
        self._count, self._asked = 0, now
        self._wait = max_over_ranks(max(1, min(50, int(self.patience / max(pace, 1e-6)))))
        return any_rank(bool(self.received))

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return
        now = time.monotonic()
        if not self.received:
            self.received, self._when = number, now
            # Loader workers that got the signal too end now; this must not interrupt the iteration.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        elif now - self._when > (3.0 if self._several else 0.2):
            # After torchrun has forwarded the signal that its processes already got from the terminal.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def save_before_stop(runner: Runner, iteration: int) -> str | None:
    """Save a checkpoint for a hook that ends the run after an iteration; all ranks call this together.

    A resumed run catches up on a validation that is due.

    Returns:
        Path of the checkpoint; None if the run saves none between epochs, or not at all.
    """
    for hook in runner.hooks:
        if isinstance(hook, SaveOnSignalHook):
            hook.validation_due = _validates(runner, iteration)
    return _save(runner, iteration)


def _save(runner: Runner, iteration: int) -> str | None:
    hook = next((hook for hook in runner.hooks if isinstance(hook, AtomicCheckpointHook)), None)
    if hook is None or hook.by_epoch or isinstance(runner.train_loop, EpochBasedTrainLoop):
        return None
    return hook.save(runner, iteration)


def _validates(runner: Runner, done: int) -> bool:
    """Whether MMEngine's loop validates after an iteration."""
    loop = runner.train_loop
    if runner.val_loop is None or done < loop.val_begin:
        return False
    return done % loop.val_interval == 0 or done == loop.max_iters
