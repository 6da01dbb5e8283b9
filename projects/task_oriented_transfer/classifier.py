"""Classifier of a teacher adapted to a task."""

from __future__ import annotations

from pathlib import Path

from proteus.checkpoints import CheckpointError, load_strictly, read_state_dict
from proteus.models.heads import LinearClassifier
from proteus.registry import MODELS

_STEM = "objectives.task.head."


@MODELS.register_module()
class TaskClassifier(LinearClassifier):
    """Linear head on the cls token, from a supervised run with the objective ``task``.

    Args:
        in_dim: Width of the backbone's tokens; filled in by the teacher.
        num_classes: Number of classes.
        checkpoint: Output of ``adapt``, or a checkpoint of ``teacher_finetune``.

    Raises:
        CheckpointError: The file has no such head, or one of another size.
    """

    def __init__(self, in_dim: int, num_classes: int, checkpoint: str | Path | None = None) -> None:
        super().__init__(in_dim, num_classes, layers=1, avgpool=False, checkpoint=checkpoint)

    def load(self, checkpoint: str | Path) -> None:
        """Load the head.

        Raises:
            CheckpointError: See the class.
        """
        state = read_state_dict(checkpoint)
        head = {key.removeprefix(_STEM): value for key, value in state.items() if key.startswith(_STEM)}
        if set(head) != {"weight", "bias"}:
            raise CheckpointError(
                f"{checkpoint} has no {_STEM}weight and bias; name the output of `python -m "
                "projects.task_oriented_transfer.adapt`, or a checkpoint of teacher_finetune.py"
            )
        if head["weight"].shape != self.linear.weight.shape:
            classes, width = [*head["weight"].shape, "?", "?"][:2]
            raise CheckpointError(
                f"{checkpoint} has a head of {classes} classes on width {width}, but the config's has "
                f"{self.num_classes} on width {self.linear.in_features}: write num_classes={classes}, and the adapted "
                "backbone"
            )
        load_strictly(self.linear, head, checkpoint)
