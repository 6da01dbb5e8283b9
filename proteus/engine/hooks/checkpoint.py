"""Checkpoints that a kill or a full disk cannot damage."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process, master_only
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

from proteus.checkpoints import CheckpointError
from proteus.compat import checkpoint_of, is_resuming, loops_of
from proteus.engine.runner.histories import bound_histories
from proteus.engine.runner.resume import choose_checkpoint, name_pattern
from proteus.registry import HOOKS
from proteus.structures import FullDiskError, UserError
from proteus.utils import atomic_path, write_text


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` with a complete checkpoint on disk at every moment.

    A checkpoint and ``last_checkpoint`` are written under a temporary name, flushed and renamed; only then are
    old checkpoints beyond ``max_keep_ckpts`` and the previous best one removed. A resumed run takes the newest complete
    checkpoint of its work directory, which may have been moved, and logs which one.

    Before anything is saved, ``before_save(runner)`` of every hook that has it is called; it can raise, on every rank,
    to prevent the save.

    A checkpoint names the files that the resumed run removes. It may come from anybody, so only names of this run's
    own checkpoints count, and only in its folder.

    Args:
        **checkpoint: As for MMEngine's ``CheckpointHook``.

    Raises:
        ValueError: ``interval`` or ``max_keep_ckpts`` is neither positive nor -1.
    """

    best_ckpt_path: str | None
    best_ckpt_path_dict: dict[str, str | None]

    def __init__(self, **checkpoint: Any) -> None:
        super().__init__(**checkpoint)
        for name, meaning in (("interval", "none but the last"), ("max_keep_ckpts", "all")):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or (value < 1 and value != -1):
                raise ValueError(
                    f"AtomicCheckpointHook.{name}={value!r}: write a whole number above 0, or -1 for {meaning}"
                )

    def before_run(self, runner: Runner) -> None:
        """Check the lengths that the run was given, and choose the checkpoint to resume from.

        Raises:
            UserError: The run has no iterations, validates every 0, or ``save_best`` names no metric of it.
            CheckpointError: The run should resume, and every checkpoint is damaged.
        """
        if isinstance(loops_of(runner)[0], BaseLoop):
            _check_lengths(runner)
            self._check_best(runner)
        self.choose(runner)

    def before_train(self, runner: Runner) -> None:
        """Remove leftovers of killed runs, then do as MMEngine does.

        Raises:
            CheckpointError: The run resumes, and the numbers of the checkpoints to keep are not numbers.
        """
        self._check_ids(runner)
        super().before_train(runner)
        if self._local:
            for name in self._leftovers(runner):
                self._remove(str(Path(self.out_dir) / name))
        if self.save_best is not None:
            self._move_best()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Drop the part of a checkpoint that MMEngine would run as Python code."""
        if isinstance(checkpoint.get("meta"), dict):
            checkpoint["meta"].pop("config", None)

    def choose(self, runner: Runner, otherwise: str | None = None) -> None:
        """Choose the checkpoint for a runner with ``resume``, unless that was done before.

        Args:
            runner: The runner, before it has loaded anything.
            otherwise: Weights to start from if no checkpoint exists.
        """
        choose_checkpoint(runner, self.filename_tmpl, self._folder(runner), otherwise)

    def save(self, runner: Runner, iteration: int) -> str:
        """Save an extra checkpoint now; returns its path."""
        self._save_checkpoint_with_step(runner, iteration, {"epoch": runner.epoch, "iter": iteration})
        return str(self.last_ckpt)

    @property
    def _local(self) -> bool:
        return isinstance(self.file_backend, LocalBackend)

    def _folder(self, runner: Runner) -> Path:
        """Folder of the checkpoints; ``out_dir`` is completed when training begins."""
        if self.out_dir is None or self.out_dir == runner.work_dir:
            return Path(runner.work_dir)
        return Path(self.out_dir) / Path(runner.work_dir).name

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict[str, Any], superseded: Sequence[str] = ()
    ) -> None:
        runner.call_hook("before_save")
        outdated, record = [*self._rotate(runner, step), *superseded], Path(runner.work_dir) / "last_checkpoint"
        # In case the run is killed before it removes them.
        runner.message_hub.update_info("superseded_ckpts", [Path(path).name for path in outdated])
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        self._save(
            runner,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            **self.args,
        )
        _on_main(lambda: write_text(record, str(self.last_ckpt)), record)
        for path in outdated:
            self._remove(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        if not self.save_best:
            return
        absent = [key for key in self.key_indicators if key != "auto" and key not in metrics]
        if absent:
            raise UserError(
                f"default_hooks.checkpoint.save_best: unknown metric {absent[0]!r}; choose from: {', '.join(metrics)}"
            )
        runner.call_hook("before_save")
        if "auto" in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        step = runner.epoch if self.by_epoch else runner.iter
        meta = {"epoch": runner.epoch, "iter": runner.iter}
        hub, before, single = runner.message_hub, self._best_paths(), len(self.key_indicators) == 1
        for key, rule in zip(self.key_indicators, self.rules, strict=True):
            ending = "" if single else f"_{key}"
            best = hub.get_info(f"best_score{ending}", self.init_value_map[rule])
            if metrics[key] is None or not self.is_better_than[key](metrics[key], best):
                continue
            name = f"best_{key}_{self.filename_tmpl.format(step)}".replace("/", "_")
            path = self.file_backend.join_path(self.out_dir, name)
            hub.update_info(f"best_score{ending}", metrics[key])
            hub.update_info(f"best_ckpt{ending}", path)
            if single:
                self.best_ckpt_path = path
            else:
                self.best_ckpt_path_dict[key] = path
            self._save(runner, name, save_optimizer=False, save_param_scheduler=False, meta=dict(meta), by_epoch=False)
            runner.logger.info(f"best checkpoint so far, {key} {metrics[key]:0.4f}: {path}")
        outdated = sorted(set(before) - set(self._best_paths()))
        if set(self._best_paths()) != set(before) and self.last_ckpt is not None:
            # Once more, so that a resumed run knows the best score and its file.
            self._save_checkpoint_with_step(runner, step, meta, outdated)
        else:
            for path in outdated:
                self._remove(path)

    def _rotate(self, runner: Runner, step: int) -> list[str]:
        """Note a new checkpoint; returns those to be removed once it is on disk."""
        outdated: list[str] = []
        if self.max_keep_ckpts > 0 and (not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step):
            while len(self.keep_ckpt_ids) >= self.max_keep_ckpts:
                name = self.filename_tmpl.format(self.keep_ckpt_ids.popleft())
                outdated.append(self.file_backend.join_path(self.out_dir, name))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        return outdated

    def _save(self, runner: Runner, name: str, **content: Any) -> None:
        bound_histories(runner)

        def write() -> None:
            if not self._local:  # a remote backend puts an object as a whole
                remote = {"file_client_args": self.file_client_args, "backend_args": self.backend_args}
                runner.save_checkpoint(self.out_dir, name, **remote, **content)
                return
            with atomic_path(Path(self.out_dir) / name) as temporary:
                runner.save_checkpoint(str(temporary.parent), temporary.name, **content)

        _on_main(write, Path(self.out_dir) / name)

    @master_only
    def _remove(self, path: str) -> None:
        # Do not stop the run if a file is gone or cannot be removed.
        with suppress(OSError):
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)

    def _leftovers(self, runner: Runner) -> list[str]:
        """List leftovers of runs that were killed during a save or before removing an older checkpoint."""
        names = [entry.name for entry in Path(self.out_dir).glob(".*.tmp")]
        names = [name for name in names if re.fullmatch(r"\..+\.pth\..*-\d+\.tmp", name)]
        path = checkpoint_of(runner)
        if is_resuming(runner) and path and Path(path).parent == Path(self.out_dir):
            superseded = runner.message_hub.get_info("superseded_ckpts", [])
            names += [name for name in superseded if self._is_own(name)] if isinstance(superseded, list) else []
        return names

    def _is_own(self, name: Any) -> bool:
        """Whether this hook could have written a checkpoint of this name."""
        own = name_pattern(self.filename_tmpl)
        return isinstance(name, str) and re.fullmatch(rf"(best_[^/\\]+_)?{own}", name) is not None

    def _check_ids(self, runner: Runner) -> None:
        """Check what MMEngine puts into names of files to be removed."""
        ids = runner.message_hub.runtime_info.get("keep_ckpt_ids", [])
        if not isinstance(ids, list) or not all(type(each) is int and each >= 0 for each in ids):
            raise CheckpointError(
                f"{checkpoint_of(runner)} cannot be resumed from: message_hub.runtime_info.keep_ckpt_ids holds other "
                "things than whole numbers; resume from another checkpoint"
            )

    def _best_paths(self) -> list[str]:
        found = [getattr(self, "best_ckpt_path", None), *getattr(self, "best_ckpt_path_dict", {}).values()]
        return [str(path) for path in found if path]

    def _move_best(self) -> None:
        """Look for the best checkpoints of a resumed run in its folder, which may have been moved."""

        def here(path: Any) -> str | None:
            name = Path(path).name if isinstance(path, str) else None
            return self.file_backend.join_path(self.out_dir, name) if self._is_own(name) else None

        if len(self.key_indicators) == 1:
            self.best_ckpt_path = here(self.best_ckpt_path)
        else:
            self.best_ckpt_path_dict = {key: here(path) for key, path in self.best_ckpt_path_dict.items()}

    def _check_best(self, runner: Runner) -> None:
        """Check ``save_best`` against the evaluator's metrics, as far as their names are known before a validation."""
        if not self.save_best:
            return
        if loops_of(runner)[1] is None:
            raise UserError(
                "default_hooks.checkpoint.save_best needs a validation: write val_dataloader, val_cfg and "
                "val_evaluator, or save_best=None"
            )
        patterns = [pattern for metric in runner.val_evaluator.metrics for pattern in _names_of(metric)]
        for key in self.key_indicators:
            if key != "auto" and not any(fnmatchcase(key, pattern) for pattern in patterns):
                raise UserError(
                    f"default_hooks.checkpoint.save_best: unknown metric {key!r}; choose from: "
                    f"{', '.join(dict.fromkeys(patterns))}"
                )


def _names_of(metric: Any) -> list[str]:
    """Return the names that a metric reports, with ``*`` for unknown parts."""
    kinds = {"mIoU": ("mIoU", "mAcc"), "mDice": ("mDice", "mAcc"), "mFscore": ("mFscore", "mPrecision", "mRecall")}
    names: Sequence[str] = getattr(metric, "metric_names", ("*",))
    if type(metric).__name__ == "IoUMetric":  # mmseg's
        names = ["aAcc", *(name for kind in metric.metrics for name in kinds.get(kind, ("*",)))]
    return [f"{metric.prefix}/{name}" if metric.prefix else name for name in names]


def _on_main(write: Callable[[], None], path: Path) -> None:
    """Write on rank 0; if that fails, stop every rank with one line.

    Raises:
        FullDiskError: The disk is full.
        UserError: The folder or file cannot be written.
    """
    failure: list[Exception | None] = [None]
    if is_main_process():
        try:
            write()
        except FullDiskError:
            failure = [
                FullDiskError(
                    f"{path}: no space left on the disk; earlier checkpoints are intact: make room and resume with the "
                    "same command and --resume"
                )
            ]
        except OSError as error:
            failure = [UserError(f"{path}: cannot be written ({error.strerror or error})")]
    broadcast_object_list(failure)
    if failure[0] is not None:
        raise failure[0]


def _check_lengths(runner: Runner) -> None:
    loop = runner.train_loop
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    lengths = {"max_epochs": loop.max_epochs} if by_epoch else {"max_iters": loop.max_iters}
    if loops_of(runner)[1] is not None:
        lengths["val_interval"] = loop.val_interval
    for name, value in lengths.items():
        if value < 1:
            raise UserError(f"train_cfg.{name}={value}: write a whole number above 0")
