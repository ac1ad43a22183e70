"""The output of a frozen image encoder, computed once per image and kept on the disk.

```
FOLDER/<key>/
├── index.json    the key in words, shape, dtype, and per shard: file, rows, CRC-32
└── 00000.f16     the image tokens of up to 64 images, one after the other, each (P, D)
```

Each shard says what it cost, so that a run that finds the cache can still tell its full price.

The key is a hash of everything that decides the numbers: the encoder's weights, the resize and
normalisation, the images, the precision they were computed in and the type they are kept in. Any
change is another key, so a cache is never wrong, only unused. fp16 by default: with features of
BLIP's size its error is a seventh of bfloat16's, at the same space (docs/training.md).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medblip.errors import DataError, explain
from medblip.files import json_text, read_json, resumable_directory, staged_file
from medblip.power import Cost
from medblip.progress import console, track

__all__ = ["FeatureCache", "cache_bytes", "cache_name", "compute", "missing_shards", "write_index"]

#: Images per shard: 57 MB at BLIP-base in fp16, so that a kill costs a second of a GPU's work.
SHARD_ROWS = 64
_DTYPES: dict[str, np.dtype[Any]] = {"fp16": np.dtype(np.float16), "fp32": np.dtype(np.float32)}


class FeatureCache:
    """Random access to the features of some images, memory-mapped.

    Args:
        folder: `FOLDER/<key>`.

    Raises:
        DataError: It is incomplete, or a shard is not what was written.
    """

    def __init__(self, folder: Path) -> None:
        index = _read_index(folder)
        self.folder = folder
        self.tokens, self.width = index["shape"]
        self.dtype = _DTYPES[index["dtype"]]
        self._shards = index["shards"]
        #: What computing it took, in one process after the other.
        self.cost = sum(
            (Cost(shard["seconds"], shard.get("joules")) for shard in self._shards), Cost()
        )
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            faults = [f for f in pool.map(self._fault, self._shards) if f is not None]
        if faults:
            raise DataError(
                explain(
                    f"{folder}: a damaged feature cache",
                    got="; ".join(faults[:3]),
                    expected="the bytes that were written",
                    do="run again: what is damaged is computed anew",
                )
            )
        shape = (-1, self.tokens, self.width)
        self._maps = [
            np.memmap(folder / shard["file"], self.dtype, mode="r").reshape(shape)
            for shard in self._shards
        ]

    def __len__(self) -> int:
        return int(sum(shard["rows"] for shard in self._shards))

    @property
    def nbytes(self) -> int:
        """Bytes of all features."""
        return int(len(self) * self.tokens * self.width * self.dtype.itemsize)

    def read(self, rows: Sequence[int] | np.ndarray) -> torch.Tensor:
        """Return the features of some images, (B, P, D) in the type they are kept in."""
        out = np.empty((len(rows), self.tokens, self.width), self.dtype)
        for place, row in enumerate(rows):
            number, inside = divmod(int(row), SHARD_ROWS)
            out[place] = self._maps[number][inside]
        return torch.from_numpy(out)

    def on_device(self, device: str) -> torch.Tensor | None:
        """Return all features (N, P, D) on a GPU if they leave half its free memory, else None."""
        if not device.startswith("cuda"):
            return None
        free, _ = torch.cuda.mem_get_info(torch.device(device))
        if self.nbytes > free // 2:
            return None
        dtype = torch.float16 if self.dtype.itemsize == 2 else torch.float32
        kept = torch.empty(len(self), self.tokens, self.width, dtype=dtype, device=device)
        starts = range(0, len(self), SHARD_ROWS)
        for number in track(starts, "features to the GPU", len(starts), unit="shard"):
            rows = np.array(self._maps[number // SHARD_ROWS])
            kept[number : number + len(rows)] = torch.from_numpy(rows)
        return kept

    def _fault(self, shard: dict[str, Any]) -> str | None:
        path = self.folder / shard["file"]
        expected = shard["rows"] * self.tokens * self.width * self.dtype.itemsize
        if not path.is_file():
            return f"{shard['file']} is missing"
        if path.stat().st_size != expected:
            return f"{shard['file']} has {path.stat().st_size} bytes instead of {expected}"
        return (
            None if _crc32(path) == shard["crc32"] else f"{shard['file']} is not what was written"
        )


def cache_name(key: dict[str, Any]) -> str:
    """Return the folder name that belongs to a key."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]


def cache_bytes(images: int, shape: Sequence[int], dtype: str) -> int:
    """Return the disk space of a cache.

    >>> cache_bytes(65_000, (577, 768), "fp16") / 1e9  # ROCO at BLIP-base
    57.60768
    """
    return int(images * math.prod(shape) * _DTYPES[dtype].itemsize)


@contextlib.contextmanager
def missing_shards(folder: Path, images: int) -> Iterator[tuple[Path, list[int]]]:
    """Yield (folder to fill, numbers of the shards that are not there yet).

    A killed call goes on where it stopped. Shards of a damaged cache that are whole are taken over.
    """
    with resumable_directory(folder) as (filled, _):
        _take_over(folder, filled)
        numbers = range(-(-images // SHARD_ROWS))
        yield filled, [number for number in numbers if not _is_whole(filled, number)]


def compute(
    encode: Callable[[range], torch.Tensor], images: int, numbers: Sequence[int], folder: Path,
    *, dtype: str, batch_size: int, processes: int = 1,
    energy: Callable[[], float | None] = lambda: None,
) -> None:  # fmt: skip
    """Write shards.

    Args:
        encode: Features (B, P, D) of the images in a range.
        images: In all shards.
        numbers: Which shards.
        folder: To write them to.
        dtype: `fp16` or `fp32`.
        batch_size: Images per call of `encode`.
        processes: That share the work, each on a device of its own: seconds are divided.
        energy: Joules counted so far; None where nobody counts.
    """
    for number in track(numbers, "features of the frozen encoder", len(numbers), unit="x 64 img"):
        begun, before = time.perf_counter(), energy()
        rows = range(number * SHARD_ROWS, min((number + 1) * SHARD_ROWS, images))
        parts = [
            encode(rows[start : start + batch_size]).float().cpu().numpy()
            for start in range(0, len(rows), batch_size)
        ]
        with np.errstate(over="ignore"):  # told in words below
            kept = np.concatenate(parts).astype(_DTYPES[dtype])
        if not np.isfinite(kept).all():
            raise DataError(
                explain(
                    "features do not fit into fp16",
                    got=f"a value of {max(float(np.abs(part).max()) for part in parts):g}",
                    expected="at most 65,504",
                    do="set train.feature_dtype = 'fp32', or train.feature_cache = 'off'",
                )
            )
        path = folder / f"{number:05d}.{dtype.replace('fp', 'f')}"
        with staged_file(path) as partial:
            kept.tofile(partial)
        note = {"file": path.name, "rows": len(rows), "crc32": _crc32(path),
                "seconds": round((time.perf_counter() - begun) / processes, 4)}  # fmt: skip
        if before is not None and (after := energy()) is not None:
            note["joules"] = round(after - before, 3)
        with staged_file(folder / f"{number:05d}.json") as partial:
            partial.write_text(json_text(note), encoding="utf-8")


def write_index(folder: Path, key: dict[str, Any], tokens: int, width: int, dtype: str) -> None:
    """Write `index.json`, last of all: a folder without it is no cache."""
    notes = sorted(folder.glob("[0-9]*.json"))
    shards = [read_json(note) for note in notes]
    for shard in shards:
        shard.pop("schema_version")
    record = {"key": key, "shape": [tokens, width], "dtype": dtype, "shards": shards}
    (folder / "index.json").write_text(json_text(record), encoding="utf-8")


def _take_over(folder: Path, filled: Path) -> None:
    """Link the shards of a cache that was found damaged; the whole ones need no second pass."""
    if not folder.is_dir() or any(filled.iterdir()):
        return
    console().print(f"{folder.name}: a damaged feature cache, its whole shards are kept")
    for path in folder.iterdir():
        if path.name != "index.json":
            with contextlib.suppress(OSError):
                os.link(path, filled / path.name)


def _is_whole(folder: Path, number: int) -> bool:
    note = folder / f"{number:05d}.json"
    if not note.is_file():
        return False
    written = read_json(note)
    if "seconds" not in written:  # of a medblip that did not yet say what a shard costs
        return False
    path = folder / written["file"]
    whole: bool = path.is_file() and _crc32(path) == written["crc32"]
    if not whole:  # a damaged shard may be a link: never write into it
        path.unlink(missing_ok=True)
        note.unlink()
    return whole


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = read_json(folder / "index.json")
        if not all("seconds" in shard for shard in index["shards"]):
            raise ValueError("shards without their cost")
        return index
    except Exception as error:
        raise DataError(
            explain(
                f"{folder}: no feature cache that can be read",
                got=f"{type(error).__name__}",
                expected="the index.json of this version of medblip",
                do="run again: it is computed anew",
            )
        ) from None


def _crc32(path: Path) -> int:
    import zlib

    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value
