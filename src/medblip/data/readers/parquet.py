"""Parquet files with images inside, as the Hugging Face hub publishes data sets.

The rows are read here, without their images; a worker reads the image column, a stretch of rows at
a time. Knows nothing of the hub: a folder that `medblip.data.hub` has fetched is a folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import re
import sys
import threading
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from medblip.data.images import MAX_BYTES, decode_image, read_bytes
from medblip.data.raw import ImageRef, Raw, ReadOptions, stamp
from medblip.data.readers.names import IMAGE_SUFFIXES, ImageFinder, split_in
from medblip.data.readers.table import find_columns, named_split
from medblip.errors import DataError, ImageError, explain
from medblip.schema import Split

__all__ = ["ParquetRef", "arrow", "matches", "read"]

#: Rows of text that are in memory at once.
TEXT_ROWS = 4096
#: Images that are decoded from Parquet at once: a whole row group where it is smaller. Most sets
#: have 100 rows per group, 10 MB; some have one group per file, 500 MB.
BLOCK_BYTES = 32_000_000
#: Of the stretches that no worker is at; a worker's own stretch is always kept.
CACHE_BYTES = 128_000_000
#: Row groups that are half read at once.
STREAMS = 2
#: File, its stamp, column, row group.
_Key = tuple[str, str, str, int]
_SHARD = re.compile(r"(.+)-(\d{5,})-of-(\d{5,})")
_MAGIC = {
    b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp",
    b"II*\0": ".tif", b"MM\0*": ".tif", b"RIFF": ".webp", b"\0\0\0\x0cjP": ".jp2",
}  # fmt: skip


def matches(source: Path) -> bool:
    """Whether this is a Parquet file, or a folder with one anywhere below."""
    if source.is_file():
        return source.suffix.lower() == ".parquet"
    return any(True for _ in source.rglob("*.parquet"))


def read(source: Path, options: ReadOptions) -> Iterator[Raw]:
    """Yield the rows of a file, or of all files below a folder in the order of their names.

    A file's name or folder tells the split (`data/train-00000-of-00012.parquet`,
    `train/0000.parquet`) unless a column does.

    Raises:
        DataError: pyarrow is not installed, a file is damaged or missing, or a column is.
    """
    files = [source]
    if not source.is_file():
        files = sorted(source.rglob("*.parquet"))
        _refuse_gaps(source, files)
    for path in files:
        with _readable(path):
            yield from _rows(path, _split_of(path, source), options)


@dataclasses.dataclass(frozen=True)
class ParquetRef:
    """An image inside a Parquet file.

    Args:
        path: The file.
        column: Where its bytes are: `image`, or `image.bytes` of a struct.
        row_group: Row group of the file, from 0.
        row: Row of the group, from 0.
        name: File name that the row gives the image; "" where it gives none.
        suffix: Of that name, or as the file's first image begins.
    """

    path: Path
    column: str
    row_group: int
    row: int
    name: str = ""
    suffix: str = ".img"

    @property
    def label(self) -> str:
        """The file and the row in it."""
        place = f"{self.path}: row group {self.row_group}, row {self.row}"
        return f"{place} ({self.name})" if self.name else place

    def stamp(self) -> str:
        """Size and time of the file, and the place in it."""
        return f"{stamp(self.path)}:{self.column}:{self.row_group}:{self.row}"

    def open(self) -> tuple[Image.Image, bytes]:
        """Decode the image; a row with a name and no bytes means a file beside the Parquet file."""
        data = _BLOCKS.value(self)
        if data is None and self.name:
            data = read_bytes(self.path.parent / self.name)
        if data is None:
            raise ImageError("no image in this row")
        return decode_image(data), data


def _rows(path: Path, split: Split | None, options: ReadOptions) -> Iterator[Raw]:
    finder = ImageFinder(path.parent, path.parent / "images")
    with _open(path) as file:
        schema = file.schema_arrow
        names = find_columns(path, schema.names, options.columns)
        image = names["image"]
        column = _image_column(path, image, schema.field(image).type)
        texts = {role: name for role, name in names.items() if role != "image" and name != image}
        wanted = sorted(set(texts.values()))
        if column != image:  # what follows of an image is its name
            wanted.append(f"{image}.path" if column else image)
        first, number = "", 0
        for group in range(file.num_row_groups):
            row = -1
            for batch in file.iter_batches(TEXT_ROWS, row_groups=[group], columns=wanted):
                for record in batch.to_pylist():
                    row, number = row + 1, number + 1
                    told = record.get(image)
                    name = str((told.get("path") if isinstance(told, dict) else told) or "")
                    ref: ImageRef
                    if column:
                        suffix = Path(name).suffix.lower()
                        if suffix not in IMAGE_SUFFIXES:
                            suffix = first = first or _first_suffix(file, column)
                        ref = ParquetRef(path, column, group, row, name, suffix)
                    else:
                        ref = finder.find(name)
                    values = {role: record.get(name) for role, name in texts.items()}
                    if values.get("id") in (None, ""):
                        values["id"] = Path(name).stem or f"{path.stem}-{number}"
                    yield _raw(path, values, ref, split)


def _raw(path: Path, values: dict[str, Any], image: ImageRef, split: Split | None) -> Raw:
    captions = values["caption"]
    captions = captions if isinstance(captions, list) else [captions]
    return Raw(
        id=str(values["id"]),
        image=image,
        captions=tuple(str(caption) for caption in captions if caption is not None),
        split=named_split(path, values.get("split")) or split,
        group=_text(values.get("group")),
        licence=_text(values.get("licence")),
        source=_text(values.get("source")),
        concepts=_words(values.get("concepts")),
        keywords=_words(values.get("keywords")),
    )


def _text(value: Any) -> str | None:
    return None if value in (None, "") else str(value)


def _words(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else str(value or "").split(";")
    return tuple(word for item in items if (word := str(item).strip()))


def _image_column(path: Path, name: str, kind: Any) -> str | None:
    """Return the leaf with the bytes of the images; None where the column holds file names."""
    types = arrow().types

    def is_one(kind: Any, *tests: Any) -> bool:
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return any(test(kind) for test in tests)

    binary = (types.is_binary, types.is_large_binary, types.is_binary_view)
    if is_one(kind, *binary):
        return name
    if is_one(kind, types.is_string, types.is_large_string, types.is_string_view):
        return None
    has_bytes = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    if has_bytes and is_one(kind.field("bytes").type, *binary):
        return f"{name}.bytes"
    raise DataError(
        explain(
            f"{path}: column {name!r} holds no image",
            got=f"values of type {kind}",
            expected="struct with bytes and path, binary, or a file name per row",
            do="name the right column with --image-column",
        )
    )


def _first_suffix(file: Any, column: str) -> str:
    """Return the suffix that the first image of a file calls for."""
    for batch in file.iter_batches(1, columns=[column], use_threads=False):
        data = _leaf(batch.column(0))[0].as_py() or b""
        return next((suffix for magic, suffix in _MAGIC.items() if data.startswith(magic)), ".img")
    return ".img"


def _leaf(array: Any) -> Any:
    """Return the plain array of bytes inside a struct or a dictionary."""
    types = arrow().types
    if types.is_struct(array.type):
        array = array.flatten()[0]
    return array.dictionary_decode() if types.is_dictionary(array.type) else array


def _split_of(path: Path, source: Path) -> Split | None:
    """Return the split that the file's name or, failing that, a folder below the source names."""
    parts = (path.stem, *reversed(path.relative_to(source).parts[:-1]))
    return next((split for part in parts if (split := split_in(part))), None)


def _refuse_gaps(source: Path, files: list[Path]) -> None:
    """Refuse a folder in which one of `...-00000-of-00012.parquet` is missing."""
    there: defaultdict[tuple[Path, str, int], set[int]] = defaultdict(set)
    for path in files:
        if found := _SHARD.fullmatch(path.stem):
            there[path.parent, found[1], int(found[3])].add(int(found[2]))
    for (folder, name, count), numbers in there.items():
        missing = sorted(set(range(count)) - numbers)
        if missing:
            raise DataError(
                explain(
                    f"{source}: the data set is not complete",
                    got=f"{len(numbers)} of {count} files of {folder.name}/{name}-*; "
                    f"missing: {', '.join(map(str, missing[:5]))}",
                    expected="all of them",
                    do="download the others, or name one file to prepare it alone",
                )
            )


def arrow(module: str = "pyarrow") -> Any:
    """Return a module of pyarrow, which has no type stubs.

    Raises:
        DataError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise DataError(
            explain(
                "Parquet files need pyarrow",
                got="it is not installed",
                expected="the extra for Parquet and the Hugging Face hub",
                do="pip install 'medblip[hf]'",
            )
        ) from None


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what pyarrow says of a damaged file into a message."""
    try:
        yield
    except (arrow().ArrowException, OSError, UnicodeDecodeError) as error:
        reason = _first_line(error)
        with contextlib.suppress(OSError), path.open("rb") as file:
            if file.read(23) == b"version https://git-lfs":
                reason = "a Git LFS pointer: the file itself was not downloaded"
        raise DataError(
            explain(
                f"{path}: not a readable Parquet file",
                got=reason,
                expected="a whole Parquet file",
                do="download it again (a clone of a repository needs `git lfs pull`)",
            )
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:150]


def _open(path: Path) -> Any:
    """Open a file such that a column is read a megabyte at a time, not whole."""
    return arrow("pyarrow.parquet").ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)


@dataclasses.dataclass(frozen=True, eq=False)
class _Block:
    """Consecutive rows of an image column, decoded from Parquet; no values where it is damaged."""

    key: _Key
    start: int
    stop: int
    values: Any
    reason: str = ""


class _Stream:
    """The blocks of one row group, first to last."""

    def __init__(self, ref: ParquetRef, key: _Key) -> None:
        self._key = key
        self._file = _open(ref.path)
        meta = self._file.metadata.row_group(ref.row_group)
        columns = [meta.column(index) for index in range(meta.num_columns)]
        n_bytes = sum(c.total_uncompressed_size for c in columns if c.path_in_schema == ref.column)
        self.rows = meta.num_rows
        size = max(1, min(self.rows, BLOCK_BYTES * self.rows // max(1, n_bytes)))
        self._batches = self._file.iter_batches(
            size, row_groups=[ref.row_group], columns=[ref.column], use_threads=False
        )
        self.position = 0

    def next(self) -> _Block:
        """Return the next block; where the file is damaged, one that holds the rest."""
        start = self.position
        try:
            batch = next(self._batches)
            self.position += batch.num_rows
            return _Block(self._key, start, self.position, _leaf(batch.column(0)))
        except (arrow().ArrowException, OSError, StopIteration) as error:
            self.position = self.rows
            return _Block(self._key, start, sys.maxsize, None, _first_line(error))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Blocks:
    """The blocks in use and the last ones used, shared by all threads of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mine = threading.local()
        self._live: weakref.WeakSet[_Block] = weakref.WeakSet()
        self._last: OrderedDict[_Block, None] = OrderedDict()
        self._streams: OrderedDict[_Key, _Stream] = OrderedDict()

    def value(self, ref: ParquetRef) -> bytes | None:
        """Return the bytes of one row; None where the row has none."""
        key = (str(ref.path), stamp(ref.path), ref.column, ref.row_group)
        block: _Block | None = getattr(self._mine, "block", None)
        if block is None or block.key != key or not block.start <= ref.row < block.stop:
            with self._lock:
                block = self._mine.block = self._find(key, ref.row) or self._load(ref, key)
        if block.values is None:
            raise ImageError(f"cannot be read: {block.reason}")
        value = block.values[ref.row - block.start]
        if not value.is_valid:
            return None
        buffer = value.as_buffer()
        if buffer.size > MAX_BYTES:
            raise ImageError(f"file of {buffer.size / 1e6:.0f} MB (limit {MAX_BYTES / 1e6:.0f} MB)")
        return bytes(buffer.to_pybytes())

    def _find(self, key: _Key, row: int) -> _Block | None:
        for block in self._live:
            if block.key == key and block.start <= row < block.stop:
                return block
        return None

    def _load(self, ref: ParquetRef, key: _Key) -> _Block:
        """Read on to the block of a row, from the start where the stream is past it."""
        stream = self._streams.pop(key, None)
        if stream is not None and stream.position > ref.row:
            stream.close()
            stream = None
        try:
            with _readable(ref.path):
                stream = stream or _Stream(ref, key)
        except DataError as error:
            raise ImageError(f"cannot be read: {str(error).splitlines()[1].strip()}") from None
        while (block := stream.next()).stop <= ref.row:
            self._keep(block)
        self._keep(block)
        if stream.position < stream.rows:
            self._streams[key] = stream
            if len(self._streams) > STREAMS:
                self._streams.popitem(last=False)[1].close()
        else:
            stream.close()
        return block

    def _keep(self, block: _Block) -> None:
        self._live.add(block)
        self._last[block] = None
        while len(self._last) > 1 and sum(map(_size, self._last)) > CACHE_BYTES:
            self._last.popitem(last=False)


def _size(block: _Block) -> int:
    return int(block.values.nbytes) if block.values is not None else 0


_BLOCKS = _Blocks()
