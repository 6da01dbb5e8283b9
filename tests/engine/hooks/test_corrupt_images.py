from collections.abc import Callable

import pytest
from data_samples import data_samples
from mmengine.runner import Runner

from proteus.compat import set_checkpoint
from proteus.engine import CorruptImageHook
from proteus.engine.hooks import CorruptProxySetError


@pytest.fixture
def runner(make_runner: Callable[..., Runner]) -> Runner:
    made = make_runner()
    made._train_loop = made.build_train_loop(made._train_loop)
    return made


def batch(*names: str) -> dict:
    return {"data_samples": data_samples(*({"corrupt": [name]} for name in names), {"corrupt": []})}


def test_the_share_is_of_images_not_of_views(runner: Runner) -> None:
    hook = CorruptImageHook(max_share=2 / 16)
    for _ in range(20):
        hook.after_train_iter(runner, 0, batch("a.jpg (cut)", "b.jpg (cut)"))
    assert hook.named == {"a.jpg (cut)", "b.jpg (cut)"}
    with pytest.raises(
        CorruptProxySetError, match=r"3 of 16 images .* more than 12\.5%.*hooks\.corrupt_images\.max_share"
    ):
        hook.after_train_iter(runner, 0, batch("c.jpg (cut)"))


def test_a_resumed_run_counts_on_and_one_with_load_from_does_not(runner: Runner) -> None:
    hook, checkpoint = CorruptImageHook(max_share=0.1), {}
    hook.after_train_iter(runner, 0, batch("a.jpg"))
    hook.before_save_checkpoint(runner, checkpoint)
    other = CorruptImageHook(max_share=0.1)
    other.after_load_checkpoint(runner, checkpoint)
    assert other.named == set()
    set_checkpoint(runner, None, resume=True)
    resumed = CorruptImageHook(max_share=0.1)
    resumed.after_load_checkpoint(runner, checkpoint)
    resumed.after_train_iter(runner, 0, batch("a.jpg"))
    with pytest.raises(CorruptProxySetError, match="2 of 16"):
        resumed.after_train_iter(runner, 0, batch("b.jpg"))


def test_an_older_checkpoint_names_none(runner: Runner) -> None:
    hook = CorruptImageHook()
    hook.after_load_checkpoint(runner, {})
    assert hook.named == set()
