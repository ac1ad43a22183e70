"""What tells one content from another: the digest of a file, the stamp of a folder of weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["digest", "folder_stamp"]

#: Bytes at either end of a file that tell it from another of its size.
_ENDS = 1 << 20


def digest(path: Path) -> str:
    """Return the SHA-256 of a file; empty where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_stamp(folder: Path) -> str:
    """Return what changes when a folder's weights do, and not when they are copied; "" for none.

    Of each file its name, its size, and its first and last mebibyte: any training moves all of
    them, and gigabytes are not read to see that nothing has changed.
    """
    if not folder.is_dir():
        return ""
    seen = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        size = path.stat().st_size
        seen.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode("utf-8", "replace"))
        with path.open("rb") as file:
            seen.update(file.read(_ENDS))
            file.seek(max(file.tell(), size - _ENDS))
            seen.update(file.read(_ENDS))
    return seen.hexdigest()[:16]
