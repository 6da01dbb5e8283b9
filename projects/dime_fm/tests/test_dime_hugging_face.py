"""A CLIP with transformers' parameter names, compared with transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

from projects.dime_fm.dual_encoder import DualEncoder
from proteus.checkpoints import CheckpointError
from proteus.evaluation.text.open_clip_parts import tokenizer


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_towers_are_those_of_transformers(tmp_path: Path, activation: str) -> None:
    torch.manual_seed(0)
    common = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": activation}
    text = {**common, "hidden_size": 64, "intermediate_size": 256, "max_position_embeddings": 16, "vocab_size": 49408}
    image = {**common, "hidden_size": 128, "intermediate_size": 512, "image_size": 28, "patch_size": 14}
    # As in OpenAI's repository there: the end token has the largest index.
    ends = {"bos_token_id": 49406, "eos_token_id": 49407}
    config = transformers.CLIPConfig(text_config={**text, **ends}, vision_config=image, projection_dim=32)
    clip = transformers.CLIPModel(config).eval()
    for parameter in clip.parameters():  # biases start at zero, which would hide a missing one
        parameter.data += 0.02 * torch.randn_like(parameter)
    file = tmp_path / "model.safetensors"
    state = {key: value.contiguous() for key, value in clip.state_dict().items()}
    save_file(state, file)

    quick = activation == "quick_gelu"
    arch = "clip-base" if quick else "vit_base_patch16_clip_224"
    vit = {"type": "ViT", "arch": arch, "patch_size": 14, "embed_dim": 128, "depth": 2, "num_heads": 2}
    tower = {"type": "OpenClipText", "width": 64, "layers": 2, "heads": 2, "context_length": 16, "quick_gelu": quick}
    ours = DualEncoder(vit, tower, 32, 28, checkpoint=file).eval()
    images = torch.rand(3, 3, 28, 28)
    tokens = tokenizer()(["a dog", "two cats on a mat", "the sea"], context_length=16)
    with torch.no_grad():
        theirs = clip(input_ids=tokens, pixel_values=images, attention_mask=torch.ones_like(tokens))
        for got, wanted in (
            (ours.encode_images(images), theirs.image_embeds),
            (ours.encode_texts(tokens), theirs.text_embeds),
        ):
            torch.testing.assert_close(torch.nn.functional.normalize(got, dim=-1), wanted, atol=1e-5, rtol=1e-5)
    assert ours.logit_scale.item() == clip.logit_scale.item()

    save_file(
        {key: value for key, value in state.items() if key != "visual_projection.weight"}, tmp_path / "part.safetensors"
    )
    with pytest.raises(CheckpointError, match=r"has no 'visual.proj', so it is not a complete CLIP"):
        DualEncoder(vit, tower, 32, 28, checkpoint=tmp_path / "part.safetensors")
