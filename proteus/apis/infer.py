"""``proteus infer``: predict for images and videos."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from PIL import Image
from tqdm import tqdm

from proteus.apis.predictors import Classifier, DepthPredictor, Segmenter, build_predictor
from proteus.apis.run_state import PICTURES_LOCK
from proteus.structures import CorruptImageError, DataError
from proteus.utils import exclusive, write_bytes
from proteus.utils.files import describe_unread, read_lines, unread_extension, walk
from proteus.utils.images import EXTENSIONS, open_rgb
from proteus.utils.pictures import add_ending, picture_names, save_picture

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
_TABLE = "predictions.csv"


def infer(
    cfg: Config,
    checkpoint: str | Path,
    source: str | Path,
    out: str | Path,
    raw: bool = False,
    device: str | None = None,
    classes: str | Path | None = None,
    max_depth: float | None = None,
) -> list[str]:
    """Predict for an image, for all images below a folder, or for a video.

    Segmentors write overlays, depth estimators depth maps with a colour bar: one picture per image, in ``out`` at the
    same relative path, or one video. Classifiers write ``predictions.csv`` with the five most probable classes of each
    image or frame.

    Args:
        cfg: A loaded config.
        checkpoint: Its training checkpoint.
        source: Image, folder of images, or video. EXIF orientation is applied.
        out: Folder to write to.
        raw: Also write raw predictions to ``out/raw``: PNGs of class indices, NPYs of metres (float32) or of class
            probabilities.
        device: Device to compute on; by default a GPU if there is one.
        classes: File with one class name per line, for segmentors and classifiers.
        max_depth: Metres at the upper end of the colour scale of depth maps.

    Returns:
        A line for each file that could not be read; all others are done.

    Raises:
        ConfigError: The config does not fit.
        CheckpointError: The checkpoint does not fit the config.
        DataError: ``source`` is neither an image, a folder of images nor a video, or ``classes`` do not fit.
        FileNotFoundError: ``source`` or ``classes`` does not exist.
        LockedError: Another process writes predictions to ``out``.
    """
    source, out = Path(source), Path(out)
    images = _images(source, out)
    names = None if classes is None else _lines(Path(classes))
    predictor = build_predictor(cfg, checkpoint, device, names, max_depth)
    remedy = "wait for it, or name another folder with --out"
    with exclusive(out, "predictions", name=PICTURES_LOCK, remedy=remedy), _table(predictor, out) as table:
        run = _Run(predictor, out, raw, table)
        return run.images(source, images) if images is not None else run.video(source)


@contextmanager
def _table(predictor: Segmenter | DepthPredictor | Classifier, out: Path) -> Iterator[Any]:
    """Open the CSV file of a classifier; None for other predictors."""
    if not isinstance(predictor, Classifier):
        yield None
        return
    with (out / _TABLE).open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        yield csv.writer(file)


class _Run:
    """Predictions of one model for one source."""

    def __init__(
        self, predictor: Segmenter | DepthPredictor | Classifier, out: Path, raw: bool, table: Any = None
    ) -> None:
        self.predictor, self.out, self.raw, self.table = predictor, out, raw, table
        self.rows = 0

    def images(self, source: Path, images: list[Path]) -> list[str]:
        """Predict for images one by one; print and skip those that cannot be read."""
        failed = []
        root = source if source.is_dir() else source.parent
        names = picture_names(images, root)
        for path in tqdm(images, "predicting", unit="image", disable=len(images) < 2):
            try:
                image = open_rgb(path)
            except CorruptImageError as error:
                failed.append(str(error))
                tqdm.write(f"error: {error}", file=sys.stderr)
                continue
            name = names[str(path)]
            prediction = self._predict(image, str(path), name)
            if not isinstance(self.predictor, Classifier):
                save_picture(self.predictor.draw(image, prediction), add_ending(self.out, name, ".png"))
        return failed

    def video(self, source: Path) -> list[str]:
        """Predict for a video frame by frame, in constant memory."""
        capture = cv2.VideoCapture(str(source))
        announced = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
        writer, done = None, 0
        for image in tqdm(_frames(capture), "predicting", announced if announced > 0 else None, unit="frame"):
            prediction = self._predict(image, f"{source}#{done:06}", Path(source.stem, f"{done:06}"))
            if not isinstance(self.predictor, Classifier):
                frame = np.asarray(self.predictor.frame(image, prediction))[..., ::-1]
                frame = frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]  # codecs need even sides
                writer = writer or _writer(self.out / f"{source.stem}.mp4", rate, frame.shape)
                writer.write(np.ascontiguousarray(frame))
            done += 1
        capture.release()
        if writer is not None:
            writer.release()
        if not done:
            raise DataError(f"{source} cannot be read as a video: OpenCV finds no frame in it")
        return [f"{source}: {done} of {announced} frames can be read"] if done < announced else []

    def _predict(self, image: Image.Image, path: str, name: Path) -> np.ndarray:
        prediction = self.predictor.predict(image, path)
        if isinstance(self.predictor, Classifier):
            best = self.predictor.best(prediction)
            if not self.rows:
                columns = [f"{column}_{rank}" for rank in range(1, len(best) + 1) for column in ("class", "score")]
                self.table.writerow(["file", *columns])
            self.table.writerow([path, *(cell for label, score in best for cell in (label, f"{score:.6f}"))])
        if self.raw and isinstance(self.predictor, Segmenter):
            save_picture(Image.fromarray(prediction), add_ending(self.out / "raw", name, ".png"))
        elif self.raw:
            file = BytesIO()
            np.save(file, prediction)
            write_bytes(add_ending(self.out / "raw", name, ".npy"), file.getvalue(), durable=False)
        self.rows += 1
        return prediction


def _images(source: Path, out: Path) -> list[Path] | None:
    """Return the images of a source; None for a video."""
    if source.is_file():
        if source.suffix.lower() in VIDEOS:
            return None
        if source.suffix.lower() in EXTENSIONS:
            return [source]
        if extension := unread_extension(source.name):
            raise DataError(f"{source}: {describe_unread({extension: 1})}")
        raise DataError(
            f"{source} has the suffix of neither an image ({' '.join(EXTENSIONS)}) nor a video ({' '.join(VIDEOS)})"
        )
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such image, folder or video")
    # Skip pictures of an earlier call.
    found = walk(source, EXTENSIONS + VIDEOS, skip=[out])
    images = [source / name for name in found.files if name.lower().endswith(EXTENSIONS)]
    for line in found.skipped:
        tqdm.write(f"{source}: {line}", file=sys.stderr)
    if found.unreadable:
        tqdm.write(f"{source}: folders that cannot be read: {', '.join(found.unreadable[:5])}", file=sys.stderr)
    if len(found.files) > len(images):
        count = len(found.files) - len(images)
        tqdm.write(f"{source}: skipping {count} videos; pass them one at a time", file=sys.stderr)
    if not images:
        raise DataError(f"{source} has no images ({' '.join(EXTENSIONS)}){found.hint}")
    return images


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"--classes {path}: no such file")
    return read_lines(path)


def _frames(capture: Any) -> Iterator[Image.Image]:
    while True:
        read, frame = capture.read()
        if not read:
            return
        yield Image.fromarray(np.ascontiguousarray(frame[..., ::-1]))


def _writer(path: Path, rate: float, shape: tuple[int, ...]) -> Any:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (shape[1], shape[0]))
    if not writer.isOpened():
        raise DataError(f"{path} cannot be written: this OpenCV has no encoder for mp4v")
    return writer
