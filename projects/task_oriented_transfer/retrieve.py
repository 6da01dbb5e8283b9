r"""Choose a transfer set out of a gallery: for each image of the target task, equally many of its nearest neighbours.

    python -m projects.task_oriented_transfer.retrieve --backbone FILE --gallery DIR --queries DIR --per-query 20 \
        --out OUT

writes proxy_set.txt, scores.csv and contact_sheet.png to OUT, and names the queries that did not get their share.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import torch

from projects.task_oriented_transfer.adapt import classes_of, with_statistics
from projects.task_oriented_transfer.embedding import embed
from projects.task_oriented_transfer.retrieval import retrieve, same_class_precision
from projects.task_oriented_transfer.transfer_set import contact_sheet, write_transfer_set
from proteus.apis.cli import run
from proteus.datasets import CorruptImageError
from proteus.models.backbones import locate_backbone
from proteus.structures import DataError

# More names than this are for a file, not for a terminal.
_NAMED = 10


def parse_args(arguments: Sequence[str] | None = None) -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", required=True, help="as for tools/evaluate.py: a weight file, or a timm name")
    parser.add_argument("--arch", help="its name in timm, for a weight file that does not tell (CNNs)")
    parser.add_argument("--mean", nargs=3, type=float, help="channel means it was trained with, if they are not known")
    parser.add_argument("--std", nargs=3, type=float, help="channel standard deviations, likewise")
    parser.add_argument("--gallery", required=True, type=Path, help="folder of images, however nested")
    parser.add_argument("--queries", required=True, type=Path, help="folder of the target task's images")
    parser.add_argument("--queries-per-class", type=int, help="take only so many queries of each class's folder")
    parser.add_argument("--seed", type=int, default=0, help="which of them (default: %(default)s)")
    parser.add_argument("--per-query", required=True, type=int, help="gallery items for each query")
    parser.add_argument(
        "--crops", nargs="+", type=float, default=[], metavar="SHARE", help="search crops, too: 0.5 0.25"
    )
    parser.add_argument("--min-score", type=float, default=-1.0, help="smallest cosine of a neighbour")
    parser.add_argument("--duplicate", type=float, default=0.99, help="cosine from which two items are one")
    parser.add_argument("--labelled", action="store_true", help="both are CLASS/IMAGE: report same-class precision")
    parser.add_argument("--img-size", type=int, default=224, help="side in pixels (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=0, help="processes that read images")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", required=True, type=Path)
    return parser.parse_args(arguments)


def main(args: Namespace) -> int:
    """Embed, search, write."""
    spec = with_statistics(locate_backbone(args.backbone, args.arch, args.img_size), args.mean, args.std)
    options = {
        "img_size": args.img_size,
        "batch_size": args.batch_size,
        "num_workers": args.workers,
        "device": args.device,
    }
    part = {"images_per_class": args.queries_per_class, "subset_seed": args.seed} if args.queries_per_class else {}
    try:
        queries = embed(spec, args.queries, **options, **part)
        gallery = embed(spec, args.gallery, crops=args.crops, **options)
        found = retrieve(gallery.features, queries.features, args.per_query, args.min_score, args.duplicate)
        root = write_transfer_set(args.out, gallery, queries, found)
        contact_sheet(gallery, queries, found).save(args.out / "contact_sheet.png")
    except CorruptImageError as error:
        raise DataError(f"an image cannot be read, and nothing is chosen without it: {error}") from error
    except ValueError as error:
        raise error if isinstance(error, DataError) else DataError(str(error)) from error
    print(f"{len(found.items)} of {len(gallery.items)} gallery items for {len(queries.items)} queries")
    print(f"cosine {found.scores.min():.3f} to {found.scores.max():.3f}; {found.duplicates} neighbours were copies")
    _name_short([queries.items[query].name for query in found.short], list(found.short.values()), args.per_query)
    if args.labelled:
        right, chance = same_class_precision(found, classes_of(gallery), classes_of(queries))
        print(f"same-class precision {right:.3f} (chance {chance:.3f})")
    print(f'dataset=dict(type="ImageFolder", data_root="{root}", list_file="{args.out / "proxy_set.txt"}")')
    return 0


def _name_short(names: list[str], counts: list[int], wanted: int) -> None:
    for name, count in list(zip(names, counts, strict=True))[:_NAMED]:
        print(f"query {name}: {count or 'no'} neighbour{'s' * (count != 1)} of {wanted}")
    if len(names) > _NAMED:
        print(f"... and {len(names) - _NAMED} more queries with fewer than {wanted}")


if __name__ == "__main__":
    run(main, parse_args())
