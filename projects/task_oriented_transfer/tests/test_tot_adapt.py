import numpy as np
import pytest
import torch
from PIL import Image

from projects.task_oriented_transfer import adapt, classifier
from projects.task_oriented_transfer.arguments import backbone_of
from proteus.checkpoints import CheckpointError
from proteus.models import Distiller
from proteus.registry import MODELS
from proteus.structures import DataError, Features

STUDENT = {"type": "TimmBackbone", "arch": "resnet10t", "img_size": 32}


def clusters(classes=3, of_each=8, width=6, seed=0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(classes, width)) * [1, 100, 1, 0.01, 1, 1]
    labels = np.repeat(np.arange(classes), of_each)
    features = centres[labels] + 0.1 * generator.normal(size=(len(labels), width)) * [1, 100, 1, 0.01, 1, 0]
    return features.astype(np.float32), [f"class{label}" for label in labels]


@pytest.mark.parametrize("classes", [2, 3])
def test_head_includes_the_standardisation(classes):
    from sklearn.linear_model import LogisticRegression

    features, labels = clusters(classes)
    features = features.astype(np.float64)
    weight, bias, penalty = adapt.fit_head(features, labels)

    std = np.where(features.std(0) > 0, features.std(0), 1)
    scaled = (features - features.mean(0)) / std
    model = LogisticRegression(C=penalty, max_iter=500).fit(scaled, labels)
    scores = features @ weight.T + bias
    shares = np.exp(scores - scores.max(1, keepdims=True))
    np.testing.assert_allclose(shares / shares.sum(1, keepdims=True), model.predict_proba(scaled), atol=1e-5)
    assert weight.shape == (classes, 6)
    assert (scores.argmax(1) == np.repeat(np.arange(classes), 8)).all()


@pytest.mark.parametrize(("labels", "message"), [(["a"] * 4, "1 classes"), (["a", "a", "a", "b"], "class b has 1")])
def test_too_few_labels_are_rejected(labels, message):
    with pytest.raises(DataError, match=message):
        adapt.fit_head(np.eye(4, dtype=np.float32), labels)


@pytest.fixture
def adapted(tmp_path, capsys):
    """A random ResNet, adapted by the command to separate two colours."""
    for part in ("train", "test"):
        for name, colour in (("dark", 40), ("light", 210)):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (40, 40), (colour + number, colour, colour)).save(folder / f"{number}.png")
    arguments = ["--backbone", "random:resnet10t", "--img-size", "32", "--device", "cpu", "--labels-per-class", "3"]
    files = ["--train", tmp_path / "train", "--test", tmp_path / "test", "--out", tmp_path / "adapted.pth"]
    adapt.main(adapt.parse_args([str(word) for word in [*arguments, *files]]))
    return tmp_path / "adapted.pth"


def test_output_is_a_fine_tuning_checkpoint_and_a_teacher(adapted, capsys):
    assert "accuracy of the adapted teacher: 100.00" in capsys.readouterr().out
    tuned = Distiller({"type": "NoTeacher"}, STUDENT, {"task": {"type": "LabelObjective", "num_classes": 2}})
    tuned.load_state_dict(torch.load(adapted, weights_only=True)["state_dict"], strict=True)
    teacher = MODELS.build(
        {
            "type": "Teacher",
            "backbone": {**STUDENT, "checkpoint": str(adapted)},
            "classifier": {"type": "TaskClassifier", "num_classes": 2, "checkpoint": str(adapted)},
        }
    )
    images = torch.rand(4, 3, 32, 32)

    _, logits = teacher.classify(images)

    with torch.no_grad():
        student = tuned.eval().student(images)
        expected = tuned.objectives["task"].predict(student)["logits"]
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_heads_of_another_size_and_files_without_one_are_rejected(adapted, tmp_path):
    with pytest.raises(CheckpointError, match=r"head of 2 classes on width 512.*num_classes=2"):
        classifier.TaskClassifier(512, 10, adapted)
    torch.save({"state_dict": {"student.weight": torch.zeros(2)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"has no objectives\.task\.head\.weight and bias"):
        classifier.TaskClassifier(512, 10, tmp_path / "other.pth")


def test_the_classifier_reads_the_cls_token_of_the_last_block():
    layer = classifier.TaskClassifier(3, 2)
    features = Features(torch.randn(5, 3), torch.randn(5, 4, 3), (2, 2))

    torch.testing.assert_close(layer([features]), features.cls @ layer.linear.weight.T + layer.linear.bias)


def test_test_images_of_other_classes_are_rejected(adapted, tmp_path):
    (tmp_path / "test/dark").rename(tmp_path / "test/dusk")
    arguments = ["--backbone", "random:resnet10t", "--img-size", "32", "--device", "cpu"]
    files = ["--train", tmp_path / "train", "--test", tmp_path / "test", "--out", tmp_path / "again.pth"]

    with pytest.raises(DataError, match="have different classes, first dark"):
        adapt.main(adapt.parse_args([str(word) for word in [*arguments, *files]]))


def test_mean_without_std_is_rejected():
    arguments = ["--backbone", "random:resnet10t", "--mean", ".5", ".5", ".5", "--train", "x", "--out", "y"]

    with pytest.raises(DataError, match="--mean and --std go together"):
        backbone_of(adapt.parse_args(arguments))


def test_given_statistics_replace_known_ones():
    given = ["--mean", ".5", ".4", ".3", "--std", ".2", ".2", ".2"]
    arguments = ["--backbone", "random:resnet10t", "--train", "x", "--out", "y"]

    plain, replaced = (backbone_of(adapt.parse_args([*arguments, *more])) for more in ([], given))

    assert (replaced.mean, replaced.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    assert plain.mean != replaced.mean
    assert plain.digest == replaced.digest
