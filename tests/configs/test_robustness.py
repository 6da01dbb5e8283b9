from pathlib import Path

import pytest

from proteus.apis import load_config
from proteus.datasets.robustness import subset_classes
from proteus.registry import DATASETS, METRICS

FOLDER = Path(__file__).parents[2] / "configs/robustness"


@pytest.mark.parametrize("letter", ["a", "r"])
def test_a_and_r_predict_among_their_classes(letter: str) -> None:
    cfg = load_config(FOLDER / f"imagenet-{letter}.py", {})
    assert cfg.test_dataloader.dataset.variant == letter
    (evaluator,) = cfg.test_evaluator
    assert evaluator.classes == f"imagenet_{letter}"
    metric = METRICS.build({**evaluator})
    assert tuple(metric.classes.tolist()) == subset_classes(f"imagenet_{letter}")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("imagenet*.py")), ids=lambda path: path.stem)
def test_configs_test_the_probe_without_training(path: Path) -> None:
    cfg = load_config(path, {})
    probe = load_config(FOLDER.parent / "linear_probe/vit-s.py", {})
    assert {**cfg.model, "backbone": None} == {**probe.model, "backbone": None}
    assert not {"train_dataloader", "train_cfg", "val_dataloader", "val_cfg"} & set(cfg)
    assert DATASETS.get(cfg.test_dataloader.dataset.type) is not None
    assert METRICS.get(cfg.test_evaluator[0].type) is not None
    names = [step.type for step in cfg.test_dataloader.dataset.pipeline]
    # ImageNet-C's images have their final size, for which corruptions are made.
    assert ("ResizeEdge" in names) == (path.stem != "imagenet-c")
    assert ("Corrupt" in names) == (path.stem == "imagenet-c_generated")
    if "Corrupt" in names:
        assert names.index("CenterCrop") + 1 == names.index("Corrupt") < names.index("ResizeSquare")
