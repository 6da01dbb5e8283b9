r"""Step (a): teach a frozen teacher the target task, by a logistic regression on its cls tokens.

    python -m projects.task_oriented_transfer.adapt --backbone FILE --train data/eurosat/train --labels-per-class 10 \
        --test data/eurosat/test --out work_dirs/eurosat/adapted.pth

The file is a checkpoint of configs/eurosat/teacher_finetune.py, which may go on from it, and the teacher of
task_oriented.py, whether or not it did.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from projects.task_oriented_transfer.embedding import Embedded, embed
from proteus.apis.cli import run
from proteus.datasets import CorruptImageError
from proteus.models.backbones import BackboneSpec, locate_backbone
from proteus.structures import DataError

PENALTIES = np.logspace(-4, 2, 7)
"""Values of C that are compared by cross-validation."""
_FOLDS = 5


def fit_head(
    features: NDArray[np.float32], labels: Sequence[str], seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Fit a multinomial logistic regression, its penalty chosen by the log-likelihood in stratified
    cross-validation.

    Features are standardised for the fit, which the returned layer undoes: it takes them as they are.

    Args:
        features: ``(N, D)``.
        labels: The class of each.
        seed: Of the folds.

    Returns:
        Weight ``(K, D)``, bias ``(K,)``, classes in the order of their names, and the chosen C.

    Raises:
        DataError: There are fewer than two classes, or a class with fewer than two images.
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, StratifiedKFold
    except ImportError as error:
        raise ImportError(f"{error}; a head on a frozen teacher needs scikit-learn: pip install '.[eval]'") from error
    names, counts = np.unique(np.asarray(labels), return_counts=True)
    if len(names) < 2 or counts.min() < 2:
        rarest = f", class {names[counts.argmin()]} has {counts.min()}" if len(names) else ""
        raise DataError(
            f"{len(names)} classes{rarest}: a head needs two classes or more, and two images of each or more"
        )
    values = features.astype(np.float64)
    mean, std = values.mean(0), values.std(0)
    std = np.where(std > 0, std, 1)
    folds = StratifiedKFold(min(_FOLDS, int(counts.min())), shuffle=True, random_state=seed)
    # By the likelihood: the student learns probabilities, and by accuracy the flattest ones often tie for the best.
    search = GridSearchCV(LogisticRegression(max_iter=500), {"C": PENALTIES}, cv=folds, scoring="neg_log_loss")
    search.fit((values - mean) / std, labels)
    model = search.best_estimator_
    weight, bias = model.coef_, model.intercept_
    if len(names) == 2:
        # scikit-learn keeps one row for two classes: the second's score less the first's.
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    weight = weight / std
    return weight, bias - weight @ mean, float(search.best_params_["C"])


def adapted(spec: BackboneSpec, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> dict[str, torch.Tensor]:
    """The weights of the ``Distiller`` whose student is the teacher, with the objective ``task``."""
    state = {f"student.{name}": value for name, value in spec.build().state_dict().items()}
    head = {"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()}
    return {**state, **{f"objectives.task.head.{name}": value for name, value in head.items()}}


def classes_of(table: Embedded) -> list[str]:
    """The first folder of each image's name.

    Raises:
        DataError: An image is in no class's folder.
    """
    for item in table.items:
        if "/" not in item.name:
            raise DataError(f"{table.root / item.name} is in no class's folder: expected {table.root}/CLASS/IMAGE")
    return [item.name.partition("/")[0] for item in table.items]


def parse_args(arguments: Sequence[str] | None = None) -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", required=True, help="as for tools/evaluate.py: a weight file, or a timm name")
    parser.add_argument("--arch", help="its name in timm, for a weight file that does not tell (CNNs)")
    parser.add_argument("--mean", nargs=3, type=float, help="channel means it was trained with, if they are not known")
    parser.add_argument("--std", nargs=3, type=float, help="channel standard deviations, likewise")
    parser.add_argument("--train", required=True, type=Path, help="labelled images, CLASS/IMAGE")
    parser.add_argument("--labels-per-class", type=int, help="take only so many of each class (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="which of them (default: %(default)s)")
    parser.add_argument("--test", type=Path, help="labelled images to report the accuracy on")
    parser.add_argument("--img-size", type=int, default=224, help="side in pixels (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=0, help="processes that read images")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", required=True, type=Path, help="checkpoint to write")
    return parser.parse_args(arguments)


def main(args: Namespace) -> int:
    """Extract, fit, report, write."""
    spec = with_statistics(locate_backbone(args.backbone, args.arch, args.img_size), args.mean, args.std)
    options = {
        "img_size": args.img_size,
        "batch_size": args.batch_size,
        "num_workers": args.workers,
        "device": args.device,
    }
    part = {"images_per_class": args.labels_per_class, "subset_seed": args.seed} if args.labels_per_class else {}
    try:
        train = embed(spec, args.train, **options, **part)
        test = embed(spec, args.test, **options) if args.test else None
    except CorruptImageError as error:
        raise DataError(f"an image cannot be read, and no head is fitted without it: {error}") from error
    labels = classes_of(train)
    weight, bias, penalty = fit_head(train.features, labels, args.seed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": adapted(spec, weight, bias)}, args.out)
    print(f"{args.out}: {len(weight)} classes from {len(labels)} images, C={penalty:g}")
    if test is not None:
        print(f"accuracy of the adapted teacher: {accuracy(test, weight, bias, sorted(set(labels))):.2f}")
    return 0


def accuracy(table: Embedded, weight: NDArray[np.float64], bias: NDArray[np.float64], classes: list[str]) -> float:
    """Top-1 accuracy of a head in per cent.

    Raises:
        DataError: The images have a class that the head does not know.
    """
    truth = classes_of(table)
    unknown = sorted(set(truth) - set(classes))
    if unknown:
        raise DataError(f"{table.root} has images of class {unknown[0]}, of which there was none to learn from")
    predicted = (table.features @ weight.T + bias).argmax(1)
    return float(100 * np.mean([classes[row] == label for row, label in zip(predicted, truth, strict=True)]))


def with_statistics(spec: BackboneSpec, mean: Sequence[float] | None, std: Sequence[float] | None) -> BackboneSpec:
    """Replace the statistics that a backbone is fed with, where they are given.

    Raises:
        DataError: One of the two is missing.
    """
    if (mean is None) != (std is None):
        raise DataError("--mean and --std go together: give both")
    if mean is None or std is None:
        return spec
    return BackboneSpec(spec.name, spec.config, tuple(mean), tuple(std), spec.digest, spec.note, spec.seed)


if __name__ == "__main__":
    run(main, parse_args())
