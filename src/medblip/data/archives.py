"""Archives (.zip, .tar, .tar.gz, ...) unpacked safely into an empty folder.

Nothing is ever written outside that folder, no link is followed or made, and what an archive says
of its own size is never believed: bytes are counted while they are written.
"""

from __future__ import annotations

import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from medblip.errors import DataError, explain

__all__ = ["is_archive", "unpack"]

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
#: An archive of pictures hardly shrinks; one of text shrinks five to ten times.
_MAX_RATIO = 100.0
_MAX_FILES = 5_000_000
_BLOCK = 1 << 20


def is_archive(source: Path) -> bool:
    """Whether this is a file with the name of an archive that `unpack` knows."""
    return source.name.lower().endswith(_SUFFIXES) and source.is_file()


def unpack(
    source: Path, into: Path, *, max_bytes: int | None = None, max_ratio: float = _MAX_RATIO
) -> Path:
    """Write the files of an archive below `into`; return the folder where the data set begins.

    That is `into`, or the single folder in it. Modes, owners and times are not kept; links, devices
    and other special members are left out.

    Args:
        source: The archive.
        into: A folder that does not exist yet.
        max_bytes: More than this in all is an error; None: what is free on the disk, less a tenth.
        max_ratio: More bytes than this per byte of the archive are an error, beyond 10 MB.

    Raises:
        DataError: A member points out of the folder, a limit is passed, or the archive is torn,
            encrypted or of an unknown kind.
    """
    into.mkdir(parents=True)
    free = shutil.disk_usage(into).free
    limit = int(free * 0.9) if max_bytes is None else max_bytes
    budget = _Budget(source, limit, max(10_000_000, source.stat().st_size * max_ratio))
    try:
        members = _zip_members if zipfile.is_zipfile(source) else _tar_members
        for name, opened in members(source):
            budget.write(opened, _inside(source, into, name))
    except (
        tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError,
        NotImplementedError, RuntimeError, UnicodeError, ValueError,
    ) as error:  # fmt: skip
        raise DataError(
            explain(
                f"{source}: the archive cannot be unpacked",
                got=str(error).partition("\n")[0] or type(error).__name__,
                expected="a whole, unencrypted .zip or .tar",
                do="fetch it again, or unpack it yourself and name the folder",
            )
        ) from None
    inside = [path for path in into.iterdir() if path.name != "__MACOSX"]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else into


class _Budget:
    """Counts what is written; passing a limit is an error, whatever the headers said."""

    def __init__(self, source: Path, max_bytes: int, max_unpacked: float) -> None:
        self._source = source
        self._max_bytes = max_bytes
        self._max_unpacked = max_unpacked
        self._bytes = 0
        self._files = 0

    def write(self, opened: Callable[[], IO[bytes]], target: Path) -> None:
        """Copy one member into a new file."""
        self._files += 1
        if self._files > _MAX_FILES:
            self._refuse(f"more than {_MAX_FILES:,} files", "fewer")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL  # never through what is there already
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(target, flags, 0o644)
        except (FileExistsError, NotADirectoryError):
            self._refuse(f"two members named {target.name}", "every name once")
        with opened() as member, os.fdopen(descriptor, "wb") as file:
            while block := member.read(_BLOCK):
                self._bytes += len(block)
                if self._bytes > self._max_bytes:
                    self._refuse(f"more than {self._max_bytes / 1e9:.1f} GB", "what the disk holds")
                if self._bytes > self._max_unpacked:
                    self._refuse(
                        f"{self._bytes / 1e6:,.0f} MB out of "
                        f"{self._source.stat().st_size / 1e6:,.1f} MB",
                        "no decompression bomb",
                    )
                file.write(block)

    def _refuse(self, got: str, expected: str) -> None:
        raise DataError(
            explain(
                f"{self._source}: the archive is not unpacked",
                got=got,
                expected=expected,
                do="look at it; if it is right, unpack it yourself and name the folder",
            )
        )


def _inside(source: Path, into: Path, name: str) -> Path:
    """Return the path of a member; it must lie below the folder by its name alone."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    plain = [part for part in parts if part not in (".", "")]
    if not plain or ".." in plain or plain[0].startswith("/") or plain[0].endswith(":"):
        raise DataError(
            explain(
                f"{source}: the archive is not unpacked",
                got=f"a member named {name!r}",
                expected="names below the archive's own folder",
                do="do not trust this archive",
            )
        )
    return into.joinpath(*plain)


def _zip_members(source: Path) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            kind = info.external_attr >> 28  # of a Unix mode: 8 is a file, 10 a symbolic link
            if not info.is_dir() and kind in (0, 8):
                yield info.filename, lambda info=info: archive.open(info)  # type: ignore[misc]


def _tar_members(source: Path) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    with tarfile.open(source, "r:*") as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # or it remembers every header
            if member.isreg():
                yield member.name, lambda member=member: archive.extractfile(member)  # type: ignore[misc]
