"""WebDataset shards: tar files in which the members of one sample share a name up to the first dot.

`000123.jpg` with `000123.txt` or `.caption`, or with `000123.json` (`caption` or `text`, and
optionally `id`, `split`, `group`, `licence`, `source`). Members of a sample must follow each other,
as the format has it. Shards are read in place, without unpacking; compressed ones are not.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medblip.data.raw import Raw, ReadOptions, SliceRef
from medblip.data.readers.names import IMAGE_SUFFIXES, split_in, split_name
from medblip.errors import DataError, explain

__all__ = ["matches", "read"]

_TEXTS = {"txt", "caption", "text"}
#: A caption of more than this is no caption.
_MAX_TEXT = 1_000_000


def matches(source: Path) -> bool:
    """Whether the first members of the (first) shard are an image and a text of one name."""
    shards = _shards(source)
    if not shards:
        return False
    kinds: dict[str, set[str]] = {}
    try:
        with tarfile.open(shards[0], "r:") as archive:
            for _, member in zip(range(12), archive, strict=False):
                key, kind = _parts(member.name)
                kinds.setdefault(key, set()).add(kind)
    except (tarfile.TarError, OSError):
        return False
    return any(
        kinds_of & (_TEXTS | {"json"}) and any(f".{kind}" in IMAGE_SUFFIXES for kind in kinds_of)
        for kinds_of in kinds.values()
    )


def read(source: Path, options: ReadOptions) -> Iterator[Raw]:
    """Yield the samples of every shard, in the order of names and members.

    Raises:
        DataError: A shard is torn, compressed or no tar.
    """
    for shard in _shards(source):
        split = split_in(shard.stem) or (split_in(shard.parent.name) if source.is_dir() else None)
        sample: dict[str, Any] = {}
        last, end = None, 0
        try:
            with tarfile.open(shard, "r:") as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # or memory grows
                    end = member.offset_data + -(-member.size // 512) * 512
                    if not member.isreg():
                        continue
                    key, kind = _parts(member.name)
                    if key != last and last is not None:
                        yield _row(shard, last, sample, split)
                        sample = {}
                    last = key
                    _take(archive, shard, member, kind, sample)
            _require_end(shard, end)
            if last is not None:
                yield _row(shard, last, sample, split)
        except (tarfile.TarError, EOFError) as error:
            raise DataError(
                explain(
                    f"{shard}: cannot be read as a shard",
                    got=str(error) or "it ends too early",
                    expected="an uncompressed tar",
                    do="fetch it again; unpack .tar.gz to .tar",
                )
            ) from None


def _require_end(shard: Path, end: int) -> None:
    """Refuse a tar without its end mark, a block of zeros: tarfile takes a torn one for a whole."""
    with shard.open("rb") as file:
        file.seek(end)
        if file.read(512) != bytes(512):
            raise tarfile.ReadError("it ends too early")


def _take(
    archive: tarfile.TarFile,
    shard: Path,
    member: tarfile.TarInfo,
    kind: str,
    sample: dict[str, Any],
) -> None:
    if f".{kind}" in IMAGE_SUFFIXES:
        sample["image"] = SliceRef(shard, member.name, member.offset_data, member.size)
        return
    if kind not in _TEXTS | {"json"} or member.size > _MAX_TEXT:
        return
    file = archive.extractfile(member)
    text = file.read().decode("utf-8", errors="replace") if file else ""
    if kind in _TEXTS:
        sample["caption"] = text
        return
    try:
        told = json.loads(text)
    except ValueError:
        return
    if isinstance(told, dict):
        sample.setdefault("told", {}).update(told)


def _row(shard: Path, key: str, sample: dict[str, Any], split: Any) -> Raw:
    told = sample.get("told", {})
    caption = sample.get("caption") or told.get("caption") or told.get("text") or ()
    group, source = told.get("group"), told.get("source")
    licence = told.get("licence") or told.get("license")
    return Raw(
        id=str(told.get("id") or key),
        image=sample.get("image") or SliceRef(shard, f"{key} (no image)", 0, 0),
        captions=tuple(map(str, caption))
        if isinstance(caption, list)
        else (str(caption),)
        if caption
        else (),
        split=split_name(told.get("split")) or split,
        licence=str(licence) if licence else None,
        group=str(group) if group else None,
        source=str(source) if source else None,
    )


def _parts(name: str) -> tuple[str, str]:
    """Return key and kind: `a/b/0001` and `jpg` of `a/b/0001.jpg`; dots of folders do not count."""
    folder, base = os.path.split(name)
    stem, _, kind = base.partition(".")
    return os.path.join(folder, stem), kind.lower().rpartition(".")[2]


def _shards(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix.lower() == ".tar" else []
    return sorted({*source.glob("*.tar"), *source.glob("*/*.tar")})
