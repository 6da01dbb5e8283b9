"""The classifier of a teacher that was adapted to a task."""

from __future__ import annotations

from pathlib import Path

from proteus.checkpoints import CheckpointError, load_strictly, read_state_dict
from proteus.models.heads import LinearClassifier
from proteus.registry import MODELS

_STEM = "objectives.task.head."


@MODELS.register_module()
class TaskClassifier(LinearClassifier):
    """The head that a supervised run of the objective called ``task`` trained upon the cls token.

    Args:
        in_dim: Width of the backbone's tokens; the teacher fills it in.
        num_classes: Number of classes.
        checkpoint: What ``adapt`` wrote, or a checkpoint of ``teacher_finetune``.

    Raises:
        CheckpointError: The file holds no such head, or one of another size.
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
                f"{checkpoint} holds no {_STEM}weight and bias: give what `python -m "
                "projects.task_oriented_transfer.adapt` wrote, or a checkpoint of teacher_finetune.py"
            )
        if head["weight"].shape != self.linear.weight.shape:
            classes, width = [*head["weight"].shape, "?", "?"][:2]
            raise CheckpointError(
                f"{checkpoint} holds a head of {classes} classes upon width {width}, and the config's is of "
                f"{self.num_classes} upon {self.linear.in_features}: write num_classes={classes}, and the backbone "
                "that was adapted"
            )
        load_strictly(self.linear, head, checkpoint)
