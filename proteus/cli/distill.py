"""Distil a teacher into a small student on a folder of images, and write a model folder.

Example:
  proteus distill --teacher dinov2_vitb14 --student vit_small --data photos --out work_dirs/photos

OUT holds the student for timm, transformers, OpenMMLab and ONNX Runtime with its model card, the config of the run
(config.py, which 'proteus train' runs as well) and the run's logs and checkpoints. Options that you omit are chosen for
your images and machine, and printed.
"""

from __future__ import annotations

from argparse import Action, ArgumentError, ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import Any

from proteus.cli.arguments import (
    add_key_values,
    non_negative_int,
    out_folder,
    positive_int,
    positive_number,
    verb_parser,
)
from proteus.cli.launch import gpus


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the arguments of the command, by default those of the process."""
    parser = verb_parser("distill", __doc__)
    parser.add_argument(
        "--teacher",
        required=True,
        action=_Once,
        help="name (proteus models), timm/NAME, mmpretrain/NAME, hf-hub:ID, weight file, model folder, or 'packaged'",
    )
    parser.add_argument(
        "--student",
        default="vit_small",
        action=_Once,
        help="vit_tiny, vit_small, vit_base, vit_large, timm/NAME or mmpretrain/NAME (default: %(default)s)",
    )
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        action="extend",
        metavar="DIR",
        help="folders of images, with any subfolders, or 'packaged'; a few per cent are held out for validation",
    )
    parser.add_argument("--out", required=True, type=out_folder, help="folder to write")
    parser.add_argument("--resume", action="store_true", help="continue the run in OUT")
    parser.add_argument("--download", action="store_true", help="fetch the teacher's weights from their hub if needed")
    length = parser.add_argument_group("length of the run (default: from the number of images)")
    only = length.add_mutually_exclusive_group()
    only.add_argument("--epochs", type=positive_number, help="passes over the images")
    only.add_argument("--iters", type=positive_int, help="iterations")
    only.add_argument("--hours", type=positive_number, help="hours, by the measured time of a step")
    values = parser.add_argument_group("automatic unless set")
    values.add_argument("--batch-size", type=_or_auto(positive_int), default="auto", help="images per process and step")
    values.add_argument("--lr", type=_or_auto(positive_number), default="auto", help="peak learning rate")
    values.add_argument("--img-size", type=_or_auto(positive_int), default="auto", help="side of the images in pixels")
    values.add_argument(
        "--workers", type=_or_auto(non_negative_int), default="auto", help="data-loading workers per training process"
    )
    values.add_argument(
        "--precision",
        choices=["auto", "bfloat16", "float32"],
        default="auto",
        help="of the forward pass (auto: bfloat16 on a GPU that has it, else float32)",
    )
    values.add_argument(
        "--init",
        choices=["auto", "sliced", "random"],
        default="auto",
        help="initial weights of the student: sliced from the teacher's, or random",
    )
    values.add_argument("--seed", type=non_negative_int, default=0, help="(default: %(default)s)")
    machine = parser.add_argument_group("machine")
    count = machine.add_mutually_exclusive_group()
    count.add_argument("--gpus", type=gpus, metavar="N", help="processes, one per GPU; 0 uses the CPU (default: one)")
    count.add_argument("--processes", type=positive_int, metavar="N", help="run N processes on the CPU")
    parser.add_argument(
        "--logger",
        type=lambda text: [name.strip() for name in text.split(",") if name.strip()],
        default=[],
        dest="loggers",
        metavar="NAME,...",
        help="send curves to tensorboard, wandb, mlflow, or none of them (default: tensorboard)",
    )
    parser.add_argument("--config-only", action="store_true", help="write OUT/config.py without training")
    add_key_values(parser, "override config keys: model.objectives.token.weight=0.5; they are written in config.py")
    return parser.parse_args(argv)


def main(args: Namespace) -> int:
    """Run the command, and return its exit status."""
    from proteus.apis.distill import Request, distill, prepare  # slow to import, and not needed for --help

    other = ("cfg_options", "debug", "config_only", "processes")
    arguments = {key: value for key, value in vars(args).items() if key not in other}
    arguments["data"] = args.data[0] if len(args.data) == 1 else args.data
    arguments["overrides"] = args.cfg_options or {}
    if args.processes:
        arguments |= {"device": "cpu", "gpus": args.processes}
    if args.config_only:
        own = {key: arguments.pop(key) for key in ("out", "loggers", "resume")}
        prepare(Request(**arguments), **own)
        print("when it is trained, write the model folder with the same command, without --config-only, with --resume")
    else:
        distill(**arguments)
    return 0


class _Once(Action):
    """Store a value, and refuse a second one: a run has one teacher and one student."""

    given = False

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: str | None = None
    ) -> None:
        """Store the value.

        Raises:
            ArgumentError: The option was given before.
        """
        if self.given:
            first = getattr(namespace, self.dest)
            several = "; docs/several_teachers.md has configs of several teachers" if self.dest == "teacher" else ""
            raise ArgumentError(self, f"found {first!r} and {values!r}, expected one{several}")
        self.given = True
        setattr(namespace, self.dest, values)


def _or_auto(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse_or_auto(text: str) -> Any:
        return text if text == "auto" else parse(text)

    return parse_or_auto
