"""Embedding on several processes; ``tests/cli/test_embed.py`` starts two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runs import write_images

from proteus.apis.embed import embed
from proteus.apis.embed_processes import embed_on
from proteus.cli import embed as cli
from proteus.structures import UserError

NAME = "random:test_vit"
OPTIONS: dict[str, Any] = {"img_size": 32, "batch_size": 5, "workers": 0, "device": "cpu"}


def test_the_command_of_several_processes_has_every_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_images(tmp_path / "images", 13)
    ran: list[tuple[int, bool]] = []

    def run_on(processes: int, argv: list[str], cpu: bool) -> int:
        ran.append((processes, cpu))
        assert argv[:3] == ["embed", "--launcher", "pytorch"]
        return cli.main(cli.parse_args(argv[3:]))

    monkeypatch.setattr("proteus.apis.embed_processes.run_on", run_on)
    names = sorted((str(path) for path in images.rglob("*.*")), reverse=True)
    options = {"tokens": "mean", "img-size": 32, "batch-size": 5, "workers": 0, "device": "cpu", "arch": None}
    two = embed_on(2, NAME, names, tmp_path / "two.npy", options)
    one = embed(NAME, names, tmp_path / "one.npy", tokens="mean", **OPTIONS)
    assert (tuple(two["shape"]), two["failed"]) == (one.shape, one.failed)
    assert (tmp_path / "two.npy").read_bytes() == (tmp_path / "one.npy").read_bytes()
    assert (tmp_path / "two.files.txt").read_text().splitlines() == names
    assert ran == [(2, False)]
    monkeypatch.setattr("proteus.apis.embed_processes.run_on", lambda *arguments: 2)
    with pytest.raises(UserError, match="embedding on 2 processes ended with status 2; see the error above"):
        embed_on(2, NAME, tmp_path / "absent", tmp_path / "three.npy", options)
