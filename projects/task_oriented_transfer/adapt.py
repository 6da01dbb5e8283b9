r"""Step (a): adapt a frozen teacher to the target task, by logistic regression on its cls tokens.

    python -m projects.task_oriented_transfer.adapt --backbone FILE --train CONFIGS/eurosat/finetune.py \
        --test CONFIGS/eurosat/finetune.py --out work_dirs/eurosat/adapted.pth

The output is a checkpoint that the target's teacher_finetune.py can start from, and that its task_oriented.py can use
as teacher, with or without fine-tuning.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from projects.task_oriented_transfer.arguments import add_backbone_arguments, backbone_of, labelled_images, reading
from projects.task_oriented_transfer.embedding import embed
from proteus.checkpoints.export import check_written
from proteus.cli.run import ToolParser, non_negative_int, out_file, positive_int, run
from proteus.datasets import CorruptImageError, LabelledFolder, ProxySet
from proteus.models.backbones import BackboneSpec
from proteus.structures import DataError
from proteus.utils import atomic_path

PENALTIES = np.logspace(-4, 2, 7)
"""Values of C compared by cross-validation."""
_FOLDS = 5


def fit_head(
    features: NDArray[np.float32], labels: Sequence[str] | NDArray[np.int64], seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Fit a multinomial logistic regression, with C selected by log-likelihood in stratified cross-validation.

    Features are standardised for the fit; the returned layer includes this, and takes them as they are.

    Args:
        features: ``(N, D)``.
        labels: Class of each.
        seed: Seed of the folds.

    Returns:
        Weight ``(K, D)`` and bias ``(K,)``, with classes in sorted order, and the selected C.

    Raises:
        DataError: There are fewer than two classes, or a class with fewer than two images.
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, StratifiedKFold
    except ImportError as error:
        raise ImportError(
            f"{error}; a head on a frozen teacher needs scikit-learn: pip install '.[projects]'"
        ) from error
    names, counts = np.unique(np.asarray(labels), return_counts=True)
    if len(names) < 2 or counts.min() < 2:
        rarest = f", class {names[counts.argmin()]} has {counts.min()}" if len(names) else ""
        raise DataError(f"{len(names)} classes{rarest}: a head needs at least two classes, and two images of each")
    values = features.astype(np.float64)
    mean, std = values.mean(0), values.std(0)
    std = np.where(std > 0, std, 1)
    folds = StratifiedKFold(min(_FOLDS, int(counts.min())), shuffle=True, random_state=seed)
    # By likelihood, since the student learns probabilities; by accuracy, several values often tie.
    search = GridSearchCV(LogisticRegression(max_iter=500), {"C": PENALTIES}, cv=folds, scoring="neg_log_loss")
    search.fit((values - mean) / std, labels)
    model = search.best_estimator_
    weight, bias = model.coef_, model.intercept_
    if len(names) == 2:
        # For two classes scikit-learn has one row, the difference of the two scores.
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    weight = weight / std
    return weight, bias - weight @ mean, float(search.best_params_["C"])


def adapted(spec: BackboneSpec, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> dict[str, torch.Tensor]:
    """Return weights of a ``Distiller`` that has the teacher as its student, and the objective ``task``."""
    state = {f"student.{name}": value for name, value in spec.build().state_dict().items()}
    head = {"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()}
    return {**state, **{f"objectives.task.head.{name}": value for name, value in head.items()}}


def labels_of(images: ProxySet) -> NDArray[np.int64]:
    """Return the class of each image without reading the images."""
    return np.array([images.get_data_info(index)["label"] for index in range(len(images))], np.int64)


def check_classes(train: ProxySet, test: ProxySet | None) -> None:
    """Check that each class has a training image, and that training and test set have the same classes.

    Raises:
        DataError: A check fails; the message names a class.
    """
    names = _classes(train)
    missing = sorted(set(range(len(names))) - set(labels_of(train).tolist()))
    if missing:
        raise DataError(f"{train.data_root} has no training image of class {names[missing[0]]}")
    if test is not None and (other := _classes(test)) != names:
        differing = sorted(set(other) ^ set(names))
        raise DataError(
            f"{test.data_root} and {train.data_root} have different classes, first {differing[0]}; labels are the "
            "positions of the folders, so both need the same"
        )


def parse_args(arguments: Sequence[str] | None = None) -> Namespace:
    """Read the command line."""
    parser = ToolParser(description=__doc__.splitlines()[0])
    add_backbone_arguments(parser)
    parser.add_argument(
        "--train", required=True, type=Path, help="folder with CLASS/IMAGE, or config to take the labelled images from"
    )
    parser.add_argument("--labels-per-class", type=positive_int, help="default: all of a folder, or the config's")
    parser.add_argument(
        "--seed", type=non_negative_int, help="seed of their selection (default: 0 for a folder, or the config's)"
    )
    parser.add_argument("--test", type=Path, help="folder, or config with test images, to report the accuracy on")
    parser.add_argument("--out", required=True, type=out_file, help="checkpoint to write")
    return parser.parse_args(arguments)


def main(args: Namespace) -> int:
    """Extract features, fit the head, report the accuracy and write the checkpoint."""
    spec = backbone_of(args)
    train = labelled_images(args.train, "train", args.labels_per_class, args.seed, args.cfg_options)
    test = labelled_images(args.test, "val", cfg_options=args.cfg_options) if args.test else None
    check_classes(train, test)
    try:
        table = embed(spec, train, **reading(args))
        weight, bias, penalty = fit_head(table.features, labels_of(train), args.seed or 0)
        right = _accuracy(embed(spec, test, **reading(args)).features, labels_of(test), weight, bias) if test else None
    except CorruptImageError as error:
        raise DataError(f"an image cannot be read, so no head was fitted: {error}") from error
    state = adapted(spec, weight, bias)
    check_written(state, args.out)
    with atomic_path(args.out) as temporary, temporary.open("wb") as opened:
        torch.save({"state_dict": state}, opened)
    print(f"{args.out}: {len(weight)} classes from {len(train)} images, C={penalty:g}")
    if right is not None:
        print(f"accuracy of the adapted teacher: {right:.2f}")
    return 0


def _accuracy(
    features: NDArray[np.float32], labels: NDArray[np.int64], weight: NDArray[np.float64], bias: NDArray[np.float64]
) -> float:
    return float(100 * np.mean((features @ weight.T + bias).argmax(1) == labels))


def _classes(images: ProxySet) -> list[str]:
    if isinstance(images, LabelledFolder):
        return images.classes_found
    return [str(number) for number in range(images.num_classes)]


if __name__ == "__main__":
    run(main, parse_args())
