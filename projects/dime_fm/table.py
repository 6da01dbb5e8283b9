"""The table that a run ends with."""

from __future__ import annotations

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from proteus.registry import HOOKS


@HOOKS.register_module()
class BeforeAfterHook(Hook):
    """Validate before the first step and after the last, and write both results into a table: in the log, and as
    ``table.md`` in the work directory.

    A run that is resumed has no figures from before its first step; the table says so.

    Args:
        note: A sentence below the table: what the teacher is, on what was validated.
    """

    # Before the first step all other hooks are ready; after the last they have written what they write.
    priority = "LOWEST"

    def __init__(self, note: str = "") -> None:
        self.note = note
        self.before: dict[str, float] = {}
        self.last: tuple[int, dict[str, float]] | None = None

    def before_train(self, runner: Runner) -> None:
        """Validate the student as it starts."""
        if runner.iter == 0:
            runner.val_loop.run()
            runner.model.train()
            self.before = self.last[1] if self.last else {}

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep what was found: MMEngine validates after the last step of its own accord."""
        self.last = runner.iter, dict(metrics or {})

    def after_train(self, runner: Runner) -> None:
        """Write the table, and validate the student as it ends unless that has just been done."""
        if self.last is None or self.last[0] != runner.iter:
            runner.val_loop.run()
            runner.model.train()
        assert self.last is not None
        after = self.last[1]
        if is_main_process():
            text = table(self.before, after, runner.iter, self.note)
            (Path(runner.work_dir) / "table.md").write_text(text, encoding="utf-8")
            runner.logger.info(f"on held-out images and sentences:\n{text}")


def table(before: dict[str, float], after: dict[str, float], iterations: int, note: str) -> str:
    """Write two results side by side, in Markdown."""
    rows = [f"| | before | after {iterations:,} iterations |", "|---|---|---|"]
    for name, value in after.items():
        rows.append(f"| {name} | {f'{before[name]:.3f}' if name in before else 'not measured'} | {value:.3f} |")
    return "\n".join([*rows, *(["", note] if note else []), ""])
