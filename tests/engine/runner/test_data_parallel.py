from pathlib import Path

import pytest
import torch
from runs import start
from torch import Tensor

STEP = """
import sys
import torch
import torch.distributed as dist
from mmengine.optim import OptimWrapper
from mmengine.structures import BaseDataElement
from proteus.engine import DataParallel
from proteus.models import Distiller

rank, world, store, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
vit = dict(type="ViT", arch="tiny", img_size=56, depth=1)
torch.manual_seed(0)
model = Distiller(
    teacher=dict(type="Teacher", backbone={**vit, "embed_dim": 32, "num_heads": 4}),
    student={**vit, "embed_dim": 24, "num_heads": 3, "mask_token": True},
    objectives=dict(
        token=dict(type="TokenObjective"),
        feature=dict(type="FeatureObjective", cls_term="token"),
        patch=dict(type="PatchObjective"),
    ),
    micro_batches=2 if world == 2 else 1,
)
model.student.mask_token.data.normal_()
# Ranks and micro-batches mask different numbers of patches, one of them 0.
masks = torch.rand(4, 16).argsort(1) < torch.tensor([1, 12, 5, 0])[:, None]
images = torch.rand(8, 3, 56, 56)
mine = slice(rank * 4 // world, (rank + 1) * 4 // world)
pixels = torch.cat([images[:4][mine], images[4:][mine]])
indices = masks[mine].flatten().nonzero()[:, 0]
data = dict(inputs=pixels, masks=masks[mine], mask_indices=indices, data_samples=[BaseDataElement()] * len(pixels))

syncs = []
class Counted(DataParallel):
    def no_sync(self):
        syncs.append("off")
        return super().no_sync()

class Kept(OptimWrapper):
    def step(self, **kwargs):
        torch.save({n: p.grad.clone() for n, p in model.named_parameters()}, f"{out}.{rank}")

wrapped = Counted(model)
assert wrapped.gradient_as_bucket_view and wrapped.device_ids is None
wrapped.train_step(data, Kept(torch.optim.SGD(model.parameters(), lr=0.0)))
assert len(syncs) == (1 if world == 2 else 0), syncs
dist.barrier()
dist.destroy_process_group()
"""


def gradients(folder: Path, world: int) -> list[dict[str, Tensor]]:
    out, script, log = folder / f"gradients{world}", folder / "step.py", folder / f"log{world}"
    script.write_text(STEP)
    ranks = [start(script, rank, world, folder / f"store{world}", out, log=log) for rank in range(world)]
    for rank in ranks:
        rank.join(120)
    assert [rank.exitcode for rank in ranks] == [0] * world, log.read_text()
    return [torch.load(f"{out}.{rank}", weights_only=True) for rank in range(world)]


@pytest.mark.slow
def test_two_ranks_with_two_micro_batches_have_the_gradients_of_the_full_batch(tmp_path: Path) -> None:
    (expected,) = gradients(tmp_path, 1)
    for found in gradients(tmp_path, 2):
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4, msg=lambda m, n=name: n + m)
