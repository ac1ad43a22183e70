"""The pixel store: images decoded and resized once, read for ever as uint8.

```
DATA/pixels/384x384-bicubic/
├── index.json   size, filter, which ids, and per shard: file, channels of its images, CRC-32
└── 00000.u8     the pixels of up to 256 images, one after the other, each (C, H, W)
```

An image whose three channels are equal (nearly all of radiology) is kept as one channel: a third
of the space. A store holds one row per row of the manifest, in its order; a store whose ids are
not the manifest's is never read. torch is imported only where a tensor is made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from medblip.data.images import reduce_grey
from medblip.errors import DataError, explain
from medblip.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    import torch

__all__ = [
    "SHARD_ROWS", "PixelStore", "Resize", "Shard", "file_crc32", "ids_digest", "normalised",
    "normalised_on", "write_index",
]  # fmt: skip

#: Images per shard: 38 MB of grey images at 384 x 384, so that a kill costs a second of work.
SHARD_ROWS = 256


@dataclasses.dataclass(frozen=True)
class Resize:
    """What is done to an image before its pixels are kept.

    Pillow's own resize, as transformers' Pillow image processors do it before they rescale and
    normalise (image_processing_backends.py, PilBackend.resize): the same bytes, held by a test.

    Args:
        height: Of the model's input, in pixels.
        width: Of the model's input, in pixels.
        resample: `bicubic` (BLIP, BLIP-2), `bilinear` (ViT), `lanczos`, `nearest` or `box`.
    """

    height: int
    width: int
    resample: str = "bicubic"

    @property
    def name(self) -> str:
        """Name of the store's folder."""
        return f"{self.height}x{self.width}-{self.resample}"

    def apply(self, image: Image.Image) -> np.ndarray:
        """Return uint8 (1, H, W) for a grey image, else (3, H, W)."""
        image = reduce_grey(image)  # before the resize: each channel of a grey image is the same
        if image.size != (self.width, self.height):
            how = Image.Resampling[self.resample.upper()]
            image = image.resize((self.width, self.height), how)
        pixels = np.asarray(image)
        return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of a store: its name, the channels of each image in it (`"1131"`), its CRC-32."""

    file: str
    channels: str
    crc32: int


class PixelStore:
    """Random access to the resized pixels of a prepared data set.

    Args:
        folder: `DATA/pixels/<name>`.
        ids: Of the manifest, in its order.

    Raises:
        DataError: The store is of other images, incomplete, or a shard has another length.
    """

    def __init__(self, folder: Path, ids: Sequence[str]) -> None:
        index = _read_index(folder)
        if index["ids"] != ids_digest(ids):
            raise DataError(
                explain(
                    f"{folder}: the pixels of another manifest",
                    got="other ids, or another order",
                    expected="the rows of manifest.jsonl",
                    do="delete that folder: it is made again when it is needed",
                )
            )
        self.folder = folder
        self.resize = Resize(index["height"], index["width"], index["resample"])
        self.shards = [Shard(**shard) for shard in index["shards"]]
        channels = "".join(shard.channels for shard in self.shards)
        self.channels = np.frombuffer(channels.encode("ascii"), np.uint8) - ord("0")
        counts = [len(shard.channels) for shard in self.shards]
        self._shard_of = np.repeat(np.arange(len(counts)), counts)
        size = self.resize.height * self.resize.width
        ends = np.cumsum(self.channels, dtype=np.int64) * size
        starts = ends - self.channels.astype(np.int64) * size
        first = np.cumsum([0, *counts])[:-1]
        self._offset = starts - starts[first][self._shard_of] if counts else starts
        self._maps: list[np.ndarray | None] = [None] * len(counts)
        for shard in self.shards:
            self._require(shard, size)

    def __len__(self) -> int:
        return len(self.channels)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return the pixels of one image, uint8 (1 or 3, H, W): a view of the mapped file."""
        number = int(self._shard_of[index])
        mapped = self._maps[number]
        if mapped is None:
            mapped = np.memmap(self.folder / self.shards[number].file, np.uint8, mode="r")
            self._maps[number] = mapped
        channels, height, width = int(self.channels[index]), self.resize.height, self.resize.width
        start = int(self._offset[index])
        return mapped[start : start + channels * height * width].reshape(channels, height, width)

    def batch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return uint8 (B, 1, H, W) when every image is grey, else (B, 3, H, W)."""
        rows = np.asarray(indices, dtype=np.int64)
        channels = int(self.channels[rows].max(initial=1))
        out = np.empty((len(rows), channels, self.resize.height, self.resize.width), np.uint8)
        for place, index in enumerate(rows):
            out[place] = self[int(index)]
        return out

    def damaged(self) -> list[str]:
        """Read every shard and return the files whose bytes are not those that were written."""
        return [s.file for s in self.shards if file_crc32(self.folder / s.file) != s.crc32]

    def _require(self, shard: Shard, size: int) -> None:
        path = self.folder / shard.file
        expected = size * sum(map(int, shard.channels))
        got = path.stat().st_size if path.is_file() else None
        if got != expected:
            raise DataError(
                explain(
                    f"{path}: a damaged shard of pixels",
                    got="no such file" if got is None else f"{got} bytes",
                    expected=f"{expected} bytes",
                    do=f"delete {self.folder}: it is made again when it is needed",
                )
            )


def write_index(folder: Path, resize: Resize, ids: str, shards: Iterable[Shard]) -> None:
    """Write `index.json`, last of all: a folder without it is no store."""
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        **dataclasses.asdict(resize),
        "ids": ids,
        "shards": [dataclasses.asdict(shard) for shard in shards],
    }
    (folder / "index.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def ids_digest(ids: Iterable[str]) -> str:
    """Return what tells one manifest's rows from another's: a hash of the ids in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for name in ids:
        digest.update(name.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def normalised(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Return float32 (B, 3, H, W) of uint8 (B, 1 or 3, H, W): (x / 255 - mean) / std.

    A byte has 256 values, so each channel is one look-up: memory is written once. On the CPU
    2,600 images/s at 384 x 384, against 1,270 for the arithmetic (a page of fresh memory costs
    more than both: filling it with ones runs at 2,400).
    """
    import torch

    levels = torch.arange(256, dtype=torch.float32)
    tables = [levels.sub(255 * m).div_(255 * s).numpy() for m, s in zip(mean, std, strict=True)]
    out = np.empty((len(pixels), 3, *pixels.shape[2:]), np.float32)
    for index, image in enumerate(pixels):
        for channel, table in enumerate(tables):
            plane = image[channel if len(image) == 3 else 0]
            np.take(table, plane, out=out[index, channel], mode="clip")  # "clip" needs no buffer
    return torch.from_numpy(out)


def normalised_on(
    device: torch.device, pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    """Return the same as `normalised`, computed where the network is: a quarter of the transfer."""
    import torch

    if device.type == "cpu" and pixels.device.type == "cpu":
        return normalised(pixels.numpy(), mean, std)
    levels = pixels.to(device, non_blocking=True).float()
    planes = [levels[:, channel if levels.shape[1] == 3 else 0] for channel in range(3)]
    # numbers of the host, not a tensor of them: a copy to the GPU here would stop a CUDA graph
    parts = zip(planes, mean, std, strict=True)
    return torch.stack([plane.sub(255 * m).div_(255 * s) for plane, m, s in parts], dim=1)


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if index["schema_version"] != SCHEMA_VERSION:
            raise KeyError("schema_version")
        return index
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            explain(
                f"{folder}: no pixel store that can be read",
                got=f"{type(error).__name__}: {error}",
                expected="the index.json of this version of medblip",
                do="delete that folder: it is made again when it is needed",
            )
        ) from None


def file_crc32(path: Path) -> int:
    """Return the CRC-32 of a file."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value
