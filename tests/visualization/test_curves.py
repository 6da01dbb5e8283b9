import json

import pytest
from PIL import Image

from proteus.visualization import draw_curves


def write_scalars(work_dir, start: str, lines: list[dict]) -> None:
    folder = work_dir / start / "vis_data"
    folder.mkdir(parents=True)
    (folder / "scalars.json").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_latest_start_is_drawn(tmp_path, monkeypatch) -> None:
    write_scalars(tmp_path, "20260101_000000", [{"iter": 1, "step": 1, "loss_token": 9.0}])
    write_scalars(
        tmp_path,
        "20260102_000000",
        [
            {"iter": 1, "step": 1, "loss_token": 3.0, "loss_patch": 2.0},
            {"iter": 2, "step": 2, "loss_token": 1.0, "loss_patch": 1.5},
            {"step": 2, "centered_cosine/cls": 0.4},
        ],
    )
    drawn = {}
    monkeypatch.setattr(
        "matplotlib.axes.Axes.plot", lambda self, x, y, label, **style: drawn.update({label: (list(x), list(y))})
    )
    draw_curves(tmp_path, tmp_path / "curves.png")
    assert drawn == {"patch": ([1, 2], [2.0, 1.5]), "token": ([1, 2], [3.0, 1.0]), "cls": ([2], [0.4])}


def test_the_picture_is_written(tmp_path) -> None:
    write_scalars(tmp_path, "a", [{"iter": i, "step": i, "loss_token": 1 / i} for i in range(1, 5)])
    assert Image.open(draw_curves(tmp_path, tmp_path / "curves.png")).size[0] > 400


def test_a_run_without_scalars_raises(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="LocalVisBackend"):
        draw_curves(tmp_path, tmp_path / "curves.png")


def test_online_evaluation_is_drawn_in_a_second_row(tmp_path, monkeypatch) -> None:
    write_scalars(tmp_path, "a", [{"iter": 1, "step": 1, "loss_token": 3.0}])
    metrics = {"unexplained_variance_token": 0.9, "effective_rank_cls_student": 8.0, "effective_rank_cls_teacher": 30.0}
    lines = [
        {"iteration": 0, **metrics, "trained_on/knn_20": 12.0, "seconds": 1.0},
        {"iteration": 5, **metrics, "unexplained_variance_token": None, "trained_on/knn_20": 50.0, "seconds": 1.0},
    ]
    (tmp_path / "online_eval.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    drawn = {}
    monkeypatch.setattr(
        "matplotlib.axes.Axes.plot", lambda self, x, y, label, **style: drawn.update({label: (list(x), list(y))})
    )
    draw_curves(tmp_path, tmp_path / "curves.png")
    assert drawn == {
        "token": ([0], [0.9]),  # the loss and the fraction of variance unexplained; the latter was NaN at 5
        "cls student": ([0, 5], [8.0, 8.0]),
        "cls teacher": ([0, 5], [30.0, 30.0]),
        "k = trained on: 20": ([0, 5], [12.0, 50.0]),
    }
