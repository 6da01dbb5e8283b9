"""The contenders of ``study.py``: a config file or a peer each, and the learning rates that are tried."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from proteus.structures import UserError

CONFIGS = Path(__file__).parent / "configs/study"
COMMON = CONFIGS / "common.py"

# Factors of four to five apart, from about the recipe's rate for AdamW in batches of 16, 1.6e-5, to a hundred times it.
# From a sliced start high rates destroy what is there; from a random one 600 steps at a low rate change little.
GRID = (2e-5, 1e-4, 5e-4, 2e-3)


@dataclass(frozen=True)
class Contender:
    """A way to get a student.

    Attributes:
        name: Name of the row, and of the config ``configs/study/<name>.py``.
        about: What it is, in a few words.
        rates: Peak learning rates to choose from; ``(None,)`` for that of the config, or of the peer.
        peer: Toolbox that trains it instead of Proteus.
        cls: Token that stands for the image: the cls token, or the mean of the patch tokens.
        trains: Whether the student is trained.
        group: Part of the table.
        side: Side of the images in pixels at which the student is evaluated; None for that of the study.
        seeded: Whether the student depends on the seed.
    """

    name: str
    about: str
    rates: tuple[float | None, ...] = GRID
    peer: str = ""
    cls: Literal["cls", "mean"] = "cls"
    trains: bool = True
    group: str = "contenders"
    side: int | None = None
    seeded: bool = True

    def seeds(self, count: int) -> range:
        """Return the seeds of its runs out of ``count``."""
        return range(count if self.seeded else 1)

    @property
    def config(self) -> Path:
        """Its config file."""
        return CONFIGS / f"{self.name}.py"


def _start(name: str, about: str, group: str = "contenders", seeded: bool = True) -> Contender:
    return Contender(name, about, rates=(None,), trains=False, group=group, seeded=seeded)


def _both(name: str, about: str, group: str) -> list[Contender]:
    """Make the rows of a method from a random and from a sliced start."""
    return [Contender(f"{start}-{name}", f"{about}; {start} start", group=group) for start in ("random", "sliced")]


CONTENDERS = (
    _start("random", "random weights, no training"),
    Contender("released", "the released recipe; random start"),
    Contender("default-random", "our three objectives, mild augmentation; random start"),
    _start("sliced", "slice of the teacher, no training", seeded=False),
    Contender("sliced-default", "as default-random; sliced start"),
    # Recipes, each with its own rate.
    Contender("plus-random", "hidden states, Muon, strong augmentation; random start", (None,)),
    Contender("plus-random-adamw", "plus-random with AdamW", (None,)),
    Contender("plus-sliced", "hidden states, Muon, strong augmentation; sliced start", (None,)),
    Contender("plus-sliced-adamw", "plus-sliced with AdamW", (None,)),
    Contender("plus-sliced-mild", "plus-sliced with mild augmentation", (None,)),
    Contender("lightly-train", "lightly-train 0.18, its own rate", (None,), "lightly-train", "mean", group="peers"),
    Contender("lightly-train-best", "lightly-train 0.18, best rate", GRID, "lightly-train", "mean", group="peers"),
    # Table 2 of the paper; its last row is default-random or sliced-default.
    *_both("token", "token objective", "table 2"),
    *_both("token-feature", "token and feature objectives", "table 2"),
    # docs/initialization.md; sliced itself is fitted on 2,048.
    *(
        _start(f"sliced-{views}", f"sliced, fitted on {views:,} views", "fitting views", seeded=False)
        for views in (64, 256, 1024, 4096, 8192)
    ),
    # docs/objectives.md
    *_both("relations", "with similarities between patches and to earlier images", "objectives"),
    *_both("patch-all", "patch objective on visible patches too", "objectives"),
    *_both("balanced", "cosine and smooth L1", "objectives"),
    *_both("standardized", "squared errors of standardised tokens", "objectives"),
    *_both("mixup", "mixed images", "objectives"),
    *_both("ema", "average of weights", "objectives"),
    *_both("hidden", "with the hidden states of all blocks", "objectives"),
    *_both("shift", "shifted views", "objectives"),
    *_both("muon", "Muon", "objectives"),
    Contender("random-bfloat16", "the teacher in bfloat16; random start", group="objectives"),
    Contender("random-resolution", "56 px for 60 % of the run, then 112 px; random start", group="objectives"),
    Contender("random-fixed-views", "four fixed views a picture, teacher cached; random start", group="objectives"),
    Contender("random-depth", "earlier blocks of the teacher first; random start", group="objectives"),
    # docs/several_teachers.md; at the rate of plus-random, as all that follow.
    Contender("teachers-both", "a ViT and a CNN as teachers; random start", (None,), group="several teachers"),
    Contender("teachers-vit", "the ViT alone", (None,), group="several teachers"),
    Contender("sliced-teachers", "plus-sliced, with the CNN as second teacher", (None,), group="several teachers"),
    Contender("sliced-teachers-vit", "sliced-teachers with the ViT alone", (None,), group="several teachers"),
    Contender("sliced-teachers-cnn", "sliced-teachers with the CNN alone", (None,), group="several teachers"),
    Contender("teachers-cnn", "the CNN alone", (None,), group="several teachers"),
    # docs/models.md
    _start("mobilenet-random", "MobileNetV4-S, random weights, no training", "CNN student"),
    Contender("mobilenet", "MobileNetV4-S; random start", (None,), group="CNN student"),
    # docs/resolution.md
    Contender("plain-224", "plus-random at 224 px", (None,), group="224 px", side=224),
    Contender("progressive-224", "112 px for 60 % of the run, then 224 px", (None,), group="224 px", side=224),
)
"""All contenders, in the order of the table. A new one is a config in ``configs/study`` and a line here."""


def choose(names: Sequence[str] | None, contenders: Iterable[Contender] = CONTENDERS) -> list[Contender]:
    """Return the contenders of some names, in the order of the table; all of them without names.

    Raises:
        UserError: A name is unknown.
    """
    known = {each.name: each for each in contenders}
    for name in names or ():
        if name not in known:
            near = get_close_matches(name, known, 3, 0.4)
            raise UserError(f"--runs: unknown contender {name!r}; choose from {', '.join(near or known)} (see --list)")
    return [each for name, each in known.items() if not names or name in names]


def format_list(contenders: Iterable[Contender] = CONTENDERS) -> str:
    """Format the contenders for the terminal."""
    rows = list(contenders)
    name, group = (max(len(getattr(each, part)) for each in rows) for part in ("name", "group"))
    return "\n".join(f"{each.name:<{name}}  {each.group:<{group}}  {each.about}" for each in rows)
