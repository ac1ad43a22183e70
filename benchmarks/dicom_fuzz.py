"""Damaged DICOM files through the decoding process: does anything crash, hang or grow?

    python benchmarks/dicom_fuzz.py [--files 10000] [--seed 0]

Files of the PyPI packages pydicom and pydicom-data up to 1 MB are damaged, four of ten of them
compressed: bytes of the header, of the pixels or of anywhere changed, the file cut off, length
fields and short values rewritten, elements dropped, doubled or swapped, the whole deflated, and
deflated bombs. Each is looked at and rendered.
Prints what became of them and, last, one JSON line.

Limits: nothing but `DicomError` comes out; no file takes 2 s of the clock on an idle core; no
process that decodes holds more than its imports and 1 GB.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import random
import resource
import struct
import tempfile
import time
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LARGEST = 1_000_000
_DEFLATED = b"1.2.840.10008.1.2.1.99"


@dataclasses.dataclass(frozen=True)
class Base:
    """A file to damage: its bytes, and where the elements of its dataset begin and end."""

    data: bytes
    elements: tuple[tuple[int, int], ...]
    has_pixels: bool
    is_compressed: bool


def bases() -> list[Base]:
    """Return the files of the two packages, sorted by name."""
    import data_store
    import pydicom

    found = []
    for package in (pydicom, data_store):
        folder = Path(package.__file__).parent / "data"
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.stat().st_size <= LARGEST and path.suffix not in _NOT_DICOM:
                data = path.read_bytes()
                pixels = b"\xe0\x7f\x10\x00" in data or b"\x7f\xe0\x00\x10" in data
                compressed = b"1.2.840.10008.1.2.4." in data[:1000]
                elements = tuple(_elements(path))
                found.append(Base(data, elements, pixels or _DEFLATED in data, compressed))
    return found


_NOT_DICOM = {".py", ".pyc", ".json", ".txt", ".md", ".dump", ".icc", ".gz"}


def _elements(path: Path) -> Iterator[tuple[int, int]]:
    """Yield the extent of every top-level element that has a defined length."""
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = pydicom.dcmread(path, force=True)
        except Exception:
            return
        implicit = ds.original_encoding[0]
        for tag in ds.keys():  # noqa: SIM118 - iterating a dataset would convert its values
            raw: Any = ds.get_item(tag)
            at, length = getattr(raw, "value_tell", None), getattr(raw, "length", None)
            if at and length is not None and length != 0xFFFFFFFF:
                head = 8 if implicit or getattr(raw, "VR", "") not in _LONG_VRS else 12
                yield at - head, at + length


_LONG_VRS = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}


def damage(base: Base, rng: random.Random) -> bytes:
    """Return one damaged copy."""
    data = bytearray(base.data)
    if rng.random() < 0.1 and base.elements:
        data = _deflated(base, rng)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if len(data) > 1:
            rng.choice(_ONE)(data, base, rng)
    return bytes(data)


def _flip_header(data: bytearray, base: Base, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 3, 10, 40))):
        data[rng.randrange(min(len(data), 3000))] = rng.randrange(256)


def _flip_anywhere(data: bytearray, base: Base, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 10, 100, 1000))):
        data[rng.randrange(len(data))] = rng.randrange(256)


def _flip_pixels(data: bytearray, base: Base, rng: random.Random) -> None:
    """Change bytes near the beginning of Pixel Data, where frames have headers, or after it."""
    at = data.rfind(b"\xe0\x7f\x10\x00")
    if at < 0:
        return
    stop = rng.choice((min(at + 600, len(data)), len(data)))
    for _ in range(rng.choice((1, 2, 5, 50))):
        data[rng.randrange(min(at + 12, stop - 1), stop)] = rng.randrange(256)


def _cut(data: bytearray, base: Base, rng: random.Random) -> None:
    del data[rng.randrange(1, len(data)) :]


def _rewrite_length(data: bytearray, base: Base, rng: random.Random) -> None:
    if base.elements:
        start, _ = rng.choice(base.elements)
        at = start + rng.choice((4, 6, 8))
        length = rng.choice((0, 1, 3, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF, len(data)))
        if at + 4 <= len(data):
            data[at : at + 4] = struct.pack("<I", length)


def _change_value(data: bytearray, base: Base, rng: random.Random) -> None:
    """Give a short element (Rows, Bits Allocated, a window) another value."""
    short = [extent for extent in base.elements if extent[1] - extent[0] <= 28]
    if short:
        start, end = rng.choice(short)
        for at in range(min(start + 8, end), min(end, len(data))):
            data[at] = rng.choice((0, 1, 8, 0x20, 0x2D, 0x31, 0x39, 0x5C, 0x7F, 0xFF))


def _drop(data: bytearray, base: Base, rng: random.Random) -> None:
    if base.elements:
        start, end = rng.choice(base.elements)
        del data[start:end]


def _double(data: bytearray, base: Base, rng: random.Random) -> None:
    if base.elements:
        start, end = rng.choice(base.elements)
        if end - start < 100_000:
            data[start:start] = base.data[start:end] * rng.choice((1, 2, 50))


def _swap(data: bytearray, base: Base, rng: random.Random) -> None:
    """Put the value of one element in another: text as numbers, numbers as text."""
    if len(base.elements) > 1:
        one, other = rng.sample(base.elements, 2)
        data[one[0] + 8 : one[1]] = base.data[other[0] + 8 : other[1]]


_ONE = (
    _flip_header, _flip_anywhere, _flip_pixels, _flip_pixels, _flip_pixels, _cut, _rewrite_length,
    _change_value, _change_value, _drop, _double, _swap,
)  # fmt: skip


def _deflated(base: Base, rng: random.Random) -> bytearray:
    """Return the file as Deflated Explicit VR Little Endian, now and then as a bomb."""
    start = min(extent[0] for extent in base.elements)
    packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    body = packer.compress(base.data[start:])
    if rng.random() < 0.2:
        pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 1 << 29)
        body += packer.compress(pixels) + packer.flush(zlib.Z_FULL_FLUSH)
        body += packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
        one = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
        body += one * 511  # blocks after a full flush stand alone
    body += packer.flush()
    syntax = struct.pack("<HH2sH", 2, 0x10, b"UI", len(_DEFLATED)) + _DEFLATED
    return bytearray(bytes(128) + b"DICM" + syntax + body)


def run(n_files: int, seed: int) -> dict[str, Any]:
    """Damage and read so many files; anything but `DicomError` comes through."""
    from medblip.data.dicom.parent import close_children, look, render
    from medblip.errors import DicomError

    rng, originals = random.Random(seed), bases()
    pixels = [base for base in originals if base.has_pixels]
    packed = [base for base in originals if base.is_compressed]
    kinds = (originals, packed, packed, packed, packed, pixels, pixels, pixels, pixels, pixels)
    outcomes: collections.Counter[str] = collections.Counter()
    slowest = 0.0
    before = _peak_mb(resource.RUSAGE_SELF)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.dcm"
        for number in range(n_files):
            base = rng.choice(kinds[number % len(kinds)])
            path.write_bytes(damage(base, rng))
            for ask in (lambda: look(path, path.name), lambda: render(path)):
                start = time.perf_counter()
                outcome = "ok"
                try:
                    ask()
                except DicomError as error:
                    outcome = str(error).partition(":")[0]
                slowest = max(slowest, time.perf_counter() - start)
            outcomes[outcome] += 1
    close_children()
    return {
        "files": n_files,
        "rendered": outcomes.pop("ok", 0),
        "refused": dict(outcomes.most_common()),
        "slowest_s": round(slowest, 2),
        "child_peak_mb": round(_peak_mb(resource.RUSAGE_CHILDREN)),
        "parent_grew_mb": round(_peak_mb(resource.RUSAGE_SELF) - before),
    }


def _peak_mb(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 1000


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = run(options.files, options.seed)
    print("limits: DicomError only, 2 s per file, child peak of its imports and 1000 MB")
    for reason, count in found["refused"].items():
        print(f"{count:6d}  {reason}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
