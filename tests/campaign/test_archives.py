"""Archives that attack, lie or are damaged: nothing lands elsewhere, and each is refused in one line."""

from __future__ import annotations

import stat
import struct
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, ZipFile, ZipInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from proteus.datasets import CorruptImageError, LoadImage, WebShards
from proteus.datasets.converters.nyu_archive import convert_archive
from proteus.datasets.shards.index import scan
from proteus.structures import DataError, UserError


def encoded(kind: str, mode: str = "RGB") -> bytes:
    file = BytesIO()
    Image.new(mode, (16, 12), 1).save(file, kind)
    return file.getvalue()


IMAGE, DEPTH = encoded("JPEG"), encoded("PNG", "I;16")
FIRST = "A/kitchen/rgb_0.jpg"
FILES = {
    f"A/{scene}/{name}_{number}.{ending}": content
    for scene in ("kitchen", "bathroom")
    for number in range(2)
    for name, ending, content in (("rgb", "jpg", IMAGE), ("sync_depth", "png", DEPTH))
}


def zipped(path: Path, *more: tuple[Any, bytes], kind: int = ZIP_DEFLATED, files: dict[str, bytes] = FILES) -> Path:
    with ZipFile(path, "w", kind) as archive:
        for name, content in [*files.items(), *more]:
            archive.writestr(name, content)
    return path


def special(name: str, kind: int) -> ZipInfo:
    member = ZipInfo(name)
    member.external_attr = (kind | 0o777) << 16
    return member


def refuse(archive: Path, words: str) -> None:
    """Convert an archive, which must be refused and leave nothing outside the target, and no half file in it."""
    target = archive.parent / "target"
    before = set(archive.parent.rglob("*"))
    with pytest.raises(DataError, match=words) as refused:
        convert_archive(archive, "train", target)
    assert "\n" not in str(refused.value)
    assert archive.name in str(refused.value)
    written = set(archive.parent.rglob("*")) - before
    assert all(path.is_relative_to(target) and path.suffix != ".tmp" for path in written)


@pytest.mark.parametrize("name", ["..", "a/..", "/", "//x", "/x", "\\\\x", "C:/x", "A/../../x", "A/kitchen/../../../x"])
def test_names_that_lead_out(name: str, tmp_path: Path) -> None:
    refuse(zipped(tmp_path / "a.zip", (name, b"x")), "would land outside; nothing was unpacked")


@pytest.mark.parametrize("name", [".", "./", "~/x", "A/\0x", "CON", ".hidden", "A/./x"])
def test_odd_names_that_are_not_asked_for(name: str, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", (name, b"x"))
    assert convert_archive(archive, "train", tmp_path / "target").counts.written == len(FILES)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_pipes_and_devices(kind: int, tmp_path: Path) -> None:
    words = "is a (link|pipe, socket or device); nothing was unpacked"
    refuse(zipped(tmp_path / "a.zip", (special("A/kitchen/rgb_2.jpg", kind), b"/etc/passwd")), words)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice(tmp_path: Path) -> None:
    refuse(zipped(tmp_path / "a.zip", (FIRST, b"another")), f"'{FIRST}' is listed twice")


def test_what_unpacks_to_far_more_than_its_size(tmp_path: Path) -> None:
    bomb = zipped(tmp_path / "a.zip", ("A/kitchen/rgb_2.jpg", bytes(20_000_000)))
    refuse(bomb, "unpacks to 20 MB, more than 100 times its size; nothing was unpacked")


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (24, struct.pack("<I", 0x7FFFFFFF), "unpacks to 2,147 MB"),
        (24, struct.pack("<I", len(IMAGE) + 1), "1 bytes are missing"),
        (24, struct.pack("<I", 3), "Bad CRC"),
        (16, b"\0\0\0\0", "Bad CRC"),
        (8, b"\1\0", "it is encrypted"),
        (10, b"\x63\0", "compression method is not supported"),
        (42, struct.pack("<I", 0xFFFFFFF0), "Truncated file header"),
    ],
    ids=["size 2 GB", "size + 1", "size 3", "checksum", "encrypted", "method", "place"],
)
def test_directories_that_lie(offset: int, value: bytes, words: str, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\1\2") + offset
    content[start : start + len(value)] = value
    path.write_bytes(content)
    refuse(path, rf"{FIRST}'? (is damaged \()?.*{words}")


@pytest.mark.parametrize("kind", [ZIP_STORED, ZIP_DEFLATED, ZIP_BZIP2, ZIP_LZMA])
def test_damaged_content(kind: int, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", kind=kind)
    content = bytearray(path.read_bytes())
    for place in (100, 105, 110):
        content[place] ^= 255
    path.write_bytes(content)
    refuse(path, f"{FIRST} is damaged .*; download the archive again")


def test_files_that_are_not_archives(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "a.zip").read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"x" * 100, whole[:-30]):
        (tmp_path / "b.zip").write_bytes(content)
        refuse(tmp_path / "b.zip", "is not a zip archive, or is truncated")
    with tarfile.open(tmp_path / "c.zip", "w"):
        pass
    refuse(tmp_path / "c.zip", "is not a zip archive")
    (tmp_path / "folder.zip").mkdir()
    refuse(tmp_path / "folder.zip", "is not a file; name the zip archive")


def test_names_that_a_list_of_pairs_cannot_hold(tmp_path: Path) -> None:
    files = {"living room/rgb_0.jpg": IMAGE, "living room/sync_depth_0.png": DEPTH}
    with pytest.raises(DataError, match=r"'living room/rgb_0\.jpg' has a space in its name"):
        convert_archive(zipped(tmp_path / "a.zip", files=files), "train", tmp_path / "target")


def tar(*members: tuple[str, bytes, dict[str, Any]]) -> bytes:
    file = BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content, attributes in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in attributes.items():
                setattr(member, key, value)
            archive.addfile(member, BytesIO(content) if member.isreg() else None)
    return file.getvalue()


def with_size(content: bytes, size: bytes) -> bytes:
    """Another size in the first header, with its checksum."""
    header = bytearray(content[:512])
    header[124:136], header[148:156] = size, b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content[512:]


TWO = tar(("a.jpg", IMAGE, {}), ("b.jpg", IMAGE, {}))
SHARDS: dict[str, Callable[[], bytes]] = {
    "8 EB": lambda: with_size(TWO, b"\x80\0\0\0\x7f" + b"\xff" * 7),
    "68 GB": lambda: with_size(TWO, b"7" * 12),
    "negative": lambda: with_size(TWO, b"\xff" * 12),
    "a block back": lambda: with_size(TWO, b"\xff" * 10 + b"\xfe\0"),
    **{
        f"pax size {size}": lambda size=size: tar(("a.jpg", IMAGE, {"pax_headers": {"size": size}}))  # type: ignore[misc]
        for size in ("-1", "-512", "9" * 20, "1e5", "x", "")
    },
}


@pytest.mark.parametrize("name", SHARDS)
def test_shards_with_wrong_sizes(name: str, tmp_path: Path) -> None:
    """No image is read, or it is named as corrupt; none takes the memory that its header asks for."""
    (tmp_path / "0.tar").write_bytes(SHARDS[name]())
    shards = WebShards(str(tmp_path), [{"type": "proteus.LoadImage"}])
    with pytest.raises(CorruptImageError, match=r"0\.tar/a\.jpg"):
        LoadImage()(shards.get_data_info(0))


def test_shards_only_have_regular_files(tmp_path: Path) -> None:
    content = tar(
        ("a.jpg", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ("b.jpg", b"", {"type": tarfile.LNKTYPE, "linkname": "../../c.jpg"}),
        ("c.jpg", b"", {"type": tarfile.CHRTYPE}),
        ("../../d.jpg", IMAGE, {}),
    )
    (tmp_path / "0.tar").write_bytes(content)
    assert WebShards(str(tmp_path)).names() == ["0.tar/../../d.jpg"]  # read where it stands, written nowhere


SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "100"}


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.lists(st.tuples(st.integers(0, 1800), st.integers(0, 255)), max_size=8), sparse=st.booleans())
def test_any_damage_of_a_shard_is_found(changes: list[tuple[int, int]], sparse: bool, tmp_path: Path) -> None:
    content = bytearray(
        tar(("é" * 60 + ".jpg", IMAGE, {"pax_headers": SPARSE if sparse else {}}), ("b.jpg", IMAGE, {}))
    )
    for place, value in changes:
        content[place] = value
    for start in (0, 1024, 1536):  # so that damage is not found by checksums alone
        header = content[start : start + 512]
        header[148:156] = b" " * 8
        content[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    (tmp_path / "0.tar").write_bytes(content)
    (tmp_path / "proteus-index.json").unlink(missing_ok=True)
    assert scan(tmp_path / "0.tar").bytes == len(content)
    try:
        shards = WebShards(str(tmp_path))
    except (UserError, FileNotFoundError):
        return
    named = []
    for index in range(len(shards)):
        try:
            LoadImage()(shards.get_data_info(index))
        except CorruptImageError as error:
            named.append(str(error))
    assert all("0.tar" in line and line.isprintable() for line in named)
