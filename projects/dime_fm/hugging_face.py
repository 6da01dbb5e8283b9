"""Rename the weights of transformers' CLIP."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from proteus.checkpoints.key_mappings import rows, to_ours

_TEXT = rows("""
    text_model.embeddings.token_embedding.weight      token_embedding.weight
    text_model.embeddings.position_embedding.weight   positional_embedding
    text_model.encoder.layers.{i}.layer_norm1.{w}     transformer.resblocks.{i}.ln_1.{w}
    text_model.encoder.layers.{i}.self_attn.q_proj.{w}  text_model.encoder.layers.{i}.self_attn.k_proj.{w} \
        text_model.encoder.layers.{i}.self_attn.v_proj.{w}  transformer.resblocks.{i}.attn.in_proj_{w}
    text_model.encoder.layers.{i}.self_attn.out_proj.{w}  transformer.resblocks.{i}.attn.out_proj.{w}
    text_model.encoder.layers.{i}.layer_norm2.{w}     transformer.resblocks.{i}.ln_2.{w}
    text_model.encoder.layers.{i}.mlp.fc1.{w}         transformer.resblocks.{i}.mlp.c_fc.{w}
    text_model.encoder.layers.{i}.mlp.fc2.{w}         transformer.resblocks.{i}.mlp.c_proj.{w}
    text_model.final_layer_norm.{w}                   ln_final.{w}
""")
_PROJECTIONS = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}


def to_openai(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the text tower and the projections of ``transformers``' ``CLIPModel`` to OpenAI's names.

    The image tower's names are left for the backbone to convert. A state dict with other names is returned unchanged.
    """
    if "text_model.final_layer_norm.weight" not in state:
        return dict(state)
    turned = {_PROJECTIONS.get(key, key): value.T if key in _PROJECTIONS else value for key, value in state.items()}
    # A constant in older files.
    turned.pop("text_model.embeddings.position_ids", None)
    return to_ours(turned, _TEXT)
