"""How sources name splits and images, in one place for all readers."""

from __future__ import annotations

import dataclasses
import os
import re
import threading
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

from PIL import Image

from medblip.data.images import MAX_BYTES, decode_image
from medblip.data.raw import FileRef, ImageRef, stamp
from medblip.errors import ImageError
from medblip.schema import Split

__all__ = ["IMAGE_SUFFIXES", "ImageFinder", "ZipRef", "split_in", "split_name"]

IMAGE_SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".jp2", ".ppm", ".pgm",
}  # fmt: skip
_SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "training": "train", "restval": "train", "validation": "validation",
    "valid": "validation", "val": "validation", "dev": "validation", "test": "test",
    "testing": "test",
}  # fmt: skip


def split_name(value: object) -> Split | None:
    """Return the split that a word names (`val`, `dev`, `Training`, ...); None for other words."""
    return _SPLIT_NAMES.get(str(value).strip().lower()) if value else None


def split_in(name: str) -> Split | None:
    """Return the split that a longer name holds as a word of its own: `captions_val2014.json`."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((split for word in words if (split := split_name(word))), None)


@dataclasses.dataclass(frozen=True)
class ZipRef:
    """An image inside a .zip, read without unpacking it."""

    path: Path
    name: str

    @property
    def label(self) -> str:
        """Archive and member."""
        return f"{self.path}:{self.name}"

    @property
    def suffix(self) -> str:
        """Of the member."""
        return Path(self.name).suffix.lower()

    def stamp(self) -> str:
        """Size and time of the archive, checksum of the member."""
        archive = _zip(self.path, stamp(self.path))
        return f"{stamp(self.path)}:{archive.getinfo(self.name).CRC if archive else ''}"

    def open(self) -> tuple[Image.Image, bytes]:
        """Decode the member; what the archive says of its size is not believed."""
        archive = _zip(self.path, stamp(self.path))
        if archive is None:
            raise ImageError("cannot be read: no whole .zip")
        try:
            with archive.open(self.name) as member:
                data = member.read(MAX_BYTES + 1)
        except (
            OSError,
            RuntimeError,
            NotImplementedError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise ImageError(f"cannot be read: {error}") from None
        if len(data) > MAX_BYTES:
            raise ImageError(f"too large: more than {MAX_BYTES / 1e6:.0f} MB in an archive")
        return decode_image(data), data


class ImageFinder:
    """Finds images by the names that tables give them; every folder is listed once.

    A name is tried as it stands, without or with a suffix, in each folder and in each archive.

    Args:
        folders: Where to look, in this order.
        archives: .zip files whose members are looked through by their base names, last.
    """

    def __init__(self, *folders: Path, archives: tuple[Path, ...] = ()) -> None:
        self._folders = [str(folder) for folder in folders]
        self._listings: dict[str, dict[str, str]] = {}
        self._archives = archives
        self._members: dict[str, ZipRef] | None = None

    def find(self, name: str) -> ImageRef:
        """Return the image; where there is none, the file that should be there."""
        for folder in self._folders:
            parent, base = os.path.split(os.path.join(folder, name))
            found = self._listing(parent).get(base)
            if found is not None:
                return FileRef(Path(parent, found))
        if self._archives:
            if self._members is None:
                self._members = self._look_into_archives()
            member = self._members.get(os.path.basename(name))
            if member is not None:
                return member
        return FileRef(Path(self._folders[0], name))

    def _listing(self, folder: str) -> dict[str, str]:
        """Return name and name without suffix -> name, of the images in a folder."""
        listing = self._listings.get(folder)
        if listing is None:
            try:
                names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
            except OSError:
                names = []
            images = [n for n in names if os.path.splitext(n)[1].lower() in IMAGE_SUFFIXES]
            listing = {os.path.splitext(n)[0]: n for n in reversed(images)} | {n: n for n in names}
            self._listings[folder] = listing
        return listing

    def _look_into_archives(self) -> dict[str, ZipRef]:
        members: dict[str, ZipRef] = {}
        for path in self._archives:
            archive = _zip(path, stamp(path))
            for name in archive.namelist() if archive else ():
                base, suffix = os.path.splitext(os.path.basename(name))
                if suffix.lower() in IMAGE_SUFFIXES:
                    members[base] = members[base + suffix] = ZipRef(path, name)
        return members


_opening = threading.Lock()


def _zip(path: Path, version: str) -> zipfile.ZipFile | None:
    """Return an archive, opened once per process: its list of 60,000 names takes half a second."""
    with _opening:
        return _open_zip(path, version)


@lru_cache(maxsize=8)
def _open_zip(path: Path, version: str) -> zipfile.ZipFile | None:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile):
        return None
