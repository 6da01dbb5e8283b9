"""Models with trained weights that predict for single images without ground truth."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement
from PIL import Image
from torch import Tensor, nn
from torchvision.tv_tensors import Mask

from proteus.apis.training import drop_initial_weights
from proteus.checkpoints import load_strictly, read_state_dict
from proteus.config.build_errors import as_config_error
from proteus.config.check_consistency import check_present
from proteus.models import DepthEstimator, LinearProbe, MMPretrainDataPreprocessor
from proteus.structures import ConfigError, DataError
from proteus.visualization.class_names import meta_of_config, names_and_colours
from proteus.visualization.depth_panel import draw_depth_panel
from proteus.visualization.segmentation import draw_segmentation

_ALPHA = 0.6
_TOP = 5


class Predictor(ABC):
    """A model in evaluation mode, with its test pipeline after image loading.

    Args:
        cfg: The config.
        model: Its model.
        device: Device to compute on.

    Raises:
        ConfigError: The test data set has no pipeline for images.
    """

    def __init__(self, cfg: Config, model: nn.Module, device: str) -> None:
        self.model: Any = model.to(device).eval()
        self.dataset = _innermost(cfg)
        self.scope = cfg.get("default_scope")
        readers = [step for step in self.dataset.pipeline if _name(step) == "LoadImageFromFile"]
        # The transforms that follow expect BGR arrays.
        self.bgr = bool(readers)
        self.as_float = any(step.get("to_float32") for step in readers)
        steps = [step for step in self.dataset.pipeline if not _reads_files(step)]
        with as_config_error(str(cfg.filename)):
            self.pipeline = Compose(steps)

    @abstractmethod
    def predict(self, image: Image.Image, name: str) -> np.ndarray:
        """Predict for one RGB image; ``name`` replaces its file name."""

    def sample(self, image: Image.Image, name: str) -> Any:
        """Return the image after the test pipeline."""
        pixels: Any = image
        if self.bgr:
            pixels = np.ascontiguousarray(np.asarray(image)[..., ::-1])
            pixels = pixels.astype(np.float32) if self.as_float else pixels
        return self.pipeline({"img": pixels, "img_path": name, "seg_fields": [], **_sizes(image)})


class Segmenter(Predictor):
    """A segmentor of mmseg.

    Args:
        classes: Class names in order; by default those of the data set of the config, or numbers.

    Attributes:
        classes: Class names.
        palette: Their colours, RGB from 0 to 255.

    Raises:
        DataError: The number of names differs from the number of classes.
    """

    def __init__(self, cfg: Config, model: nn.Module, device: str, classes: Sequence[str] | None = None) -> None:
        super().__init__(cfg, model, device)
        meta = meta_of_config(self.dataset, self.scope)
        self.classes, self.palette = names_and_colours(meta, _class_count(model), classes, "test_dataloader.dataset")
        self.bgr = True

    @torch.inference_mode()
    def predict(self, image: Image.Image, name: str) -> np.ndarray:
        """Return the class of each pixel, ``(H, W)``, uint8 or, for 256 classes and more, uint16."""
        packed = self.sample(image, name)
        batch = {"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]}
        labels = self.model.test_step(batch)[0].pred_sem_seg.data[0]
        return labels.cpu().numpy().astype(np.uint8 if len(self.classes) < 256 else np.uint16)

    def draw(self, image: Image.Image, prediction: np.ndarray) -> Image.Image:
        """Draw the image next to its overlay, with the class names below."""
        return draw_segmentation(np.asarray(image), prediction, None, self.classes, self.palette, _ALPHA)

    def frame(self, image: Image.Image, prediction: np.ndarray) -> Image.Image:
        """Draw the overlay only, since all frames of a video have the same size."""
        colours = np.asarray(self.palette, dtype=np.float32)[prediction]
        return Image.fromarray((np.asarray(image) * (1 - _ALPHA) + colours * _ALPHA).round().astype(np.uint8))


class DepthPredictor(Predictor):
    """A depth estimator.

    Args:
        max_depth: Metres at the upper end of the colour scale; by default the largest depth of each picture, and for a
            video the largest depth that the config evaluates.
    """

    def __init__(self, cfg: Config, model: nn.Module, device: str, max_depth: float | None = None) -> None:
        super().__init__(cfg, model, device)
        evaluator = cfg.get("test_evaluator") or {}
        self.max_depth = max_depth
        self.evaluated = float(evaluator.get("max_depth", 10.0)) if isinstance(evaluator, Mapping) else 10.0

    def sample(self, image: Image.Image, name: str) -> Any:
        """Return the image after the test pipeline, with an empty depth map for pipelines that pack one."""
        unknown = Mask(torch.zeros(image.height, image.width))
        return self.pipeline({"img": image, "img_path": name, "depth": unknown, "depth_path": "", **_sizes(image)})

    @torch.inference_mode()
    def predict(self, image: Image.Image, name: str) -> np.ndarray:
        """Return the depth in metres, ``(H, W)`` float32."""
        pixels = self.sample(image, name)["inputs"]
        data_sample = BaseDataElement(metainfo={"img_path": name, "ori_shape": (image.height, image.width)})
        depth: Tensor = self.model.test_step({"inputs": pixels[None], "data_samples": [data_sample]})[0]["depth"]
        return depth.float().cpu().numpy()

    def draw(self, image: Image.Image, prediction: np.ndarray) -> Image.Image:
        """Draw the image next to its depth map, with a colour bar."""
        return draw_depth_panel(np.asarray(image), prediction, self.max_depth or max(float(prediction.max()), 1e-6))

    def frame(self, image: Image.Image, prediction: np.ndarray) -> Image.Image:
        """Draw a frame of a video, with the same scale for all frames."""
        return draw_depth_panel(np.asarray(image), prediction, self.max_depth or self.evaluated)


class Classifier(Predictor):
    """A linear probe, or a classifier of mmpretrain.

    Args:
        classes: Class names in order; by default those of the data set of the config, or numbers.

    Raises:
        DataError: From :meth:`predict`: the number of names differs from the number of classes.
    """

    def __init__(self, cfg: Config, model: nn.Module, device: str, classes: Sequence[str] | None = None) -> None:
        super().__init__(cfg, model, device)
        self.given = classes is not None
        self.classes = classes or meta_of_config(self.dataset, self.scope).get("classes")

    @torch.inference_mode()
    def predict(self, image: Image.Image, name: str) -> np.ndarray:
        """Return the probability of each class, ``(C,)`` float32."""
        packed = self.sample(image, name)
        batch = {"inputs": packed["inputs"][None], "data_samples": [packed["data_samples"]]}
        if isinstance(self.model.data_preprocessor, MMPretrainDataPreprocessor):
            batch["labels"] = torch.zeros(1, dtype=torch.int64)  # it needs labels, which prediction ignores
        result = self.model.test_step(batch)[0]
        scores: Tensor = result["logits"].softmax(-1) if isinstance(result, dict) else result.pred_score
        if self.classes is not None and len(self.classes) != len(scores):
            what = "--classes" if self.given else "test_dataloader.dataset"
            raise DataError(f"{what} has {len(self.classes)} classes, but the model has {len(scores)}")
        return scores.float().cpu().numpy()

    def best(self, prediction: np.ndarray) -> list[tuple[str, float]]:
        """Return the five most probable classes and their probabilities, in descending order."""
        order = np.argsort(-prediction, kind="stable")[:_TOP]
        return [(self.classes[index] if self.classes else str(index), float(prediction[index])) for index in order]


def build_predictor(
    cfg: Config,
    checkpoint: str | Path,
    device: str | None = None,
    classes: Sequence[str] | None = None,
    max_depth: float | None = None,
) -> Segmenter | DepthPredictor | Classifier:
    """Build the model of a config, load a training checkpoint, and choose the predictor for it.

    Args:
        cfg: A loaded config.
        checkpoint: Weights of the model; all names and shapes must match.
        device: Device to compute on; by default a GPU if there is one.
        classes: As for :class:`Segmenter` and :class:`Classifier`.
        max_depth: As for :class:`DepthPredictor`.

    Raises:
        ConfigError: The model does not predict for images, or its parts do not fit.
        CheckpointError: The checkpoint cannot be read or holds another model.
    """
    check_present(cfg, "model")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    init_default_scope(cfg.get("default_scope", "proteus"))
    config = copy.deepcopy(cfg.model)
    drop_initial_weights(config)
    state = read_state_dict(checkpoint)
    with as_config_error(str(cfg.filename)):
        # SyncBN needs GPUs; in evaluation it equals BN.
        model = revert_sync_batchnorm(ROOT_MODELS.build(config))
    toolbox = type(model).__module__.partition(".")[0]
    kind = type(model).__name__
    if not (isinstance(model, (DepthEstimator, LinearProbe)) or toolbox in ("mmseg", "mmpretrain")):
        raise ConfigError(
            [f"model.type={kind}: write a config of a segmentor, a DepthEstimator or a classifier (LinearProbe)"],
            str(cfg.filename),
        )
    load_strictly(model, state, checkpoint)
    if isinstance(model, DepthEstimator) and classes is not None:
        raise DataError("--classes: a depth estimator has no classes; remove it")
    if not isinstance(model, DepthEstimator) and max_depth is not None:
        raise DataError(f"--max-depth: {kind} predicts no depth; remove it")
    if isinstance(model, DepthEstimator):
        return DepthPredictor(cfg, model, device, max_depth)
    if toolbox == "mmseg":
        return Segmenter(cfg, model, device, classes)
    return Classifier(cfg, model, device, classes)


def _innermost(cfg: Config) -> Any:
    loader = cfg.get("test_dataloader") or cfg.get("val_dataloader") or {}
    dataset = loader.get("dataset") or {}
    while "pipeline" not in dataset:
        several = dataset.get("datasets")  # MMEngine's ConcatDataset: take its first data set
        inner = several[0] if isinstance(several, (list, tuple)) and several else dataset.get("dataset")
        if not isinstance(inner, Mapping):
            break
        dataset = inner
    if "pipeline" not in dataset:
        raise ConfigError(["test_dataloader.dataset has no pipeline that prepares images"], str(cfg.filename))
    return dataset


def _name(step: Mapping[str, Any]) -> str:
    kind = step["type"]
    return getattr(kind, "__name__", str(kind)).rpartition(".")[2]


def _reads_files(step: Mapping[str, Any]) -> bool:
    """Whether a transform loads or checks files: by its attribute ``reads_files``, else by its name."""
    kind = step["type"]
    with ROOT_TRANSFORMS.switch_scope_and_registry(None) as registry:
        target = registry.get(kind) if isinstance(kind, str) else kind
    # Loaders of MMCV and other toolboxes have no such attribute, but their names all start with Load.
    return bool(getattr(target, "reads_files", _name(step).startswith("Load")))


def _class_count(model: nn.Module) -> int:
    heads: Any = model.decode_head
    head: Any = heads[-1] if isinstance(heads, nn.ModuleList) else heads  # the last head of a cascade predicts
    count: int = head.num_classes
    return count


def _sizes(image: Image.Image) -> dict[str, tuple[int, int]]:
    size = (image.height, image.width)
    return {"ori_shape": size, "img_shape": size}
