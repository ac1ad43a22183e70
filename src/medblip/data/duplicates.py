"""Which images are the same picture: exactly, or re-encoded, resized, brightened, slightly cropped.

Every image leaves a fingerprint of 1,040 bytes: checksums of its pixels, and its detail, a 32 x 32
thumbnail without slow changes of brightness. Chest films all look alike in a plain thumbnail, and
all sectors of an ultrasound probe have one outline; what sets them apart is the finest detail.
So near-duplicates are found in two stages: all pairs are compared at 16 x 16, by matrix products;
what is alike there is laid on each other and compared at 32 x 32, in the finest detail alone.
A picture and its mirror image are no duplicates: in radiology they are two findings.
Measured in docs/leakage.md.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

__all__ = ["FINGERPRINT", "SIMILAR", "Pairs", "fingerprint", "near_pairs", "pixel_digest"]

_SIDE = 32
#: One row per image; `fingerprint` returns the bytes of one. `pixels` is
#: `pixel_digest`; `detail` is all zeros where an image has none to compare.
FINGERPRINT = np.dtype([("pixels", "u1", (16,)), ("detail", "i1", (_SIDE, _SIDE))])

#: Correlation from which on two details are of one picture (benchmarks/duplicates_bench.py).
SIMILAR = 0.8
#: Correlation at 16 x 16 below which a pair is not looked at again.
_CANDIDATE = 0.68
#: Images are laid on each other at these scales and shifts (in 1/32 of the side) of each axis:
#: most copies that lost 2 % of each side are found, few that lost 5 %.
_SCALES, _SHIFTS = (0.96, 1.0, 1.04), (-1.0, 0.0, 1.0)
#: In grey levels: an image whose detail deviates by less is flat, and any two of them look alike.
_FLAT = 0.5
#: Images with a shorter side have no 32 x 32 pixels worth of detail.
_SMALL = 16
#: Detail is kept in steps of 1/24 of its deviation, up to 4 deviations, and compared up to 2: a
#: bright marker must not outweigh the anatomy.
_STEPS, _KEPT, _COMPARED = 24, 4, 2


def pixel_digest(image: Image.Image) -> bytes:
    """Return 16 bytes that are equal for equal pixels, whatever file they came from.

    A colour image whose channels are equal counts as grey. Two checksums and the size: a fifth of
    the time of a hash, and enough for millions of images.
    """
    if image.mode == "L":
        planes = [np.asarray(image)]
    else:
        channels = image if image.mode == "RGB" else image.convert("RGB")
        planes = [np.asarray(channel) for channel in channels.split()]
        if all(np.array_equal(planes[0], plane) for plane in planes[1:]):
            planes = planes[:1]
    crc32, adler32 = 0, 1
    for plane in planes:
        crc32, adler32 = zlib.crc32(plane.data, crc32), zlib.adler32(plane.data, adler32)
    return struct.pack("<IIIHBx", crc32, adler32, image.width, image.height % 65536, len(planes))


def fingerprint(image: Image.Image) -> bytes:
    """Return one `FINGERPRINT` as bytes.

    Args:
        image: As `medblip.data.images` decodes it: mode L or RGB.
    """
    detail = np.zeros((_SIDE, _SIDE), np.int8)
    if min(image.size) >= _SMALL:
        small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
        levelled = _levelled(np.asarray(small, np.float32)[None], reach=2)[0]
        deviation = float(levelled.std())
        if deviation >= _FLAT:
            limited = np.clip(levelled / deviation, -_KEPT, _KEPT)
            detail = np.rint(limited * _STEPS).astype(np.int8)
    return pixel_digest(image) + detail.tobytes()


def _levelled(images: np.ndarray, reach: int) -> np.ndarray:
    """Return (N, H, W) images less their mean over 2 reach + 1 pixels each way.

    Beyond an edge, the edge goes on.
    """
    height, width = images.shape[1:]
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    offsets = range(2 * reach + 1)
    rows = np.add.reduce([padded[:, k : k + height] for k in offsets])
    total = np.add.reduce([rows[:, :, k : k + width] for k in offsets])
    return np.asarray(images - total / len(offsets) ** 2)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Near-duplicates.

    Args:
        rows: int64 (P, 2): two rows each, the lower first, in order.
        similarity: float32 (P,): correlation of their details, at most 1.
        complete: False when the search ended at its limit.
    """

    rows: np.ndarray
    similarity: np.ndarray
    complete: bool = True


def near_pairs(
    fingerprints: np.ndarray, labels: Sequence[str] | None = None, *, limit: int = 1_000_000
) -> Pairs:
    """Find all pairs of images that are the same picture.

    Every pair is compared; 80,000 images take half a minute on two cores, or a third of that
    with labels of usual shares, and 0.3 GB.

    Args:
        fingerprints: `FINGERPRINT` rows; a mapped file will do.
        labels: One per row, e.g. its split: only pairs of different labels are looked for.
        limit: Stop at so many pairs: a thousand copies of one image are half a million.
    """
    usable = np.flatnonzero(_norms(fingerprints))
    codes = np.zeros(len(usable), np.int64)
    if labels is not None:
        codes = np.unique(np.asarray(labels)[usable], return_inverse=True)[1].reshape(-1)
        order = np.argsort(codes, kind="stable")  # blocks of one label are skipped
        usable, codes = usable[order], codes[order]
    found: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    total, complete = 0, True
    for first, second in _candidates(_coarse(fingerprints, usable), codes, labels is not None):
        rows = np.sort(np.stack([usable[first], usable[second]], 1), axis=1)
        score = _similarity(fingerprints, rows)
        same = score >= SIMILAR
        found.append(rows[same])
        scores.append(score[same])
        total += int(same.sum())
        if total >= limit:
            complete = False
            break
    rows = np.concatenate([np.empty((0, 2), np.int64), *found])
    score = np.concatenate([np.empty(0, np.float32), *scores])
    order = np.lexsort((rows[:, 1], rows[:, 0]))[:limit]
    return Pairs(rows[order], score[order], complete)


def _chunks(n_rows: int, size: int = 4096) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, n_rows, size))


def _norms(fingerprints: np.ndarray) -> np.ndarray:
    """Return the length of each detail, 0 where there is none."""
    norms = [
        np.sqrt(np.square(fingerprints["detail"][part].astype(np.float32)).sum((1, 2)))
        for part in _chunks(len(fingerprints))
    ]
    return np.concatenate([np.empty(0, np.float32), *norms])


def _coarse(fingerprints: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return details at 16 x 16, float32 (N, 256), each of length 1."""
    half = _SIDE // 2
    coarse = np.empty((len(rows), half * half), np.float32)
    for part in _chunks(len(rows)):
        detail = fingerprints["detail"][rows[part]].astype(np.float32)
        small = detail.reshape(-1, half, 2, half, 2).sum((2, 4)).reshape(-1, half * half)
        coarse[part] = small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)
    return coarse


def _candidates(
    coarse: np.ndarray, codes: np.ndarray, across: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield places of pairs that are alike at 16 x 16, a few thousand at a time."""
    for rows in _chunks(len(coarse), 1024):
        for columns in _chunks(len(coarse), 4096):
            if columns.stop <= rows.start + 1:
                continue
            here, there = codes[rows], codes[columns]
            if across and here[0] == here[-1] == there[0] == there[-1]:
                continue
            places = np.flatnonzero(coarse[rows] @ coarse[columns].T >= _CANDIDATE)
            first, second = np.divmod(places, len(there))
            keep = first + rows.start < second + columns.start
            if across:
                keep &= here[first] != there[second]
            first, second = first[keep] + rows.start, second[keep] + columns.start
            for part in _chunks(len(first)):
                yield first[part], second[part]


def _similarity(fingerprints: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return how alike two pictures are when laid on each other; 0 where a mirror image is more."""
    scores = np.zeros(len(rows), np.float32)
    for part in _chunks(len(rows), 256):
        one, other = (_finest(fingerprints["detail"][rows[part, k]]) for k in (0, 1))
        score = _aligned(one, other)
        same = np.flatnonzero(score >= SIMILAR)
        score[same] *= score[same] > _aligned(one[same], other[same, :, ::-1])
        scores[part] = score
    return scores


def _finest(detail: np.ndarray) -> np.ndarray:
    """Return float32 (N, 32, 32) of length 1: detail less its mean over 3 x 3."""
    finest = _levelled(detail.astype(np.float32), reach=1)
    deviation = np.maximum(finest.std((1, 2), keepdims=True), 1e-6)
    finest = np.clip(finest / deviation, -_COMPARED, _COMPARED)
    length = np.sqrt(np.square(finest).sum((1, 2), keepdims=True))
    return np.asarray(finest / np.maximum(length, 1e-6), dtype=np.float32)


def _aligned(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the best correlation of (N, 32, 32) over all scales and shifts of `other`.

    <a, W b V'> is <W' a, b V'>: nine versions of each make 81 alignments.
    """
    warps = _warps()
    n, w = len(one), len(warps)
    down = (warps.transpose(0, 2, 1) @ one[:, None]).reshape(n, w, _SIDE**2)
    across = (other[:, None] @ warps.transpose(0, 2, 1)).reshape(n, w, _SIDE**2)
    # what a warp moves out of sight or smooths away must not count; the two axes are taken as
    # independent
    heights = np.linalg.norm((warps @ other[:, None]).reshape(n, w, _SIDE**2), axis=2)
    widths = np.linalg.norm(across, axis=2)
    length = np.maximum(heights[:, :, None] * widths[:, None, :], 0.3)
    return np.asarray((down @ across.transpose(0, 2, 1) / length).max((1, 2)))


@functools.cache
def _warps() -> np.ndarray:
    """Return float32 (9, 32, 32): matrices that scale and shift a line by linear interpolation."""
    warps = np.zeros((len(_SCALES), len(_SHIFTS), _SIDE, _SIDE), np.float32)
    place = np.arange(_SIDE)
    for i, scale in enumerate(_SCALES):
        for k, shift in enumerate(_SHIFTS):
            source = (place + 0.5 - _SIDE / 2) * scale + _SIDE / 2 + shift - 0.5
            for step in (0, 1):
                index = np.floor(source).astype(int) + step
                inside = (index >= 0) & (index < _SIDE)
                weight = 1 - np.abs(source - index)
                warps[i, k, place[inside], index[inside]] = weight[inside]
    return warps.reshape(-1, _SIDE, _SIDE)
