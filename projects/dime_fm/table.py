"""Table of results before and after training."""

from __future__ import annotations

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from proteus.registry import HOOKS


@HOOKS.register_module()
class BeforeAfterHook(Hook):
    """Validate before the first and after the last step, and write both results as a table.

    The table is in the log, and in ``table.md`` in the work directory.

    In a resumed run the first column reads ``not measured``.

    Args:
        note: Sentence below the table, for example about the teacher.
    """

    # After all other hooks: they are ready before the first step, and have written their files after the last.
    priority = "LOWEST"

    def __init__(self, note: str = "") -> None:
        self.note = note
        self.before: dict[str, float] = {}
        self.last: tuple[int, dict[str, float]] | None = None

    def before_train(self, runner: Runner) -> None:
        """Validate the initial student."""
        if runner.iter == 0:
            runner.val_loop.run()
            runner.model.train()
            self.before = self.last[1] if self.last else {}

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep the result: MMEngine itself may validate after the last step."""
        self.last = runner.iter, dict(metrics or {})

    def after_train(self, runner: Runner) -> None:
        """Validate the final student, unless just done, and write the table."""
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
    """Format two results as a Markdown table."""
    rows = [f"| | before | after {iterations:,} iterations |", "|---|---|---|"]
    for name, value in after.items():
        rows.append(f"| {name} | {f'{before[name]:.3f}' if name in before else 'not measured'} | {value:.3f} |")
    return "\n".join([*rows, *(["", note] if note else []), ""])
