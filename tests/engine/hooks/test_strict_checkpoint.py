from collections.abc import Callable

import pytest
import torch
from mmengine.runner import Runner

from proteus.checkpoints import CheckpointError
from proteus.engine import StrictCheckpointHook


def test_only_what_fits_is_loaded(make_runner: Callable[..., Runner]) -> None:
    runner = make_runner()
    state = runner.model.state_dict()
    hook = StrictCheckpointHook()
    hook.after_load_checkpoint(runner, {"state_dict": state})
    hook.after_load_checkpoint(runner, state)
    head = "objectives.token.head.1.weight"
    spoilt = {
        "other shape": {**state, head: torch.zeros(3, 3)},
        "missing": {key: value for key, value in state.items() if key != head},
        "not in the model": {**state, "neck.weight": torch.zeros(1)},
    }
    for words, wrong in spoilt.items():
        with pytest.raises(CheckpointError, match=words):
            hook.after_load_checkpoint(runner, {"state_dict": wrong})
