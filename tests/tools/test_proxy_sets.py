"""Merged, packed, single and partial sets in real runs, and a config of the paper's figure 6."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from runs import ROOT, log_lines, options, tool, trained, weights

pytestmark = pytest.mark.slow

MERGE = ROOT / "configs/proteus/proxy_sets/vit-s_dinov2-b_imagenet-merge.py"
MERGED = """
train_dataloader["num_workers"] = 2
train_dataloader["sampler"] = dict(repeats=1)
train_dataloader["dataset"] = dict(
    _delete_=True,
    type="ConcatProxySet",
    pipeline=train_pipeline,
    repeats=dict(shards=1.5),
    datasets=dict(
        part=dict(type="ImageFolder", data_root="{place}/images", {part}),
        shards=dict(type="WebShards", data_root="{place}/shards"),
        crops=dict(type="SingleImage", picture="{place}/images/a/b/001.jpg", length=20, size=64),
    ),
)
train_cfg.update(max_iters=4)
default_hooks["checkpoint"].update(interval=2)
"""


@pytest.fixture(scope="module")
def shards(place: Path) -> Path:
    output = trained("pack_shards.py", place / "images", place / "shards", "--per-shard", 7, "--workers", 2)
    assert "24 images in 4 shards" in output
    assert "4/4" in output
    return place / "shards"


@pytest.fixture(scope="module")
def merged(place: Path, config: Path, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``run.py`` and the work directory ``unbroken`` of its run."""
    folder = tmp_path_factory.mktemp("merged")
    more = MERGED.format(place=place, part="images_per_class=0.5, subset_seed=1")
    (folder / "run.py").write_text(config.read_text() + more)
    (folder / "log.txt").write_text(trained("train.py", folder / "run.py", "--work-dir", folder / "unbroken"))
    return folder


def test_the_composition_is_logged_once(merged: Path, place: Path) -> None:
    log = (merged / "log.txt").read_text()
    assert log.count("proxy set: ConcatProxySet: 68 images an epoch, from 3 sets") == 1
    assert f"17.6%  part: ImageFolder {place}/images: 12 images of 24 (images_per_class=0.5, subset_seed=1)" in log
    assert f"52.9%  shards (x 1.5): WebShards {place}/shards: 24 images" in log
    assert "29.4%  crops: SingleImage" in log
    assert len(log_lines(log)) == 4


def test_resumed_runs_and_two_ranks_see_what_the_unbroken_one_saw(merged: Path, tmp_path: Path) -> None:
    wanted = weights(merged / "unbroken/iter_4.pth")
    half = merged / "unbroken/iter_2.pth"
    output = trained("train.py", merged / "run.py", "--work-dir", tmp_path / "resumed", "--resume", half)
    assert len(log_lines(output)) == 2
    found = weights(tmp_path / "resumed/iter_4.pth")
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    values = options({"train_dataloader.batch_size": 4, "optim_wrapper.optimizer.eps": 1e-6})
    trained("train.py", merged / "run.py", "--work-dir", tmp_path / "two", *values, ranks=2)
    one = options({"optim_wrapper.optimizer.eps": 1e-6})
    trained("train.py", merged / "run.py", "--work-dir", tmp_path / "one", *one)
    together, alone = weights(tmp_path / "two/iter_4.pth"), weights(tmp_path / "one/iter_4.pth")
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=1e-5)


def test_the_list_next_to_the_checkpoint_repeats_the_run(
    merged: Path, config: Path, place: Path, tmp_path: Path
) -> None:
    written = merged / "unbroken/proxy_set.part.txt"
    more = MERGED.format(place=place, part=f'list_file="{written}"')
    (tmp_path / "again.py").write_text(config.read_text() + more)
    trained("train.py", tmp_path / "again.py", "--work-dir", tmp_path / "run")
    assert (tmp_path / "run/proxy_set.part.txt").read_text() == written.read_text()
    found = weights(tmp_path / "run/iter_4.pth")
    assert all(torch.equal(found[name], value) for name, value in weights(merged / "unbroken/iter_4.pth").items())


def test_a_part_of_a_folder_is_listed(config: Path, place: Path, tmp_path: Path) -> None:
    values = {"train_dataloader.dataset.images_per_class": 0.5, "train_cfg.max_iters": 1}
    output = trained("train.py", config, "--work-dir", tmp_path, *options(values))
    assert output.count(f"proxy set: ImageFolder {place}/images: 12 images of 24 (images_per_class=0.5") == 1
    listed = (tmp_path / "proxy_set.txt").read_text().splitlines()[1:]
    assert len(listed) == 12
    assert all((place / "images" / name).is_file() for name in listed)
    trained("train.py", config, "--work-dir", tmp_path / "whole", *options({"train_cfg.max_iters": 1}))
    assert not list((tmp_path / "whole").glob("proxy_set*"))


def test_a_truncated_shard_is_named_and_counted_in_a_run(
    shards: Path, config: Path, place: Path, tmp_path: Path
) -> None:
    shutil.copytree(shards, tmp_path / "shards")
    cut = tmp_path / "shards/00001.tar"
    cut.write_bytes(cut.read_bytes()[:4000])
    more = (
        f'train_dataloader["dataset"] = dict(_delete_=True, type="WebShards", data_root="{tmp_path}/shards", '
        "pipeline=train_pipeline)\n"
        'train_dataloader["sampler"] = dict(repeats=1)\n'
        'default_hooks["corrupt_images"] = dict(max_share=0.5)\n'
    )
    (tmp_path / "run.py").write_text(config.read_text() + more)
    output = trained("train.py", tmp_path / "run.py", "--work-dir", tmp_path / "run")
    assert f"{cut} is truncated: 4,000 of" in output
    replaced = output.count("unreadable image replaced: ")
    assert 0 < replaced <= 7
    assert f"{replaced} of its 7 images are corrupt" in output
    assert f"{replaced} of 24 images of the proxy set were corrupt and were replaced" in output


def test_a_merged_set_can_be_left_out_and_another_misspelt(tmp_path: Path) -> None:
    key = "train_dataloader.dataset.datasets"
    output = trained("train.py", MERGE, "--check", *options({f"{key}.cifar10": None}))
    assert "375,300 iterations" in output
    assert "data/cifar100/train" in output
    assert "data/cifar10/train" not in output
    done = tool("train.py", MERGE, "--check", *options({f"{key}.cub.images_per_clas": 0.5}))
    assert done.returncode == 2
    assert f"{key}.cub.images_per_clas" in done.stderr
    assert "'images_per_class'" in done.stderr


def test_packing_refuses_in_a_sentence(place: Path, shards: Path, tmp_path: Path) -> None:
    for arguments, message in {
        (tmp_path / "nowhere", tmp_path / "out"): "no such folder",
        (place / "images", shards, "--short-side", 32): "with other settings (short_side=None",
    }.items():
        done = tool("pack_shards.py", *arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
