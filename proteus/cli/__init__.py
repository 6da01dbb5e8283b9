"""The command ``proteus VERB``; each module here is a verb, with ``parse_args`` and ``main``."""

from __future__ import annotations

import difflib
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib import import_module

from proteus.version import __version__

VERBS = {
    "distill": "distil a teacher into a student on a folder of images",
    "slice": "cut a small ViT out of a larger one without training, in minutes",
    "train": "train a config",
    "check": "check a config and build all its parts, without training",
    "test": "compute the test metrics of a config for a checkpoint",
    "evaluate": "evaluate a backbone: k-NN, probes, robustness, segmentation, zero-shot, retrieval",
    "embed": "write the features of images to a file, one row per image",
    "export": "export a backbone for timm, transformers, OpenMMLab, ONNX and torch.export",
    "infer": "predict for images or a video with a trained model",
    "models": "list the models that can be used by name, with licences and weights",
    "inspect": "print the contents of a checkpoint",
    "convert": "convert a backbone to the naming scheme of another project",
    "pack": "pack a folder of images into shards, also on an object store",
    "cache": "store the teacher's tokens of fixed views, so that training need not run it",
    "config": "list the configs, print one, or start your own from one",
}
"""Help of each verb. The verb's module has the same name."""


def main(verb: str | None = None, argv: Sequence[str] | None = None) -> None:
    """Run a verb and exit with its status.

    Args:
        verb: Name in :data:`VERBS`; by default the first argument.
        argv: Arguments, by default those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if verb is None:
        _parser().parse_args(arguments[:1])  # exits for --help and --version
        if not arguments:
            _parser().print_help()
            sys.exit(2)
        verb = arguments.pop(0)
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=3, cutoff=0.5)
        hint = f"nearest: {', '.join(near)}" if near else f"choose from: {', '.join(VERBS)}"
        print(f"error: unknown command {verb!r}; {hint} (see proteus --help)", file=sys.stderr)
        sys.exit(2)
    from proteus.cli.run import run  # imports torch.distributed, which --help does not need

    module = import_module(f"{__name__}.{verb}")
    run(module.main, module.parse_args(arguments), [verb, *arguments])


def _parser() -> ArgumentParser:
    width = max(map(len, VERBS)) + 2
    lines = [f"  {verb:<{width}}{text}" for verb, text in VERBS.items()]
    description = ["Distil vision foundation models into small backbones.", "", "Commands:", *lines]
    parser = ArgumentParser(
        "proteus",
        usage="proteus COMMAND [arguments]",
        description="\n".join(description),
        epilog="The arguments of a command: proteus COMMAND --help",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"proteus {__version__}")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="one of the commands above")
    return parser
