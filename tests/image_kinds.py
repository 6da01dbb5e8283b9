"""Image files of every kind that people have, written by hand, with the pixels that they stand for.

Each picture has 16 x 16 pixels in four squares: top left, top right, bottom left, bottom right.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

SIDE = 16
RED, GREEN, BLUE, GOLD = (200, 40, 40), (40, 180, 60), (30, 60, 220), (250, 200, 10)
COLOURS = (RED, GREEN, BLUE, GOLD)
LEVELS = (0, 80, 160, 255)


class Kind(NamedTuple):
    """A file and the squares that it shows.

    Attributes:
        ending: Of its name.
        content: The file.
        squares: RGB of the four squares.
        tolerance: By how many levels a lossy format may differ.
    """

    ending: str
    content: bytes
    squares: tuple[tuple[int, int, int], ...]
    tolerance: int = 0

    @property
    def pixels(self) -> np.ndarray:
        """``(16, 16, 3)`` uint8."""
        return squares(self.squares)


def squares(values: Sequence[Any], dtype: Any = np.uint8, side: int = SIDE) -> np.ndarray:
    """Four squares of these values: ``(side, side)``, or ``(side, side, C)``."""
    half = side // 2
    top, bottom = (
        np.concatenate([np.broadcast_to(np.asarray(value, dtype), (half, half, *np.shape(value))) for value in row], 1)
        for row in (values[:2], values[2:])
    )
    return np.ascontiguousarray(np.concatenate([top, bottom]).astype(dtype))  # concatenate forgets the byte order


def grey(levels: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Levels as RGB."""
    return tuple((level, level, level) for level in levels)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image as Pillow saves it."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# First row, first column, step of rows, step of columns of each pass of an interlaced PNG.
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def png(
    pixels: np.ndarray,
    colour_type: int,
    bits: int,
    late: Mapping[bytes, bytes] | None = None,
    early: Mapping[bytes, bytes] | None = None,
    interlaced: bool = False,
) -> bytes:
    """A PNG of any depth, with chunks before and behind its pixels."""
    height, width = pixels.shape[:2]
    passes = [pixels[row::rows, column::columns] for row, column, rows, columns in _PASSES] if interlaced else [pixels]
    data = b"".join(b"\0" + _png_row(row, bits) for part in passes for row in part)
    head = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, int(interlaced))
    content = {**(early or {}), b"IDAT": zlib.compress(data), **(late or {})}
    chunks = [(b"IHDR", head), *content.items(), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def _png_row(row: np.ndarray, bits: int) -> bytes:
    if bits < 8:
        digits = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]
        return np.packbits(digits).tobytes()
    return row.astype(">u2" if bits == 16 else np.uint8).tobytes()


def tiff(data: bytes, bits: Sequence[int], photometric: int, order: str = "<", **tags: int | Sequence[int]) -> bytes:
    """An uncompressed TIFF with any kind of pixels, of one strip unless tags say otherwise; ``t339=2`` adds tag 339."""
    entries = {256: [SIDE], 257: [SIDE], 258: list(bits), 259: [1], 262: [photometric], 273: [8], 277: [len(bits)]}
    entries |= {278: [SIDE], 279: [len(data)]}
    entries |= {int(name[1:]): [value] if isinstance(value, int) else list(value) for name, value in tags.items()}
    start = 8 + len(data)
    extra = start + 2 + 12 * len(entries) + 4
    directory, behind = b"", b""
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}H", *values)
        if len(packed) > 4:
            packed, behind = struct.pack(f"{order}I", extra + len(behind)), behind + packed
        directory += struct.pack(f"{order}HHI", tag, 3, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    return head + data + struct.pack(f"{order}H", len(entries)) + directory + b"\0\0\0\0" + behind


def twelve_bits(pixels: np.ndarray) -> bytes:
    """Two numbers in three bytes."""
    pairs = pixels.reshape(-1, 2).astype(int)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
    return packed.astype(np.uint8).tobytes()


def turned(orientation: int) -> np.ndarray:
    """Return the stored pixels of a picture that is :data:`COLOURS` when upright: by hand, square by square."""
    a, b, c, d = COLOURS
    stored = {
        1: (a, b, c, d),
        2: (b, a, d, c),
        3: (d, c, b, a),
        4: (c, d, a, b),
        5: (a, c, b, d),
        6: (b, d, a, c),
        7: (d, b, c, a),
        8: (c, a, d, b),
    }
    return squares(stored[orientation])


def exif(orientation: int) -> bytes:
    """EXIF with an orientation and nothing else."""
    return b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + struct.pack("<I", orientation) + b"\0\0\0\0"


def kinds() -> dict[str, Kind]:
    """Every kind that is read, by a name for it."""
    rgb = Image.fromarray(squares(COLOURS))
    levels = Image.fromarray(squares(LEVELS))
    deep = (0, 1000, 32768, 65535)  # / 257: 0, 3.89, 127.5, 255
    deep8 = grey((0, 4, 128, 255))
    sixteen = squares(deep, np.uint16)
    little, twelve = sixteen.astype("<u2").tobytes(), twelve_bits(squares((0, 100, 2048, 4095), int))
    found = {
        "grey8.png": Kind("png", saved(levels, "PNG"), grey(LEVELS)),
        "grey8.pgm": Kind("pgm", saved(levels, "PPM"), grey(LEVELS)),
        "grey4.png": Kind(
            "png", saved(Image.fromarray(squares((0, 51, 102, 255))), "PNG", bits=8), grey((0, 51, 102, 255))
        ),
        "grey16.png": Kind("png", png(sixteen, 0, 16), deep8),
        "grey16.tif": Kind("tif", tiff(little, [16], 1), deep8),
        "grey16-big-endian.tif": Kind("tif", tiff(sixteen.astype(">u2").tobytes(), [16], 1, ">"), deep8),
        "grey16-white-is-zero.tif": Kind("tif", tiff(little, [16], 0), grey((255, 251, 127, 0))),
        "grey8-white-is-zero.tif": Kind("tif", tiff(squares(LEVELS).tobytes(), [8], 0), grey((255, 175, 95, 0))),
        "grey12.tif": Kind("tif", tiff(twelve, [12], 1), grey((0, 6, 128, 255))),
        "grey16.pgm": Kind("pgm", b"P5 16 16 65535\n" + sixteen.astype(">u2").tobytes(), deep8),
        "grey10.pgm": Kind(
            "pgm", b"P5 16 16 1023\n" + squares((0, 100, 512, 1023), ">u2").tobytes(), grey((0, 25, 128, 255))
        ),
        "grey16.jp2": Kind("png", saved(Image.fromarray(sixteen), "JPEG2000", irreversible=False), deep8),
        # 16 bits per colour: Pillow keeps the high byte.
        "rgb16.png": Kind(
            "png",
            png(squares([[value * 257 for value in colour] for colour in COLOURS], np.uint16), 2, 16),
            COLOURS,
        ),
        "rgb16-low-byte.png": Kind(
            "png",
            png(squares([[value * 256 + 255 for value in colour] for colour in COLOURS], np.uint16), 2, 16),
            COLOURS,
        ),
        "rgb16.tif": Kind(
            "tif",
            tiff(squares([[v * 257 for v in colour] for colour in COLOURS], "<u2").tobytes(), [16] * 3, 2),
            COLOURS,
        ),
        "rgba16.png": Kind(
            "png", png(squares([[*(v * 257 for v in colour), 20000] for colour in COLOURS], np.uint16), 6, 16), COLOURS
        ),
        "grey-alpha16.png": Kind(
            "png", png(squares([(level * 257, 3) for level in LEVELS], np.uint16), 4, 16), grey(LEVELS)
        ),
        "palette.png": Kind("png", saved(_palette(), "PNG"), COLOURS),
        "palette-transparent.png": Kind("png", saved(_palette(), "PNG", transparency=bytes([0, 128, 255, 7])), COLOURS),
        "palette-one-transparent.png": Kind("png", saved(_palette(), "PNG", transparency=1), COLOURS),
        "palette.bmp": Kind("bmp", saved(_palette(), "BMP"), COLOURS),
        "palette.tif": Kind("tif", saved(_palette(), "TIFF"), COLOURS),
        "rgb-transparent.png": Kind("png", saved(rgb, "PNG", transparency=RED), COLOURS),
        "grey-transparent.png": Kind("png", saved(levels, "PNG", transparency=80), grey(LEVELS)),
        "rgba.png": Kind("png", saved(_with_alpha(rgb), "PNG"), COLOURS),
        "rgba.tif": Kind("tif", saved(_with_alpha(rgb), "TIFF"), COLOURS),
        "rgba.webp": Kind("webp", saved(_with_alpha(rgb), "WEBP", lossless=True, exact=True), COLOURS),
        "grey-alpha.png": Kind("png", saved(_with_alpha(levels), "PNG"), grey(LEVELS)),
        "grey-alpha.tif": Kind("tif", saved(_with_alpha(levels), "TIFF"), grey(LEVELS)),
        # Premultiplied by 51 / 255: 40 stands for 200.
        "premultiplied.tif": Kind(
            "tif",
            tiff(
                squares([(40, 8, 8, 51), (8, 36, 12, 51), (6, 12, 44, 51), (50, 40, 2, 51)]).tobytes(),
                [8] * 4,
                2,
                t338=1,
            ),
            COLOURS,
        ),
        # (255 - C) * (255 - K) / 255.
        "cmyk.tif": Kind("tif", tiff(squares(_CMYK).tobytes(), [8] * 4, 5), _FROM_CMYK),
        "cmyk.jpg": Kind(
            "jpg", saved(Image.fromarray(squares(_CMYK), "CMYK"), "JPEG", quality=100, subsampling=0), _FROM_CMYK, 3
        ),
        # Y + 1.402 (Cr - 128) and so on.
        "ycbcr.tif": Kind(
            "tif",
            tiff(squares([(100, 128, 128), (100, 128, 178), (100, 178, 128), (200, 128, 128)]).tobytes(), [8] * 3, 6),
            ((100, 100, 100), (170, 64, 100), (100, 83, 189), (200, 200, 200)),
            1,
        ),
        "lab.tif": Kind(
            "tif",
            tiff(squares([(0, 0, 0), (255, 0, 0), (0, 0, 0), (255, 0, 0)]).tobytes(), [8] * 3, 8),
            grey((0, 255, 0, 255)),
            1,
        ),
        "one-bit.png": Kind("png", saved(levels.convert("1", dither=0), "PNG"), grey((0, 0, 255, 255))),
        "one-bit.tif": Kind("tif", saved(levels.convert("1", dither=0), "TIFF"), grey((0, 0, 255, 255))),
        "one-bit.pbm": Kind("pbm", saved(levels.convert("1", dither=0), "PPM"), grey((0, 0, 255, 255))),
        "float.tif": Kind(
            "tif",
            tiff(squares((0, 0.25, 0.5, 1), "<f4").tobytes(), [32], 1, t339=3),
            grey((0, 64, 128, 255)),
        ),
        "rgb.jpg": Kind("jpg", saved(rgb, "JPEG", quality=100, subsampling=0), COLOURS, 3),
        "progressive.jpg": Kind("jpg", saved(rgb, "JPEG", quality=100, subsampling=0, progressive=True), COLOURS, 3),
        "grey.jpg": Kind("jpg", saved(levels, "JPEG", quality=100), grey(LEVELS), 2),
        "rgb.webp": Kind("webp", saved(rgb, "WEBP", lossless=True), COLOURS),
        "rgb.ppm": Kind("ppm", saved(rgb, "PPM"), COLOURS),
        "other-ending.jpg": Kind("jpg", saved(rgb, "PNG"), COLOURS),
        **_rare_kinds(),
    }
    for orientation in range(1, 9):
        stored, tag = Image.fromarray(turned(orientation)), b"Exif\0\0" + exif(orientation)
        for kind, ending, options in (
            ("JPEG", "jpg", {"quality": 100, "subsampling": 0}),
            ("PNG", "png", {}),
            ("WEBP", "webp", {"lossless": True}),
        ):
            lossy = 3 if kind == "JPEG" else 0
            content = saved(stored, kind, exif=tag, **options)
            found[f"exif{orientation}.{ending}"] = Kind(ending, content, COLOURS, lossy)
        found[f"exif{orientation}.tif"] = Kind(
            "tif", tiff(turned(orientation).tobytes(), [8] * 3, 2, t274=orientation), COLOURS
        )
        found[f"exif{orientation}-late.png"] = Kind(
            "png", png(turned(orientation), 2, 8, {b"eXIf": exif(orientation)}), COLOURS
        )
    six = Image.fromarray(turned(6))
    found["xmp6.jpg"] = Kind("jpg", saved(six, "JPEG", xmp=_XMP6, quality=100, subsampling=0), COLOURS, 3)
    for value in (0, 9, 40000):
        content = saved(rgb, "JPEG", exif=b"Exif\0\0" + exif(value), quality=100, subsampling=0)
        found[f"exif{value}.jpg"] = Kind("jpg", content, COLOURS, 3)
    broken = saved(rgb, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 20, quality=100, subsampling=0)
    found["exif-broken.jpg"] = Kind("jpg", broken, COLOURS, 3)
    other = Image.fromarray(squares(COLOURS[::-1]))
    frames = {"save_all": True, "append_images": [other]}
    found["animated.gif"] = Kind("gif", saved(_palette(), "GIF", **frames), COLOURS)
    found["animated.webp"] = Kind("webp", saved(rgb, "WEBP", lossless=True, **frames), COLOURS)
    found["animated.png"] = Kind("png", saved(rgb, "PNG", **frames), COLOURS)
    found["pages.tif"] = Kind("tif", saved(rgb, "TIFF", **frames), COLOURS)
    found["two.mpo"] = Kind("jpg", saved(rgb, "MPO", quality=100, subsampling=0, **frames), COLOURS, 3)
    return found


def _rare_kinds() -> dict[str, Kind]:
    rgb, pixels = Image.fromarray(squares(COLOURS)), squares(COLOURS)
    sixteen = squares((0, 1000, 32768, 65535), np.uint16)
    four, two, deep = grey((0, 51, 153, 255)), grey((0, 85, 170, 255)), grey((0, 4, 128, 255))
    plte = bytes(value for colour in COLOURS for value in colour)
    planes = [pixels[..., channel].tobytes() for channel in range(3)]
    late_exif = b"\xff\xe1" + struct.pack(">H", 8 + len(exif(6))) + b"Exif\0\0" + exif(6)
    turned_jpeg = saved(Image.fromarray(turned(6)), "JPEG", quality=100, subsampling=0)
    numbers = squares((0, 1, 2, 3))
    return {
        "grey2.png": Kind("png", png(numbers, 0, 2), two),
        "grey4-transparent.png": Kind("png", png(squares((0, 3, 9, 15)), 0, 4, early={b"tRNS": b"\0\3"}), four),
        "grey16-transparent.png": Kind("png", png(sixteen, 0, 16, early={b"tRNS": b"\x80\0"}), deep),
        "grey16-interlaced.png": Kind("png", png(sixteen, 0, 16, interlaced=True), deep),
        "rgb-interlaced.png": Kind("png", png(pixels, 2, 8, interlaced=True), COLOURS),
        "palette2.png": Kind("png", png(numbers, 3, 2, early={b"PLTE": plte}), COLOURS),
        "xmp6-late.png": Kind("png", png(turned(6), 2, 8, {b"iTXt": b"XML:com.adobe.xmp\0\0\0\0\0" + _XMP6}), COLOURS),
        "planes.tif": Kind(
            "tif", tiff(b"".join(planes), [8] * 3, 2, t273=(8, 264, 520), t279=(256,) * 3, t284=2), COLOURS
        ),
        "strips.tif": Kind("tif", tiff(pixels.tobytes(), [8] * 3, 2, t273=(8, 392), t278=8, t279=(384, 384)), COLOURS),
        "rgb16-big-endian.tif": Kind(
            "tif", tiff((pixels.astype(">u2") * 257).astype(">u2").tobytes(), [16] * 3, 2, ">"), COLOURS
        ),
        "grey4.tif": Kind("tif", tiff(b"".join(_png_row(row, 4) for row in squares((0, 3, 9, 15))), [4], 1), four),
        "lzw-predictor.tif": Kind("tif", saved(rgb, "TIFF", compression="tiff_lzw", tiffinfo={317: 2}), COLOURS),
        "grey16-deflate.tif": Kind("tif", saved(Image.fromarray(sixteen), "TIFF", compression="tiff_deflate"), deep),
        "float-white-is-zero.tif": Kind(
            "tif", tiff(squares((0, 0.25, 0.5, 1), "<f4").tobytes(), [32], 0, t339=3), grey((255, 191, 127, 0))
        ),
        "plain.ppm": Kind("ppm", b"P3 16 16 255 " + " ".join(map(str, pixels.ravel())).encode(), COLOURS),
        "grey100.pgm": Kind("pgm", b"P5 16 16 100\n" + squares((0, 20, 50, 100)).tobytes(), grey((0, 51, 128, 255)), 1),
        "rgba.jp2": Kind("png", saved(_with_alpha(rgb), "JPEG2000", irreversible=False), COLOURS),
        "exif6-behind-tables.jpg": Kind(
            "jpg", turned_jpeg.replace(b"\xff\xc0", late_exif + b"\xff\xc0", 1), COLOURS, 3
        ),
        "disposal.gif": Kind(
            "gif",
            saved(_palette(), "GIF", save_all=True, append_images=[_palette()], disposal=2, transparency=1),
            COLOURS,
        ),
    }


def refused() -> dict[str, tuple[bytes, str]]:
    """Kinds without defined 8-bit values, and some that are not images, each with words of the error."""
    some = squares((0, 1, 2, 3), int)
    make: Callable[..., bytes] = lambda kind, bits, **tags: tiff(some.astype(kind).tobytes(), [bits], 1, **tags)  # noqa: E731
    return {
        "int32.tif": (make("<i4", 32, t339=2), "signed integers.*save it with 8 or 16 bits"),
        "uint32.tif": (make("<u4", 32), "32-bit integers"),
        "int16.tif": (make("<i2", 16, t339=2), "signed integers"),
        "int8.tif": (make("i1", 8, t339=2), "signed integers"),
        "float-255.tif": (
            tiff(squares((0, 80, 160, 255), "<f4").tobytes(), [32], 1, t339=3),
            r"floating-point numbers, from 0 to 255, outside \[0, 1\]",
        ),
        "float-negative.tif": (tiff(squares((-0.5, 0, 0, 1), "<f4").tobytes(), [32], 1, t339=3), "from -0.5 to 1"),
        "float-nan.tif": (tiff(squares((np.nan, 0, 0, 1), "<f4").tobytes(), [32], 1, t339=3), "not all finite"),
        "float64.tif": (tiff(squares((0, 0, 0, 1), "<f8").tobytes(), [64], 1, t339=3), "a TIFF with pixels of a kind"),
        "float-rgb.tif": (
            tiff(squares(COLOURS, "<f4").tobytes(), [32] * 3, 2, t339=3),
            "a TIFF with pixels of a kind that Pillow cannot read; save it",
        ),
        "planes16.tif": (
            tiff(bytes(16 * 16 * 6), [16] * 3, 2, t273=(8, 520, 1032), t279=(512,) * 3, t284=2),
            "16 bits in separate planes without compression",
        ),
        "palette-below-256.tif": (
            tiff(some.astype(np.uint8).tobytes(), [8], 3, t320=(200,) * 768),
            "a TIFF palette has 16 bits",
        ),
        "palette-missing.png": (png(some, 3, 8), "a palette image without its palette"),
        "postscript.png": (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n",
            "not an image",
        ),
        "page.jpg": (b"<html>404</html>", "not an image file"),
        "empty.png": (b"", "not an image file"),
    }


_XMP6 = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
_CMYK = ((0, 0, 0, 0), (255, 0, 0, 0), (0, 100, 0, 55), (0, 0, 255, 0))
_FROM_CMYK = ((255, 255, 255), (0, 255, 255), (200, 122, 200), (255, 255, 0))


def _palette() -> Image.Image:
    image = Image.fromarray(squares((0, 1, 2, 3)), "P")
    image.putpalette([value for colour in COLOURS for value in colour])
    return image


def _with_alpha(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.fromarray(squares((0, 40, 128, 255))))
    return image
