"""Hostile inputs, made anew from a seed: pictures, texts, tensors, tables, requests and answers; nothing is stored.

Every function yields pairs of a kind and bytes without end: what somebody thought of first, then real files that
were cut, flipped and put together anew.
"""

import gzip
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

Inputs = Iterator[tuple[str, bytes]]

ODD_TEXTS = (
    "",
    ".",
    "..",
    "../../outside/made",
    "/outside",
    "..\\..\\made",
    "a\0b",
    "\ud800",
    "\u202egpj.exe",
)
ODD_TEXTS += ("a\nb", "\x1b[2J", "<script>alert(1)</script>", "'; DROP", "é" * 200, "x" * 70_000, "CON", "~")
ODD_VALUES = (None, True, -1, 0, 10**400, 1e308, float("nan"), float("inf"), [], {}, [[]], {"a": []}, 2**63)
_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(outside/made) (w) file closefile\nshowpage\n"
_SVG = b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg xmlns="x">&a;</svg>'
_XBM = b"#define x_width 9\n#define x_height 9\nstatic char x_bits[] = {0};"


def pictures(chance: random.Random) -> Inputs:
    """Yield image files, and what is named so."""
    whole = _wholes()
    yield from whole.items()
    yield from bombs()
    yield from odd_pictures(whole)
    cuts = _cuts(whole)
    while True:
        yield from islice(cuts, 1)
        kind, data = chance.choice(list(whole.items()))
        yield f"damaged {kind}", damaged(chance, data)


def _cuts(whole: dict[str, bytes]) -> Inputs:
    """Yield every file cut at each KB, small ones at each 64 bytes; in turn, so that all come soon."""
    for at in range(max(map(len, whole.values()))):
        for kind, data in whole.items():
            if at < len(data) and at % (1024 if len(data) > 4096 else 64) == 0:
                yield f"cut {kind}", data[:at]


def damaged(chance: random.Random, data: bytes) -> bytes:
    """Return bytes with some flipped, replaced, repeated, left out, or grown."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 30))):
        at = chance.randrange(min(len(out), 600) if chance.random() < 0.5 else len(out)) if out else 0
        match chance.randrange(6):
            case 0 if out:
                out[at] ^= 1 << chance.randrange(8)
            case 1:
                out[at : at + 4] = chance.choice(
                    (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\1")
                )
            case 2:
                out[at : at + 2] = chance.randbytes(2)
            case 3:
                del out[at : at + chance.randrange(1, 40)]
            case 4:
                out[at:at] = out[at : at + chance.randrange(1, 200)]
            case _:
                del out[len(out) - chance.randrange(1, 200) :]
    return bytes(out)


@lru_cache
def _wholes() -> dict[str, bytes]:
    """Return small good files of every format and mode that Pillow writes here."""
    noise = np.random.default_rng(0).integers(0, 256, (72, 80, 3), np.uint8)
    rgb = Image.fromarray(noise)
    alpha, palette = rgb.copy(), rgb.quantize(16)
    alpha.putalpha(128)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 60_000
    frames = {"save_all": True, "append_images": [rgb.rotate(90 * i) for i in range(3)]}
    deep = Image.fromarray(np.arange(5760, dtype=np.uint16).reshape(72, 80))
    saved: list[tuple[str, Image.Image, dict[str, Any]]] = [
        *(
            (name, rgb, {})
            for name in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "ICO", "PPM", "TGA", "PDF")
        ),
        *((name, rgb, {}) for name in ("AVIF", "JPEG2000", "DDS", "SGI", "PCX", "EPS", "ICNS")),
        ("JPEG", rgb.convert("CMYK"), {}),
        ("JPEG", rgb.resize((400, 300)), {"progressive": True, "exif": exif, "icc_profile": b"wrong" * 99}),
        ("PNG", alpha, {"icc_profile": b"\0" * 128}),
        ("PNG", palette, {"transparency": 3}),
        ("PNG", deep, {}),
        ("TIFF", rgb, {"compression": "tiff_lzw"}),
        ("TIFF", deep, {}),
        ("TIFF", rgb, {"compression": "jpeg"}),
        *((name, rgb, frames) for name in ("GIF", "WEBP", "PNG", "TIFF", "AVIF")),
        ("PNG", rgb.resize((1, 1)), {}),
        ("PNG", rgb.resize((1, 60_000)), {}),
        ("BMP", palette, {}),
    ]
    files = {}
    for number, (name, image, options) in enumerate(saved):
        out = io.BytesIO()
        try:
            image.save(out, name, **options)
        except (OSError, KeyError):
            continue  # this Pillow was built without it
        files[f"{name} {number}"] = out.getvalue()
    return files


def bombs() -> Inputs:
    """Yield files that say, or hold, far more than they should."""
    whole = {kind.partition(" ")[0]: data for kind, data in reversed(_wholes().items())}
    for side in (20_000, 65_535, 2**31 - 1):
        yield f"bomb PNG {side}", _png(side, side, zlib.compress(bytes(10**7), 9) * 3)
        yield (
            f"bomb GIF {side}",
            b"GIF89a" + struct.pack("<HH", side & 65535, side & 65535) + whole["GIF"][10:],
        )
        yield f"bomb BMP {side}", whole["BMP"][:18] + struct.pack("<ii", side, side) + whole["BMP"][26:]
        yield f"bomb PPM {side}", b"P6 %d %d 255\n" % (side, side) + bytes(99)
        at = whole["JPEG"].index(b"\xff\xc0") + 5
        size = struct.pack(">HH", side & 65535, side & 65535)
        yield f"bomb JPEG {side}", whole["JPEG"][:at] + size + whole["JPEG"][at + 4 :]
        yield f"bomb TIFF {side}", _tiff(side, side, 2**31 - 1)
        webp = struct.pack("<I", (side - 1) & 0x3FFF | ((side - 1) & 0x3FFF) << 14)
        yield f"bomb WEBP {side}", b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f" + webp + bytes(9)
    yield "bomb PNG, within the limit", _png(10_000, 9_000, zlib.compress(bytes(9_000 * 30_001), 9))
    yield (
        "bomb PNG text",
        _png(9, 9, zlib.compress(bytes(9 * 28)), (b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))),
    )
    yield (
        "bomb PNG ICC",
        _png(9, 9, zlib.compress(bytes(9 * 28)), (b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8)))),
    )
    yield "bomb TIFF strips", _tiff(9, 9, 2**31 - 1, strips=2**20)
    scan = whole["JPEG"][whole["JPEG"].index(b"\xff\xda") :]
    yield "bomb JPEG scans", whole["JPEG"] + scan * 2000
    frame = whole["GIF"][whole["GIF"].index(b"\x2c") : -1]
    yield "bomb GIF frames", whole["GIF"][:-1] + frame * 2000 + b";"
    yield "bomb EXIF", whole["JPEG"][:2] + (b"\xff\xe1\xff\xff" + b"Exif\0\0MM\0*" + b"\xff" * 65_523) * 50
    yield "bomb gzip", gzip.compress(bytes(10**8))


def odd_pictures(whole: dict[str, bytes]) -> Inputs:
    """Yield polyglots, and files of another kind."""
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("../../outside/made", "x")
    tails = {"ZIP": package.getvalue(), "HTML": b"<script>alert(1)</script>", "PDF": b"%PDF-1.7\n%%EOF"}
    for kind, data in whole.items():
        for name, tail in tails.items():
            yield f"polyglot {kind} + {name}", data + tail
            yield f"polyglot {name} + {kind}", tail + data
    for number in (0, 9, 255, 56624):
        exif = Image.Exif()
        exif[0x0112] = number
        out = io.BytesIO()
        Image.new("RGB", (9, 5)).save(out, "JPEG", exif=exif)
        yield f"orientation {number}", out.getvalue()
    yield "GIF + script", b"GIF89a/*" + whole[next(k for k in whole if k.startswith("GIF"))][8:] + b"*/=1;"
    others = {
        "EPS": _EPS,
        "SVG": _SVG,
        "XBM": _XBM,
        "HTML": b"<html>no photo",
        "ZIP": tails["ZIP"],
        "nothing": b"",
    }
    others |= {"font": b"\0\1\0\0" + bytes(99), "ELF": b"\x7fELF" + bytes(99), "zeros": bytes(10**6)}
    yield from others.items()


def _png(width: int, height: int, packed: bytes, more: tuple[bytes, bytes] | None = None) -> bytes:
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        more,
        (b"IDAT", packed),
        (b"IEND", b""),
    ]
    out = b"\x89PNG\r\n\x1a\n"
    for name, data in filter(None, chunks):
        out += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return out


def _tiff(width: int, height: int, length: int, strips: int = 1) -> bytes:
    tags = [
        (256, width),
        (257, height),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height),
        (279, length),
    ]
    counts = {273: strips, 279: strips}
    entries = b"".join(struct.pack("<HHII", tag, 4, counts.get(tag, 1), value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4 + 4 * 1000)


def texts(chance: random.Random, whole: bytes) -> Inputs:
    """Yield what a file of JSON, of JSON lines or of CSV could be instead."""
    deep = b"[" * 100_000
    yield from {
        "nothing": b"",
        "deep": deep,
        "deep objects": b'{"a":' * 100_000,
        "binary": bytes(range(256)),
    }.items()
    yield from {"null": b"null", "number": b"7", "list": b"[]", "object": b"{}", "text": b'"x"'}.items()
    yield from {
        "digits": b"9" * 9999,
        "twice": whole + whole,
        "BOM": b"\xef\xbb\xbf" + whole,
        "CR": b"\r" * 999,
    }.items()
    yield from {"UTF-16": b"\xff\xfe" + whole, "long line": b'{"a": "' + b"x" * 10**7 + b'"}'}.items()
    yield from ((f"cut at {at}", whole[:at]) for at in range(0, min(len(whole), 4096), 64))
    while True:
        lines = whole.splitlines(keepends=True)
        if chance.random() < 0.25 or not whole.lstrip().startswith((b"{", b"[")):
            yield "damaged", damaged(chance, whole)
        elif _is_json(whole):
            yield "other values", odd_json(chance, whole)
        else:
            at = chance.randrange(len(lines))
            yield (
                "other values",
                b"".join([*lines[:at], odd_json(chance, lines[at]), b"\n", *lines[at + 1 :]]),
            )


def odd_json(chance: random.Random, text: bytes) -> bytes:
    """Return JSON with some of its values replaced, taken out, doubled or nested."""
    value = json.loads(text)
    for _ in range(chance.choice((1, 1, 2, 4))):
        value = _replaced(chance, value)
    return json.dumps(value).encode()


def _replaced(chance: random.Random, value: Any) -> Any:
    odd = chance.choice((*ODD_VALUES, *ODD_TEXTS))
    if not value or not isinstance(value, dict | list) or chance.random() < 0.08:
        return odd
    value = value.copy()
    key = chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))
    match chance.randrange(8):
        case 0:
            del value[key]
        case 1 if isinstance(value, dict):
            value[str(odd)] = value[key]
        case 2:
            value[key] = [value[key]]
        case _:
            value[key] = _replaced(chance, value[key])
    return value


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def tensors(chance: random.Random, whole: bytes) -> Inputs:
    """Yield what a safetensors file could be instead."""
    length = int.from_bytes(whole[:8], "little")
    header, rest = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    step = max(64, len(whole) // 200)
    yield from ((f"cut at {at}", whole[:at]) for at in range(0, len(whole), step))
    for size in (0, 1, length - 1, length + 1, len(whole), 2**31, 2**63, 2**64 - 1):
        yield f"header of {size}", size.to_bytes(8, "little") + whole[8:]
    for text in (b"[" * 90_000, b"{}", b"null", b'{"a":1,"a":2}', b" " * 10**6):
        yield "other header", len(text).to_bytes(8, "little") + text + rest
    while True:
        new = json.loads(json.dumps(header))
        names = [name for name in new if name != "__metadata__"]
        match chance.randrange(6):
            case 0:
                yield "damaged", damaged(chance, whole)
                continue
            case 1:
                new[chance.choice(names)]["dtype"] = chance.choice(
                    ("BF16", "F8_E4M3", "BOOL", "F64", "I64", "U8", "X")
                )
            case 2:
                new[chance.choice(names)]["shape"] = chance.choice(
                    ([], [0], [2**40, 2**40], [-1], [3, 5], [2**63])
                )
            case 3:
                one, other = chance.choice(names), chance.choice(names)
                new[one], new[other] = new[other], new[one]
            case 4:
                new["../../outside/made"] = new.pop(chance.choice(names))
            case _:
                said = new.get("__metadata__", {})
                key = chance.choice(list(said))
                said[key] = odd_json(chance, said[key].encode()).decode()
        text = json.dumps(new).encode()
        yield "other header", len(text).to_bytes(8, "little") + text + rest
