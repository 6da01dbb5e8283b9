"""What a run leaves is tested in tests/tools/test_linear_probe.py; here is what it refuses."""

from types import SimpleNamespace

import pytest
from torch import nn

from proteus.engine import BestHeadHook


def test_another_model_is_refused() -> None:
    hook = BestHeadHook(by_epoch=False, interval=5)
    with pytest.raises(ValueError, match="type='LinearProbe', not Linear: write 'AtomicCheckpointHook'"):
        hook.before_train(SimpleNamespace(model=nn.Linear(2, 2)))


def test_epochs_are_refused() -> None:
    with pytest.raises(ValueError, match="by_epoch=False"):
        BestHeadHook(by_epoch=True)
