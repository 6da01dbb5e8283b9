"""Code in the model card that opens each format: it runs in the model folder and gives ``cls`` and ``patches``."""

from __future__ import annotations

from collections.abc import Iterator

from proteus.exporters.hugging_face import native_class
from proteus.exporters.model import ExportModel
from proteus.exporters.timm_files import cls_kind, last_output, prefix_tokens

_RESIZE = {
    "center": "transforms.Resize({side}, interpolation=transforms.InterpolationMode.{interpolation})",
    "squash": "transforms.Resize(({side}, {side}), interpolation=transforms.InterpolationMode.{interpolation})",
    "border": "transforms.Lambda(lambda image: ImageOps.pad(image, ({side}, {side}), "
    "Image.Resampling.{interpolation}, {colour}))",
}
_PREPARE = """from PIL import Image{more}
from torchvision import transforms

prepare = transforms.Compose(
    [
        {resize},
        transforms.CenterCrop({size}),
        transforms.ToTensor(),
        transforms.Normalize({mean}, {std}),
    ]
)
images = prepare(Image.open("photo.jpg").convert("RGB"))[None]  # (1, 3, {size}, {size})"""
_TIMM = """import timm
import torch

model = timm.create_model("local-dir:.", pretrained=True).eval()
with torch.inference_mode():
    output = model.forward_features(images)
    {read}"""
_TRANSFORMERS = """import torch
from transformers import AutoModel

model = AutoModel.from_pretrained("./hf").eval()
with torch.inference_mode():
    output = model(pixel_values=images)
    {read}"""
_ONNX = """import onnxruntime

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
cls, patches = session.run(["cls", "patches"], {"images": images.numpy()})"""
_PROGRAM = """import torch

model = torch.export.load("model.pt2").module()
cls, patches = model(images)"""
_OPENMMLAB = """import mmpretrain.models
import torch
from mmengine.config import Config
from {toolbox}.registry import MODELS

config = Config.fromfile("openmmlab/backbone.py")
backbone = MODELS.build(config.backbone)
backbone.init_weights()
backbone.eval()
with torch.inference_mode():
    output = backbone(images)[-1]
    {read}"""
_PROTEUS = """import proteus

features = proteus.load_backbone("{source}")(images)
cls, patches = features.cls, features.patches"""


def code_blocks(model: ExportModel, written: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the heading and the code of each block.

    Args:
        model: The model.
        written: Formats in the folder, and what each is.
    """
    colour = tuple(round(255 * value) for value in model.mean)
    yield (
        "Prepare images",
        _PREPARE.format(
            more=", ImageOps" if model.crop_mode == "border" else "",
            resize=_RESIZE[model.crop_mode].format(
                side=model.resize, interpolation=model.interpolation.upper(), colour=colour
            ),
            size=model.img_size,
            mean=list(model.mean),
            std=list(model.std),
        ),
    )
    if "timm" in written:
        yield "timm", _TIMM.format(read=_read(model, "output", {"pooled": "model(images)"}))
    if "hf" in written:
        yield f"transformers, {written['hf']}", _TRANSFORMERS.format(read=_read_transformers(model))
    if "openmmlab" in written:
        for toolbox, note in (("mmpretrain", ""), ("mmseg", ", in a config `_base_` and `backbone=_base_.backbone`")):
            yield f"{toolbox}{note}", _OPENMMLAB.format(toolbox=toolbox, read=_read(model, "output", {}))
    if "onnx" in written:
        yield "ONNX Runtime", _ONNX
    if "program" in written:
        yield "torch.export", _PROGRAM
    yield "Proteus", _PROTEUS.format(source="." if model.is_timm else "model.safetensors")


def _read(model: ExportModel, output: str, pooled: dict[str, str]) -> str:
    """Return code that reads ``cls`` and ``patches`` from the last output of the network."""
    tokens = last_output(model, model.images(1)).ndim == 3
    channels_last = getattr(model.network, "output_fmt", "NCHW") == "NHWC"
    if tokens:
        prefix, axes = prefix_tokens(model.network), "1"
        patches = f"{output}[:, {prefix}:]" if prefix else output
    else:
        patches = f"{output}.flatten(1, 2)" if channels_last else f"{output}.flatten(2).transpose(1, 2)"
        axes = "(1, 2)" if channels_last else "(2, 3)"
    ways = {"first": f"{output}[:, 0]", "mean": f"{output if not tokens else patches}.mean(dim={axes})", **pooled}
    cls = ways.get(cls_kind(model, pooled=bool(pooled)))
    return f"patches = {patches}" if cls is None else f"cls, patches = {cls}, {patches}"


def _read_transformers(model: ExportModel) -> str:
    native, last = native_class(model), "output.last_hidden_state"
    prefix = prefix_tokens(model.network)
    if native == "CLIPVisionModel":  # its tokens are those before the last norm
        return f"cls, patches = output.pooler_output, model.post_layernorm({last}[:, {prefix}:])"
    if native is not None:
        return f"cls, patches = output.pooler_output, {last}[:, {prefix}:]"
    return _read(model, last, {"pooled": "output.pooler_output.flatten(1)"})
