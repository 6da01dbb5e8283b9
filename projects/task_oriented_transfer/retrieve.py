r"""Retrieve a transfer set from a gallery: the same number of nearest neighbours for each image of the target task.

    python -m projects.task_oriented_transfer.retrieve --backbone FILE --gallery DIR --queries DIR --per-query 20 \
        --out OUT

Writes proxy_set.txt, scores.csv and contact_sheet.png to OUT, and lists queries with fewer neighbours than requested.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from projects.task_oriented_transfer.arguments import add_backbone_arguments, backbone_of, labelled_images, reading
from projects.task_oriented_transfer.embedding import embed, names_of
from projects.task_oriented_transfer.retrieval import check_retrieval, retrieve, same_class_precision
from projects.task_oriented_transfer.transfer_set import contact_sheet, write_transfer_set
from proteus.cli.run import ToolParser, existing_folder, non_negative_int, number, out_folder, positive_int, run
from proteus.datasets import CorruptImageError, ImageFolder, LabelledFolder
from proteus.structures import DataError
from proteus.utils.pictures import save_picture

# Number of queries to list on the terminal.
_NAMED = 10


def parse_args(arguments: Sequence[str] | None = None) -> Namespace:
    """Read the command line."""
    parser = ToolParser(description=__doc__.splitlines()[0])
    add_backbone_arguments(parser)
    parser.add_argument("--gallery", required=True, type=existing_folder, help="folder of images, searched recursively")
    parser.add_argument(
        "--queries", required=True, type=Path, help="images of the target: a folder, or a config with labelled images"
    )
    parser.add_argument("--queries-per-class", type=positive_int, help="default: all of a folder, or the config's")
    parser.add_argument(
        "--seed", type=non_negative_int, help="seed of their selection (default: 0 for a folder, or the config's)"
    )
    parser.add_argument("--per-query", required=True, type=positive_int, help="gallery items per query")
    parser.add_argument(
        "--crops",
        nargs="+",
        action="extend",
        type=number(0.05, 1),
        default=[],
        metavar="SHARE",
        help="search crops of these sizes, too: 0.5 0.25",
    )
    parser.add_argument("--min-score", type=number(-1, 1), default=-1.0, help="smallest cosine of a neighbour")
    parser.add_argument(
        "--duplicate", type=number(above=0, most=1), default=0.99, help="smallest cosine between copies"
    )
    parser.add_argument(
        "--labelled", action="store_true", help="report same-class precision; both folders need CLASS/IMAGE"
    )
    parser.add_argument("--out", required=True, type=out_folder)
    return parser.parse_args(arguments)


def main(args: Namespace) -> int:
    """Embed, search and write the transfer set."""
    check_retrieval(args.per_query, args.min_score, args.duplicate)
    spec = backbone_of(args)
    labelled = args.queries.suffix == ".py" or args.queries_per_class or args.labelled
    asked = (
        labelled_images(args.queries, "train", args.queries_per_class, args.seed, args.cfg_options)
        if labelled
        else ImageFolder(str(args.queries))
    )
    if args.labelled and not isinstance(asked, LabelledFolder):
        raise DataError(f"--labelled needs class folders, but {args.queries} is a {type(asked).__name__}")
    searched = ImageFolder(str(args.gallery))
    if args.labelled:
        for images in (searched, asked):
            _folders(Path(images.data_root), names_of(images))
    try:
        queries = embed(spec, asked, **reading(args))
        gallery = embed(spec, searched, crops=args.crops, **reading(args))
        found = retrieve(gallery.features, queries.features, args.per_query, args.min_score, args.duplicate)
        root = write_transfer_set(args.out, gallery, queries, found)
        save_picture(contact_sheet(gallery, queries, found), args.out / "contact_sheet.png")
    except CorruptImageError as error:
        raise DataError(f"an image cannot be read, so nothing was retrieved: {error}") from error
    except ValueError as error:
        raise error if isinstance(error, DataError) else DataError(str(error)) from error
    print(f"{len(found.items)} of {len(gallery.items)} gallery items for {len(queries.items)} queries")
    print(f"cosine {found.scores.min():.3f} to {found.scores.max():.3f}; {found.duplicates} neighbours were copies")
    _name_short([queries.items[query].name for query in found.short], list(found.short.values()), args.per_query)
    if args.labelled:
        classes = [_folders(table.root, [item.name for item in table.items]) for table in (gallery, queries)]
        right, chance = same_class_precision(found, *classes)
        print(f"same-class precision {right:.3f} (chance {chance:.3f})")
    print(f'dataset=dict(type="ImageFolder", data_root="{root}", list_file="{args.out / "proxy_set.txt"}")')
    return 0


def _folders(root: Path, names: Sequence[str]) -> list[str]:
    for name in names:
        if "/" not in name:
            raise DataError(f"{root / name} is not in a class folder; expected {root}/CLASS/IMAGE")
    return [name.partition("/")[0] for name in names]


def _name_short(names: list[str], counts: list[int], wanted: int) -> None:
    for name, count in list(zip(names, counts, strict=True))[:_NAMED]:
        print(f"query {name}: {count or 'no'} neighbour{'s' * (count != 1)} of {wanted}")
    if len(names) > _NAMED:
        print(f"... and {len(names) - _NAMED} more queries with fewer than {wanted}")


if __name__ == "__main__":
    run(main, parse_args())
