"""``proteus embed``: on one process and on two, with an image that cannot be read."""

from __future__ import annotations

from pathlib import Path

from runs import tool, write_images

OPTIONS = [
    "--backbone",
    "random:test_vit",
    "--img-size",
    "32",
    "--batch-size",
    "3",
    "--workers",
    "0",
    "--device",
    "cpu",
]


def test_two_ranks_write_the_rows_of_one_in_order_and_list_what_cannot_be_read(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 13)
    broken = images / "c/broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff")
    for ranks, name in ((1, "one"), (2, "two")):
        done = tool("embed", "--data", images, "--out", tmp_path / f"{name}.npy", *OPTIONS, ranks=ranks)
        assert done.returncode == 1, done.stderr
        assert done.stdout == f"{tmp_path / name}.npy: 13 x 64, float32\n"
        assert done.stderr.count(f"1 could not be read:\n{broken} (") == 1
    for ending in ("npy", "files.txt", "about.json"):
        assert (tmp_path / f"two.{ending}").read_bytes() == (tmp_path / f"one.{ending}").read_bytes()
