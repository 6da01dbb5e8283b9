"""In-context segmentation: k nearest patches of frozen features."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from proteus.config.check_consistency import last_crop
from proteus.datasets import MaskFolders, PatchMemory
from proteus.datasets.segmentation.mask_folders import find_num_classes
from proteus.evaluation.classifiers.dense_knn import transfer_labels, upsample_classes
from proteus.evaluation.features.store import Split, Table, open_masks
from proteus.evaluation.input_checks import is_integer
from proteus.evaluation.protocols.protocol import EvalContext, ProtocolResult, SetProtocol
from proteus.evaluation.scores import confusion_matrix, mean_iou
from proteus.registry import DATASETS, PROTOCOLS
from proteus.structures import DataError
from proteus.utils.images import rgb_array

_QUERIES_AT_ONCE = 32768
_EXAMPLES = 3


@PROTOCOLS.register_module()
class DenseKNN(SetProtocol):
    """Segment images by their nearest patches in a memory of training patches, as Hummingbird does.

    The protocol of Balazevic et al. (2023) with the defaults of open-hummingbird-eval: patch tokens of training images
    with the shares of classes in each patch; k nearest by cosine; labels averaged with weights
    ``softmax(cosine / temperature)``, enlarged bilinearly to the mask's size. See docs/evaluate.md.

    Args:
        k: Number of neighbours.
        temperature: Temperature of the softmax.
        memory_size: Number of patches in the memory, spread evenly over the training images.
        seed: Seed of the sample of patches.
        num_classes: Number of classes of sets that do not name theirs; None: the largest label in the masks plus one.
        ignore_index: Labels to ignore, in addition to 255, in sets that do not name theirs.
        **set_options: ``sets``, ``pipeline``, ``mean`` and ``std`` of :class:`SetProtocol`.

    Raises:
        ValueError: A number is out of range, or the pipeline does not end with square images.
    """

    name = "dense-knn"
    title = "In-context segmentation (dense k-NN)"
    unit = "mIoU, %"
    tokens = "patches"
    set_type = MaskFolders
    own_set = "MaskFolders"
    own_layout = "folders of images and masks"

    def __init__(
        self,
        k: int = 30,
        temperature: float = 0.02,
        memory_size: int = 102400,
        seed: int = 0,
        num_classes: int | None = None,
        ignore_index: int | Sequence[int] = (),
        **set_options: Any,
    ) -> None:
        super().__init__(**set_options)
        for key, value, least in (("k", k, 1), ("memory_size", memory_size, 1), ("seed", seed, 0)):
            if not is_integer(value) or value < least:
                raise ValueError(f"protocol.{key}={value!r}: write an integer, {least} or more")
        if type(temperature) not in (int, float) or not 0 < temperature < float("inf"):
            raise ValueError(f"protocol.temperature={temperature!r}: write a positive number, such as 0.02")
        if num_classes is not None and (not is_integer(num_classes) or num_classes < 2):
            raise ValueError(f"protocol.num_classes={num_classes!r}: write 2 or more, or None to read the masks")
        ignored = [ignore_index] if is_integer(ignore_index) else ignore_index
        if not isinstance(ignored, Sequence) or not all(map(is_integer, ignored)):
            raise ValueError(f"protocol.ignore_index={ignore_index!r}: write a label, such as 255, or several")
        crop = last_crop(self.pipeline)
        if crop is None:
            raise ValueError("protocol.pipeline gives no squares: write dict(type='ResizeSquare', scale=224) in it")
        self.k, self.temperature, self.memory_size, self.seed = k, temperature, memory_size, seed
        self.num_classes, self.ignored, self.img_size = num_classes, list(ignored), crop.side
        self._opened: dict[str, tuple[MaskFolders, MaskFolders]] = {}

    def settings(self, context: EvalContext) -> dict[str, Any]:
        """Return neighbours, temperature and what the memory depends on."""
        keys = ("k", "temperature", "memory_size", "seed", "num_classes", "ignored")
        return {key: getattr(self, key) for key in keys}

    def open_parts(self, name: str, config: dict[str, Any], context: EvalContext) -> list[Split]:
        """List images and masks of both parts, and check pairs, sizes and some labels.

        Raises:
            DataError: See :class:`~proteus.datasets.MaskFolders`.
        """
        config = {"num_classes": self.num_classes, "ignore_index": self.ignored, **config}
        train, val = (DATASETS.build({**config, "split": split}) for split in ("train", "val"))
        self._opened[name] = train, val
        return [open_masks(part, config, range(len(part))) for part in (train, val)]

    def extract_parts(self, name: str, config: dict[str, Any], context: EvalContext) -> None:
        """Extract the memory and the queries."""
        self._tables(name, config, context)

    def evaluate(self, name: str, config: dict[str, Any], context: EvalContext) -> dict[str, Any]:
        """Segment the validation images of one data set.

        Raises:
            DataError: A mask has an unknown label, or all masks have one class.
            ValueError: There are fewer labelled patches than neighbours.
        """
        train, val = self._opened[name]
        found = train.num_classes is None
        table, queries, classes = self._tables(name, config, context)
        width = table.features.shape[2] - classes
        rows = np.asarray(table.features).reshape(-1, width + classes)
        rows = rows[rows[:, width:].any(axis=1)]  # the rest fills images with few labelled patches
        if len(rows) < self.k:
            raise ValueError(
                f"{name}: {len(rows)} labelled patches in the memory, fewer than protocol.k={self.k}: write at most "
                f"{len(rows)} neighbours"
            )
        confusion, picture = self._segment(name, rows[:, :width], rows[:, width:], queries.features, val, context)
        return {
            "mIoU": mean_iou(confusion),
            "pixel accuracy": 100 * float(confusion.trace() / confusion.sum()),
            "classes": f"{classes} (found)" if found else classes,
            "train / val images": f"{len(train):,} / {len(val):,}",
            "memory": f"{len(rows):,} patches",
            **({"examples": picture} if picture else {}),
        }

    def summarise(self, result: ProtocolResult) -> None:
        """Add the pictures and the settings."""
        result.pictures = [row["examples"] for row in result.rows.values() if "examples" in row]
        result.notes.append(
            f"{self.img_size} px, k = {self.k}, temperature {self.temperature}, memory of at most "
            f"{self.memory_size:,} patches, seed {self.seed}"
        )

    def _tables(self, name: str, config: dict[str, Any], context: EvalContext) -> tuple[Table, Table, int]:
        """Return memory rows ``(N, P, D + C)``, query rows ``(M, h * w, D)`` and the number of classes."""
        train, val = self._opened[name]
        classes = find_num_classes([train, val]) if train.num_classes is None else train.num_classes
        if classes < 2:
            raise DataError(f"{name}: the masks of {train.data_root} have one class, 0; mIoU needs two or more")
        train.num_classes = val.num_classes = classes
        store, grid = context.store, context.store.grid(self.img_size)
        memory = PatchMemory(train, grid, self.memory_size, self.seed)
        settings = {"grid": grid, "patches": memory.per_image, "seed": self.seed, "num_classes": classes}
        ignored = {"ignore_index": train.ignored, "shift": train.shift}
        chosen = open_masks(train, {**config, **settings, **ignored}, [int(index) for index in memory.chosen], memory)
        table = store.table(chosen, f"{name}-memory", "patches", self.mean, self.std)
        images = open_masks(val, config, range(len(val)))
        return table, store.table(images, f"{name}-queries", "patches", self.mean, self.std), classes

    def _segment(
        self,
        name: str,
        memory: np.ndarray,
        labels: np.ndarray,
        queries: np.ndarray,
        val: MaskFolders,
        context: EvalContext,
    ) -> tuple[np.ndarray, str | None]:
        """Return the confusion matrix of all pixels, and the name of the picture of some images."""
        classes, grid = labels.shape[1], context.store.grid(self.img_size)
        confusion = np.zeros((classes, classes), np.int64)
        shown = set(np.linspace(0, len(val) - 1, min(_EXAMPLES, len(val))).astype(int).tolist())
        examples = []
        at_once = max(1, _QUERIES_AT_ONCE // queries.shape[1])
        refresh = 0.5 if sys.stderr.isatty() else 30.0
        with tqdm(total=len(val), desc=f"{name}: segmentation", unit="img", mininterval=refresh) as bar:
            for start in range(0, len(val), at_once):
                block = np.asarray(queries[start : start + at_once])
                shares = transfer_labels(
                    memory, labels, block.reshape(-1, block.shape[2]), self.k, self.temperature, context.store.device
                ).reshape(*block.shape[:2], classes)
                for index, own in enumerate(shares, start):
                    truth = val.labels(index)
                    predicted = upsample_classes(own, grid, (truth.shape[0], truth.shape[1]))
                    confusion += confusion_matrix(predicted, truth, classes)
                    if index in shown:
                        examples.append((rgb_array(val.pairs[index][0]), predicted, truth))
                    bar.update()
        if context.draw is None:
            return confusion, None
        picture = f"{self.name}/{name}.png"
        context.draw(examples, classes, context.out / picture)
        return confusion, picture
