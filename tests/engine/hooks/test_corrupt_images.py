from collections.abc import Callable
from pathlib import Path

import pytest
from data_samples import data_samples
from mmengine.runner import Runner

from proteus.compat import checkpoint_of, set_checkpoint
from proteus.engine import CorruptImageHook
from proteus.engine.hooks import CorruptProxySetError


@pytest.fixture
def runner(make_runner: Callable[..., Runner]) -> Runner:
    made = make_runner(default_hooks__checkpoint=None)  # which saves in a run only
    made._train_loop = made.build_train_loop(made._train_loop)
    return made


def batch(*names: str) -> dict:
    return {"data_samples": data_samples(*({"corrupt": [name]} for name in names), {"corrupt": []})}


def test_the_share_is_of_images_not_of_views(runner: Runner) -> None:
    hook = CorruptImageHook(max_share=2 / 16, few=0)
    for _ in range(20):
        hook.after_train_iter(runner, 0, batch("a.jpg (cut)", "b.jpg (cut)"))
    assert hook.named == {"a.jpg (cut)", "b.jpg (cut)"}
    with pytest.raises(
        CorruptProxySetError, match=r"3 of 16 images .* more than 12\.5%.*hooks\.corrupt_images\.max_share"
    ):
        hook.after_train_iter(runner, 0, batch("c.jpg (cut)"))


def test_a_resumed_run_counts_on_and_one_with_load_from_does_not(runner: Runner) -> None:
    hook, checkpoint = CorruptImageHook(max_share=0.1, few=0), {}
    hook.after_train_iter(runner, 0, batch("a.jpg"))
    hook.before_save_checkpoint(runner, checkpoint)
    other = CorruptImageHook(max_share=0.1, few=0)
    other.after_load_checkpoint(runner, checkpoint)
    assert other.named == set()
    set_checkpoint(runner, None, resume=True)
    resumed = CorruptImageHook(max_share=0.1, few=0)
    resumed.after_load_checkpoint(runner, checkpoint)
    resumed.after_train_iter(runner, 0, batch("a.jpg"))
    with pytest.raises(CorruptProxySetError, match="2 of 16"):
        resumed.after_train_iter(runner, 0, batch("b.jpg"))


def test_an_older_checkpoint_names_none(runner: Runner) -> None:
    hook = CorruptImageHook()
    hook.after_load_checkpoint(runner, {})
    assert hook.named == set()


def test_a_few_are_allowed_in_a_small_set(runner: Runner) -> None:
    hook = CorruptImageHook(max_share=0.01)
    hook.after_train_iter(runner, 0, batch("a.jpg", "b.jpg", "c.jpg"))
    with pytest.raises(CorruptProxySetError, match=r"4 of 16 images .* are corrupt, more than 3 \(listed above\)"):
        hook.after_train_iter(runner, 0, batch("d.jpg"))


def test_a_run_that_stops_can_be_resumed_after_a_repair(make_runner: Callable[..., Runner], tmp_path: Path) -> None:
    broken = sorted((tmp_path / "images").rglob("*.*"))[:4]
    contents = [path.read_bytes() for path in broken]
    for path in broken:
        path.write_bytes(b"")
    limit = {"default_hooks__online_eval": None, "train_cfg__max_iters": 6, "train_dataloader__sampler__repeats": 1}
    with pytest.raises(CorruptProxySetError, match=r"4 of 16 .*; then resume with --resume \(.*iter_2\.pth is saved\)"):
        make_runner(**limit).train()
    for path, content in zip(broken, contents, strict=True):
        path.write_bytes(content)
    resumed = make_runner(resume=True, **limit)
    resumed.train()
    assert str(checkpoint_of(resumed)).endswith("iter_2.pth")
    assert resumed.iter == 6
    assert not next(hook for hook in resumed.hooks if isinstance(hook, CorruptImageHook)).named
