"""k nearest neighbours on frozen features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proteus.evaluation.classifiers.knn import knn_predict
from proteus.evaluation.input_checks import is_integer
from proteus.evaluation.protocols.protocol import EvalContext, SetProtocol
from proteus.evaluation.scores import mean_per_class, top1
from proteus.registry import PROTOCOLS


@PROTOCOLS.register_module()
class KNN(SetProtocol):
    """DINO's weighted k-NN: cosine similarity, votes weighted by ``exp(similarity / temperature)``.

    The training and validation images are the neighbours of the test images.

    Args:
        ks: Numbers of neighbours; one search serves all.
        temperature: Temperature of the votes' weights.
        **set_options: ``sets``, ``pipeline``, ``mean`` and ``std`` of :class:`SetProtocol`.

    Raises:
        ValueError: A number of neighbours is not a positive integer, or the temperature not a positive number.
    """

    name = "knn"
    title = "k-NN"
    unit = "accuracy, %"

    def __init__(self, ks: Sequence[int] = (10, 20), temperature: float = 0.07, **set_options: Any) -> None:
        super().__init__(**set_options)
        if isinstance(ks, str) or not isinstance(ks, Sequence) or not ks or not all(map(is_integer, ks)) or min(ks) < 1:
            raise ValueError(f"protocol.ks={ks!r}: write numbers of neighbours, such as (10, 20)")
        if type(temperature) not in (int, float) or not 0 < temperature < float("inf"):
            raise ValueError(f"protocol.temperature={temperature!r}: write a positive number, such as 0.07")
        self.ks = tuple(ks)
        self.temperature = temperature

    def settings(self, context: EvalContext) -> dict[str, Any]:
        """Return neighbours and temperature."""
        return {"ks": self.ks, "temperature": self.temperature}

    def evaluate(self, name: str, config: dict[str, Any], context: EvalContext) -> dict[str, Any]:
        """Classify the test images of one data set.

        Raises:
            ValueError: Its images have several labels each, or there are fewer images than neighbours.
        """
        dataset = context.split(config, "trainval").dataset
        if dataset.metric == "map11":
            raise ValueError(f"{dataset.title}: k-NN needs one label per image; remove the set from protocol.sets")
        train_images = len(context.split(config, "trainval").names)
        if max(self.ks) > train_images:
            raise ValueError(
                f"{dataset.title} has {train_images} training images, fewer than protocol.ks={self.ks}: write at most "
                f"{train_images} neighbours"
            )
        train, test = (self.table(name, config, part, context) for part in ("trainval", "test"))
        predicted = knn_predict(
            train.cls,
            train.labels,
            test.cls,
            self.ks,
            self.temperature,
            dataset.num_classes,
            device=context.store.device,
        )
        if dataset.metric == "top1":
            scores = {f"k = {k}": top1(predicted[k], test.labels) for k in self.ks}
        else:
            scores = {f"k = {k}": mean_per_class(predicted[k], test.labels, dataset.num_classes) for k in self.ks}
        return {**scores, "metric": dataset.metric, "train": len(train.labels), "test": len(test.labels)}
