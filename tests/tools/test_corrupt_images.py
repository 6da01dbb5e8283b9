from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from runs import log_lines, options, tool, trained, weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def damaged(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The proxy set with a truncated image and a file that only looks like an image: 2 of 24."""
    folder = tmp_path_factory.mktemp("damaged") / "images"
    shutil.copytree(place / "images", folder)
    cut = folder / "a/b/001.jpg"
    cut.write_bytes(cut.read_bytes()[:600])
    (folder / "c/006.png").write_text("<html>404</html>")
    return folder


def test_named_once_replaced_and_counted(config: Path, damaged: Path, tmp_path: Path) -> None:
    """The same whether one process meets them or two."""
    values = {
        "train_dataloader.dataset.data_root": damaged,
        "default_hooks.corrupt_images.max_share": 0.1,
        "default_hooks.corrupt_images.interval": 2,
        "train_dataloader.sampler.repeats": 1,
        "train_cfg.max_iters": 4,  # every image once, and the first third again
        "optim_wrapper.optimizer.eps": 1e-6,
    }
    one = trained("train.py", config, "--work-dir", tmp_path / "1", *options(values))
    two = trained(
        "train.py",
        config,
        "--work-dir",
        tmp_path / "2",
        *options({**values, "train_dataloader.batch_size": 4}),
        ranks=2,
    )
    for output in (one, two):
        for name in ("a/b/001.jpg", "c/006.png"):
            assert output.count(f"unreadable image replaced: {damaged / name}") == 1
        assert output.count("2 of 24 images of the proxy set were corrupt and were replaced") == 1
        assert len(log_lines(output)) == 4
    alone, together = weights(tmp_path / "1/iter_4.pth"), weights(tmp_path / "2/iter_4.pth")
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=1e-5)


def test_too_many_stop_the_run_on_every_rank(config: Path, damaged: Path, tmp_path: Path) -> None:
    values = options(
        {
            "train_dataloader.dataset.data_root": damaged,
            "default_hooks.corrupt_images.interval": 2,
            "default_hooks.corrupt_images.few": 0,
            "train_dataloader.sampler.repeats": 1,
        }
    )
    done = tool("train.py", config, "--work-dir", tmp_path, *values, ranks=2)
    assert done.returncode != 0
    assert "24 images of the proxy set are corrupt, more than 1.0%" in done.stderr
    assert "default_hooks.corrupt_images.max_share" in done.stderr
    assert len(log_lines(done.stdout + done.stderr)) < 5
    assert not (tmp_path / "student.safetensors").exists()
