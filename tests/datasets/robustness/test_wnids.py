from pathlib import Path

import pytest
import timm

from proteus.datasets.robustness import imagenet_wnids, subset_classes, wnid_numbers
from proteus.datasets.robustness.wnids import check_wnids


def test_indices_are_positions_in_the_alphabetical_list() -> None:
    # The list behind timm's label maps, read as a file.
    listed = (Path(timm.__file__).parent / "data/_info/imagenet_synsets.txt").read_text().split()
    assert list(imagenet_wnids()) == sorted(listed)
    assert len(set(listed)) == 1000
    # Well-known ones: tench, goldfish, tabby cat, toilet tissue.
    assert [wnid_numbers()[wnid] for wnid in ("n01440764", "n01443537", "n02123045", "n15075141")] == [0, 1, 281, 999]


def test_subsets_of_a_and_r() -> None:
    a, r = subset_classes("imagenet_a"), subset_classes("imagenet_r")
    for classes in (a, r):
        assert len(set(classes)) == 200
        assert list(classes) == sorted(classes)
        assert classes[0] >= 0
        assert classes[-1] < 1000
    assert len(set(a) & set(r)) == 86
    # The first folder of each archive: stingray, goldfish.
    assert (imagenet_wnids()[a[0]], imagenet_wnids()[r[0]]) == ("n01498041", "n01443537")


def test_errors_name_the_folders() -> None:
    wnids = imagenet_wnids()
    root = Path("data/x")
    check_wnids([wnids[3], wnids[5]], root, (3, 5), "X")
    check_wnids([wnids[3]], root, None, "X")
    with pytest.raises(ValueError, match=r"data/x has 1 folder without a class of ImageNet-1K: train; X expects"):
        check_wnids([wnids[3], "train"], root, None, "X")
    with pytest.raises(ValueError, match=rf"X has 2 class folders; data/x has 1: it lacks {wnids[5]}\. Unpack"):
        check_wnids([wnids[3]], root, (3, 5), "X")
    with pytest.raises(ValueError, match=rf"lacks {wnids[5]} and has {wnids[9]}, which X does not have"):
        check_wnids([wnids[3], wnids[9]], root, (3, 5), "X")
    with pytest.raises(ValueError, match=r"lacks (n\d{8}, ){4}n\d{8} and 995 more"):
        check_wnids([], root, range(1000), "X")
