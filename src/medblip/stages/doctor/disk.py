"""Where it would be written: room for features, pixels and checkpoints, and renames that hold."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medblip.config import RunConfig
from medblip.data.store import Resize
from medblip.errors import MedblipError
from medblip.files import read_json
from medblip.schema import Example
from medblip.stages.doctor.diagnose import Finding

if TYPE_CHECKING:
    from medblip.models.captioner import Captioner
    from medblip.models.freeze import Match

__all__ = ["file_system", "space"]


@dataclasses.dataclass(frozen=True)
class _Need:
    """Something that would be written.

    Args:
        what: In a few words.
        size: Bytes.
        folder: Where.
        instead: What training does where there is no room for it; empty: it stops.
    """

    what: str
    size: int
    folder: Path
    instead: str = ""

    @property
    def place(self) -> Path:
        """The folder, or the nearest one above it that exists."""
        return next(p for p in [self.folder, *self.folder.absolute().parents] if p.exists())


def space(
    cfg: RunConfig, out: Path, captioner: Captioner, matches: Sequence[Match],
    examples: Sequence[Example],
) -> list[Finding]:  # fmt: skip
    """Return the room that features, pixels and checkpoints need, against what is free.

    `train` looks at each when its turn comes: what fits alone may not fit together.
    """
    total = sum(match.parameters for match in matches)
    moving = sum(match.parameters for match in matches if match.rate is not None)
    one = 4 * total + 8 * moving  # weights, and AdamW's two moments
    needs = [  # those that are kept, the one that is being written, and the best
        _Need("checkpoints", one * (cfg.train.keep_checkpoints + 1) + 4 * total, out),
        _pixels(cfg, captioner, examples),
    ]
    if not captioner.encoder_trains and cfg.train.feature_cache != "off":
        needs.append(_features(cfg, captioner, examples))
    found, disks = [], dict[int, list[_Need]]()
    for need in needs:
        finding = _room(need)
        found.append(finding)
        if finding.level == "ok":
            disks.setdefault(need.place.stat().st_dev, []).append(need)
    for shared in disks.values():
        size, free = sum(n.size for n in shared), shutil.disk_usage(shared[0].place).free
        if size > free:
            found.append(
                Finding(
                    level="error", about="one disk for " + " and ".join(n.what for n in shared),
                    got=f"{size / 1e6:,.0f} MB of {free / 1e6:,.0f} MB free",
                    do="free some space, or put one elsewhere (--out, train.feature_cache)",
                )
            )  # fmt: skip
    return found


def file_system(out: Path) -> list[Finding]:
    """Try what a checkpoint relies on: rename over a file, rename of a folder, fsync."""
    existing = next(p for p in [out, *out.absolute().parents] if p.is_dir())
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix=".medblip-doctor-") as name:
            fault = _probe(Path(name))
    except OSError as error:
        fault = error.strerror or str(error)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT):
            return [Finding(level="error", about=f"file system of {existing}", got=fault,
                            do="choose an --out that can be written")]  # fmt: skip
    if fault:
        return [
            Finding(
                level="error", about=f"file system of {existing}",
                got=f"{fault}: checkpoints could not be replaced safely",
                do="write runs to a local disk, not to an object store mounted as a folder",
            )
        ]  # fmt: skip
    return [Finding(level="ok", about="file system", got="renames and flushes as it should")]


def _probe(folder: Path) -> str:
    """Write, flush and rename below an empty folder; return what was not as it should be."""
    (folder / "a").mkdir()
    (folder / "a" / "new").write_text("new")
    (folder / "old").write_text("old")
    _flush(folder / "a" / "new")
    os.replace(folder / "a" / "new", folder / "old")
    os.replace(folder / "a", folder / "b")
    _flush(folder)
    there = sorted(path.name for path in folder.iterdir())
    if there != ["b", "old"] or (folder / "old").read_text() != "new":
        return "a renamed file or folder is not where it belongs"
    return ""


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pixels(cfg: RunConfig, captioner: Captioner, examples: Sequence[Example]) -> _Need:
    """Return the pixel stores that are not there yet; `train` makes one per split."""
    height, width = captioner.image_size
    stores = Path(cfg.data.root) / "pixels"
    name = Resize(height, width, captioner.image_resample).name
    absent = []
    for split in ("train", "validation"):
        places = (stores / name, stores / f"{name}-{split}")
        if not any((place / "index.json").is_file() for place in places):
            absent.append(split)
    images = sum(example.split in absent for example in examples)
    return _Need("pixel store (grey; colour is three times that)", images * height * width,
                 Path(cfg.data.root), "images are decoded at every step, slower")  # fmt: skip


def _features(cfg: RunConfig, captioner: Captioner, examples: Sequence[Example]) -> _Need:
    """Return a frozen encoder's features, but for what caches of that size hold already."""
    from medblip.models.features import cache_bytes

    setting = cfg.train.feature_cache
    folder = Path(cfg.data.root) / "features" if setting == "auto" else Path(setting)
    kept = set()
    for index in folder.glob("*/index.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, MedblipError):  # damaged: no cache
            key = read_json(index)["key"]
            kept.add((key["count"], key["dtype"], tuple(key["shape"])))
    shape, dtype = captioner.feature_shape, cfg.train.feature_dtype
    counts = [
        sum(example.split == "train" for example in examples),
        min(sum(e.split == "validation" for e in examples), cfg.train.validation_images),
    ]
    size = sum(cache_bytes(n, shape, dtype) for n in counts if (n, dtype, tuple(shape)) not in kept)
    instead = "the encoder runs at every step, slower" if setting == "auto" else ""
    return _Need("features of the frozen encoder", size, folder, instead)


def _room(need: _Need) -> Finding:
    free = shutil.disk_usage(need.place).free
    level: Literal["error", "warning", "ok"] = "ok"
    got = f"{need.size / 1e6:,.0f} MB of {free / 1e6:,.0f} MB free"
    if need.size and not os.access(need.place, os.W_OK):
        level, got = "error", f"{need.place} cannot be written"
    elif need.size and free < 1.1 * need.size:
        level = "error"
    if level == "error" and need.instead:
        level, got = "warning", f"{got}: {need.instead}"
    return Finding(
        level=level, about=f"disk for the {need.what}", got=got,
        do="" if level == "ok" else "free some space, or choose another folder",
    )  # fmt: skip
