"""Names of a ViT's weights in different projects, as tables that rename in both directions.

One table a project: its name first, timm's second. Where a project has two tables (``..._MLP`` and ``..._SWIGLU``), it
names plain and gated MLPs differently, while timm calls the layers of both ``fc1`` and ``fc2``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """Name of one weight, or of one weight in every block, in another project and in timm.

    In both names, ``{i}`` stands for the number of a block and ``{w}`` for ``weight`` or ``bias``.

    Attributes:
        theirs: Name in the other project; several if timm stacks their tensors into one, in timm's order.
        ours: Name in timm.
        axes: Number of leading axes of length 1 that only timm's tensor has.
    """

    theirs: tuple[str, ...]
    ours: str
    axes: int = 0

    @cached_property
    def first_of_theirs(self) -> re.Pattern[str]:
        """Matches the first of their names."""
        return _pattern(self.theirs[0])

    @cached_property
    def of_ours(self) -> re.Pattern[str]:
        """Matches our name."""
        return _pattern(self.ours)


def rows(text: str) -> tuple[Row, ...]:
    """Parse a table: on each line their name or names, timm's name, and ``+n`` for ``n`` axes."""
    table = []
    for line in filter(None, map(str.strip, text.splitlines())):
        names = line.split()
        axes = int(names.pop()) if names[-1].startswith("+") else 0
        table.append(Row(tuple(names[:-1]), names[-1], axes))
    return tuple(table)


def to_ours(state: Mapping[str, Tensor], table: Iterable[Row]) -> dict[str, Tensor]:
    """Rename to timm's names; names that the table lacks, and incomplete stacks, stay unchanged."""
    table, left, renamed = tuple(table), dict(state), {}
    for key in state:
        row, match = next(
            ((row, found) for row in table if (found := row.first_of_theirs.fullmatch(key))), (None, None)
        )
        if row is None or match is None:
            continue
        names = [name.format(**match.groupdict()) for name in row.theirs]
        if all(name in left for name in names):
            parts = [left.pop(name) for name in names]
            value = parts[0] if len(parts) == 1 else torch.cat(parts)
            renamed[row.ours.format(**match.groupdict())] = value[(None,) * row.axes]
    return {**renamed, **left}


def to_theirs(state: Mapping[str, Tensor], table: Iterable[Row]) -> dict[str, Tensor]:
    """Rename from timm's names to theirs; names that the table lacks stay unchanged."""
    table, renamed = tuple(table), {}
    for key, value in state.items():
        row, match = next(((row, found) for row in table if (found := row.of_ours.fullmatch(key))), (None, None))
        if row is None or match is None:
            renamed[key] = value
            continue
        for _ in range(row.axes):
            value = value.squeeze(0)
        names = [name.format(**match.groupdict()) for name in row.theirs]
        # Clone, since tensors that share memory cannot be saved as safetensors.
        parts = [value] if len(names) == 1 else [part.clone() for part in value.chunk(len(names))]
        renamed.update(zip(names, parts, strict=True))
    return renamed


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\{w\}", "(?P<w>weight|bias)")
    return re.compile(escaped)


# Meta's DINOv2 release (github.com/facebookresearch/dinov2): timm's names but for these.
META = rows("register_tokens reg_token")
META_SWIGLU = rows("""
    blocks.{i}.mlp.w12.{w}  blocks.{i}.mlp.fc1.{w}
    blocks.{i}.mlp.w3.{w}   blocks.{i}.mlp.fc2.{w}
""")

# transformers: Dinov2Model and Dinov2WithRegistersModel, as their files name the weights.
HUGGING_FACE_TRUNK = rows("""
    embeddings.cls_token                             cls_token
    embeddings.mask_token                            mask_token
    embeddings.register_tokens                       reg_token
    embeddings.position_embeddings                   pos_embed
    embeddings.patch_embeddings.projection.{w}       patch_embed.proj.{w}
    encoder.layer.{i}.attention.attention.query.{w}  encoder.layer.{i}.attention.attention.key.{w} \
        encoder.layer.{i}.attention.attention.value.{w}  blocks.{i}.attn.qkv.{w}
    encoder.layer.{i}.attention.output.dense.{w}     blocks.{i}.attn.proj.{w}
    layernorm.{w}                                    norm.{w}
""")
HUGGING_FACE_DINOV2 = rows("""
    encoder.layer.{i}.norm1.{w}              blocks.{i}.norm1.{w}
    encoder.layer.{i}.norm2.{w}              blocks.{i}.norm2.{w}
    encoder.layer.{i}.layer_scale1.lambda1   blocks.{i}.ls1.gamma
    encoder.layer.{i}.layer_scale2.lambda1   blocks.{i}.ls2.gamma
""")
HUGGING_FACE_MLP = rows("""
    encoder.layer.{i}.mlp.fc1.{w}  blocks.{i}.mlp.fc1.{w}
    encoder.layer.{i}.mlp.fc2.{w}  blocks.{i}.mlp.fc2.{w}
""")
HUGGING_FACE_SWIGLU = rows("""
    encoder.layer.{i}.mlp.weights_in.{w}   blocks.{i}.mlp.fc1.{w}
    encoder.layer.{i}.mlp.weights_out.{w}  blocks.{i}.mlp.fc2.{w}
""")
# Its ViTModel, which has no LayerScale.
HUGGING_FACE_VIT = rows("""
    encoder.layer.{i}.layernorm_before.{w}    blocks.{i}.norm1.{w}
    encoder.layer.{i}.layernorm_after.{w}     blocks.{i}.norm2.{w}
    encoder.layer.{i}.intermediate.dense.{w}  blocks.{i}.mlp.fc1.{w}
    encoder.layer.{i}.output.dense.{w}        blocks.{i}.mlp.fc2.{w}
""")
# Names that version 5 gives some weights in memory; only read, never written.
HUGGING_FACE_IN_MEMORY = rows("""
    encoder.layer.{i}.attention.q_proj.{w}  encoder.layer.{i}.attention.k_proj.{w} \
        encoder.layer.{i}.attention.v_proj.{w}  blocks.{i}.attn.qkv.{w}
    encoder.layer.{i}.attention.o_proj.{w}  blocks.{i}.attn.proj.{w}
    encoder.layer.{i}.mlp.gate_proj.{w}  encoder.layer.{i}.mlp.up_proj.{w}  blocks.{i}.mlp.fc1.{w}
    encoder.layer.{i}.mlp.down_proj.{w}  blocks.{i}.mlp.fc2.{w}
""")

# transformers: DINOv3ViTModel, with rotary positions. Queries and values may have biases, keys have none.
HUGGING_FACE_DINOV3 = rows("""
    embeddings.patch_embeddings.{w}      patch_embed.proj.{w}
    layer.{i}.norm1.{w}                  blocks.{i}.norm1.{w}
    layer.{i}.attention.q_proj.weight  layer.{i}.attention.k_proj.weight  layer.{i}.attention.v_proj.weight \
        blocks.{i}.attn.qkv.weight
    layer.{i}.attention.q_proj.bias      blocks.{i}.attn.q_bias
    layer.{i}.attention.v_proj.bias      blocks.{i}.attn.v_bias
    layer.{i}.attention.o_proj.{w}       blocks.{i}.attn.proj.{w}
    layer.{i}.layer_scale1.lambda1       blocks.{i}.gamma_1
    layer.{i}.norm2.{w}                  blocks.{i}.norm2.{w}
    layer.{i}.mlp.down_proj.{w}          blocks.{i}.mlp.fc2.{w}
    layer.{i}.layer_scale2.lambda1       blocks.{i}.gamma_2
""")
# Here it is timm that has another name for a layer of both.
HUGGING_FACE_DINOV3_MLP = rows("layer.{i}.mlp.up_proj.{w}  blocks.{i}.mlp.fc1.{w}")
HUGGING_FACE_DINOV3_SWIGLU = rows("""
    layer.{i}.mlp.gate_proj.{w}  blocks.{i}.mlp.fc1_g.{w}
    layer.{i}.mlp.up_proj.{w}    blocks.{i}.mlp.fc1_x.{w}
""")

# transformers: CLIPVisionModel. The misspelling is theirs.
HUGGING_FACE_CLIP = rows("""
    embeddings.class_embedding                  cls_token  +2
    embeddings.position_embedding.weight        pos_embed  +1
    embeddings.patch_embedding.weight           patch_embed.proj.weight
    pre_layrnorm.{w}                            norm_pre.{w}
    encoder.layers.{i}.layer_norm1.{w}          blocks.{i}.norm1.{w}
    encoder.layers.{i}.self_attn.q_proj.{w}  encoder.layers.{i}.self_attn.k_proj.{w} \
        encoder.layers.{i}.self_attn.v_proj.{w}  blocks.{i}.attn.qkv.{w}
    encoder.layers.{i}.self_attn.out_proj.{w}   blocks.{i}.attn.proj.{w}
    encoder.layers.{i}.layer_norm2.{w}          blocks.{i}.norm2.{w}
    encoder.layers.{i}.mlp.fc1.{w}              blocks.{i}.mlp.fc1.{w}
    encoder.layers.{i}.mlp.fc2.{w}              blocks.{i}.mlp.fc2.{w}
    post_layernorm.{w}                          norm.{w}
""")

# OpenAI's CLIP, open_clip's, and the CLIP student of Proteus' release: the vision tower.
OPENAI = rows("""
    class_embedding                                   cls_token  +2
    positional_embedding                              pos_embed  +1
    conv1.weight                                      patch_embed.proj.weight
    ln_pre.{w}                                        norm_pre.{w}
    transformer.resblocks.{i}.ln_1.{w}                blocks.{i}.norm1.{w}
    transformer.resblocks.{i}.attn.in_proj_{w}        blocks.{i}.attn.qkv.{w}
    transformer.resblocks.{i}.attn.out_proj.{w}       blocks.{i}.attn.proj.{w}
    transformer.resblocks.{i}.ls_1.gamma              blocks.{i}.ls1.gamma
    transformer.resblocks.{i}.ln_2.{w}                blocks.{i}.norm2.{w}
    transformer.resblocks.{i}.mlp.c_fc.{w}            blocks.{i}.mlp.fc1.{w}
    transformer.resblocks.{i}.mlp.c_proj.{w}          blocks.{i}.mlp.fc2.{w}
    transformer.resblocks.{i}.ls_2.gamma              blocks.{i}.ls2.gamma
    ln_post.{w}                                       norm.{w}
""")

# mmpretrain's VisionTransformer, and the backbones that Proteus' release converts for mmsegmentation.
OPENMMLAB = rows("""
    patch_embed.projection.{w}  patch_embed.proj.{w}
    layers.{i}.ln1.{w}          blocks.{i}.norm1.{w}
    layers.{i}.attn.qkv.{w}     blocks.{i}.attn.qkv.{w}
    layers.{i}.attn.proj.{w}    blocks.{i}.attn.proj.{w}
    layers.{i}.ln2.{w}          blocks.{i}.norm2.{w}
    pre_norm.{w}                norm_pre.{w}
""")
OPENMMLAB_MLP = rows("""
    layers.{i}.ffn.layers.0.0.{w}  blocks.{i}.mlp.fc1.{w}
    layers.{i}.ffn.layers.1.{w}    blocks.{i}.mlp.fc2.{w}
""")
OPENMMLAB_SWIGLU = rows("""
    layers.{i}.ffn.w12.{w}  blocks.{i}.mlp.fc1.{w}
    layers.{i}.ffn.w3.{w}   blocks.{i}.mlp.fc2.{w}
""")
MMPRETRAIN = rows("""
    layers.{i}.attn.gamma1.weight  blocks.{i}.ls1.gamma
    layers.{i}.ffn.gamma2.weight   blocks.{i}.ls2.gamma
    ln1.{w}                        norm.{w}
""")
# Its converter leaves the last norm and the mask token under timm's names, and mmsegmentation ignores them.
MMSEG = rows("""
    layers.{i}.gamma_1  blocks.{i}.ls1.gamma
    layers.{i}.gamma_2  blocks.{i}.ls2.gamma
""")

# mmsegmentation's VisionTransformer, which uses torch's attention and has no LayerScale.
MMSEG_VIT = rows("""
    layers.{i}.attn.attn.in_proj_{w}   blocks.{i}.attn.qkv.{w}
    layers.{i}.attn.attn.out_proj.{w}  blocks.{i}.attn.proj.{w}
    ln_pre.{w}                         norm_pre.{w}
    ln1.{w}                            norm.{w}
""")
