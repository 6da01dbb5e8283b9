"""One cycle of the learning rate, with a state that is data."""

from __future__ import annotations

from typing import Any

from mmengine.optim import OneCycleLR as _OneCycleLR

from proteus.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class OneCycleLR(_OneCycleLR):
    """MMEngine's, whose checkpoints can be opened without running code.

    MMEngine's own keeps a function in its state, so that a checkpoint of a run with it asks for code to be imported and
    is refused when it is read again. One peak ``eta_max`` holds for every parameter group: multipliers of the learning
    rate have no effect.

    Args:
        **schedule: As for MMEngine's ``OneCycleLR``.
    """

    def __init__(self, optimizer: Any, **schedule: Any) -> None:
        super().__init__(optimizer, **schedule)

    def state_dict(self) -> dict[str, Any]:
        """All but the optimizer and the function, which the constructor makes again."""
        return {key: value for key, value in super().state_dict().items() if key != "anneal_func"}
