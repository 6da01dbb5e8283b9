"""A teacher with weights spread over two ranks gives the features of a teacher on one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from runs import trained
from torch import nn

from proteus.models import Teacher
from proteus.models.backbones import TimmBackbone, ViT
from proteus.models.teachers.sharding import blocks_of

TINY = dict(type="ViT", arch="tiny", img_size=56, embed_dim=24, depth=3, num_heads=3, interpolate_offset=0.0)

RANK = """
import os
import torch
import torch.distributed as dist
from proteus.engine.runner import leave_processes
from proteus.models import Teacher

rank = int(os.environ["RANK"])
dist.init_process_group("gloo")
tiny = dict(type="ViT", arch="tiny", img_size=56, embed_dim=24, depth=3, num_heads=3, interpolate_offset=0.0)
classifier = dict(type="LinearClassifier", num_classes=5, layers=2)
frozen = []
for options in ({}, {"shard": True}, {"dtype": "bfloat16"}, {"shard": True, "dtype": "bfloat16"}):
    torch.manual_seed(0)
    frozen.append(Teacher(backbone=dict(tiny), classifier=classifier, **options))
plain, shared, low, low_shared = frozen
assert (plain.sharded, shared.sharded) == (False, True)
with torch.random.fork_rng():
    torch.manual_seed(rank)  # different images on each rank
    batches = [torch.rand(count, 3, 56, 56) for count in (2, 3)]
for images in batches:
    for one, other, atol in ((shared, plain, 1e-5), (low_shared, low, 0.0)):
        found, wanted = one(images), other(images)
        torch.testing.assert_close(found.cls, wanted.cls, atol=atol, rtol=0)
        torch.testing.assert_close(found.patches, wanted.patches, atol=atol, rtol=0)
        (_, logits), (_, expected) = one.classify(images), other.classify(images)
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
        assert not found.patches.is_inference() and not found.patches.requires_grad
dinov3 = dict(type="TimmBackbone", arch="vit_small_patch16_dinov3", img_size=32, embed_dim=24, depth=3, num_heads=3)
for config in (tiny, dinov3):
    hidden = []
    for shard in (True, False):
        torch.manual_seed(0)
        fresh = Teacher(backbone=dict(config), shard=shard)  # its first pass is one for hidden states
        images = batches[0][..., : config["img_size"], : config["img_size"]]
        hidden.append(fresh.encode(images, hidden_states=True).hidden)
    assert len(hidden[0]) == 3
    for found, wanted in zip(*hidden, strict=True):
        torch.testing.assert_close(found.cls, wanted.cls, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.patches, wanted.patches, atol=1e-5, rtol=0)
block = shared.backbone.vit.blocks[0]
held = sum(p.to_local().numel() for p in block.parameters())
assert 0.4 < held / sum(p.numel() for p in block.parameters()) < 0.6, held
assert {p.dtype for p in low_shared.backbone.parameters()} == {torch.bfloat16}
try:
    shared.to_device(torch.device("cuda"))
except RuntimeError as error:
    assert "was sharded on cpu and cannot be moved to cuda" in str(error)
else:
    raise AssertionError("moved")
leave_processes(0)
"""


@pytest.mark.slow
def test_two_ranks_hold_half_of_it_each(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    trained(str(script), ranks=2)


def test_one_process_goes_without_and_says_so() -> None:
    said: list[str] = []
    listener = logging.Handler(logging.INFO)
    listener.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = MMLogger.get_current_instance()
    logger.addHandler(listener)
    torch.manual_seed(0)
    shared = Teacher(backbone={**TINY}, shard=True)
    logger.removeHandler(listener)
    assert said == ["teacher.shard=True has no effect: there is one process"]
    torch.manual_seed(0)
    images = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    assert torch.equal(shared(images).patches, Teacher(backbone={**TINY})(images).patches)
    assert not shared.sharded


def test_it_is_not_compiled_as_well() -> None:
    with pytest.raises(ValueError, match=r"teacher\.shard=True .* write compile=False"):
        Teacher(backbone={**TINY}, shard=True, compile=True)


def test_blocks_of_several_families() -> None:
    vit = ViT(arch="tiny", img_size=56, embed_dim=24, depth=3, num_heads=3)
    assert blocks_of(vit) == list(vit.vit.blocks)
    assert {type(block).__name__ for block in blocks_of(TimmBackbone(arch="resnet18"))} == {"BasicBlock"}
    with pytest.raises(ValueError, match=r"Linear has no row of equal blocks; write shard=False"):
        blocks_of(nn.Linear(2, 2))
