"""Archives: unpacked as they are when honest, refused when they reach out or explode."""

from __future__ import annotations

import contextlib
import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from medblip.data import archives
from medblip.data.archives import is_archive, unpack
from medblip.errors import DataError

FILES = {"set/a.txt": b"one", "set/images/b.bin": bytes(range(256)) * 40, "set/empty": b""}


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def make_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("x.zip", make_zip),
        ("x.tar", make_tar),
        ("x.tar.gz", lambda path, files: make_tar(path, files, "w:gz")),
        ("x.TGZ", lambda path, files: make_tar(path, files, "w:gz")),
        ("x.tar.bz2", lambda path, files: make_tar(path, files, "w:bz2")),
        ("x.tar.xz", lambda path, files: make_tar(path, files, "w:xz")),
    ],
)
def test_round_trip(
    tmp_path: Path, name: str, make: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    archive = make(tmp_path / name, FILES)
    assert is_archive(archive)
    folder = unpack(archive, tmp_path / "out")
    assert folder == tmp_path / "out" / "set", "the single folder in it is the data set"
    assert contents(tmp_path / "out") == FILES
    assert (
        unpack(make(tmp_path / name, FILES | {"top": b"x"}), tmp_path / "two") == tmp_path / "two"
    )


@pytest.mark.parametrize("make", [make_tar, make_zip])
@pytest.mark.parametrize("name", ["../escaped", "a/../../escaped", "/escaped", "C:\\escaped", ".."])
def test_a_member_outside_is_refused(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], name: str
) -> None:
    archive = make(tmp_path / "evil", {"fine": b"1", name: b"2"})
    with pytest.raises(DataError, match="below the archive's own folder"):
        unpack(archive, tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("escaped*"))


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    """The classic: a link out of the folder, then a file through it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        for kind, name, target in (
            (tarfile.SYMTYPE, "door", str(outside)),
            (tarfile.LNKTYPE, "hard", "../outside/x"),
            (tarfile.CHRTYPE, "device", ""),
            (tarfile.FIFOTYPE, "pipe", ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
        member = tarfile.TarInfo("door/planted")
        member.size = 2
        archive.addfile(member, io.BytesIO(b"hi"))
    folder = unpack(tmp_path / "evil.tar", tmp_path / "out")
    assert contents(tmp_path / "out") == {"door/planted": b"hi"}
    assert not (tmp_path / "out" / "door").is_symlink()
    assert not list(outside.iterdir())
    assert folder.name == "door"


def test_a_symbolic_link_in_a_zip_is_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        link = zipfile.ZipInfo("door")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")
        archive.writestr("fine", "1")
    unpack(tmp_path / "evil.zip", tmp_path / "out")
    assert contents(tmp_path / "out") == {"fine": b"1"}


@pytest.mark.parametrize("make", [make_zip, lambda p, f: make_tar(p, f, "w:gz")])
def test_a_bomb_is_stopped_while_it_is_written(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    archive = make(tmp_path / "bomb", {"a": bytes(60_000_000)})
    assert archive.stat().st_size < 100_000
    tracemalloc.start()
    with pytest.raises(DataError, match="no decompression bomb"):
        unpack(archive, tmp_path / "out")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert sum(map(len, contents(tmp_path / "out").values())) <= 11_000_000
    with pytest.raises(DataError, match="what the disk holds"):
        unpack(archive, tmp_path / "again", max_bytes=1_000_000)


def test_a_zip_that_lies_about_sizes(tmp_path: Path) -> None:
    """The header says 10 bytes; the data inflate to 30 MB."""
    data = make_zip(tmp_path / "lie.zip", {"a": bytes(30_000_000)}).read_bytes()
    size = (30_000_000).to_bytes(4, "little")
    (tmp_path / "lie.zip").write_bytes(data.replace(size, (10).to_bytes(4, "little")))
    with contextlib.suppress(DataError):
        unpack(tmp_path / "lie.zip", tmp_path / "out")
    assert sum(map(len, contents(tmp_path / "out").values())) <= 11_000_000


def test_torn_encrypted_and_foreign(tmp_path: Path) -> None:
    torn = make_tar(tmp_path / "torn.tar.gz", FILES | {"big": bytes(99_999)}, "w:gz")
    torn.write_bytes(torn.read_bytes()[:-60])
    damaged = make_zip(tmp_path / "damaged.zip", FILES, zipfile.ZIP_STORED)
    data = bytearray(damaged.read_bytes())
    data[data.index(b"one")] ^= 1  # its checksum does not hold any more
    damaged.write_bytes(data)
    locked = make_zip(tmp_path / "locked.zip", {"a": b"secret"})
    data = bytearray(locked.read_bytes())
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + flags] |= 1
    locked.write_bytes(data)
    (tmp_path / "foreign.tar").write_text("no archive at all")
    for name in ("torn.tar.gz", "damaged.zip", "locked.zip", "foreign.tar"):
        with pytest.raises(DataError, match="cannot be unpacked"):
            unpack(tmp_path / name, tmp_path / f"out-{name}")


def test_names_that_come_twice(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in ("a", "a"):
            archive.addfile(tarfile.TarInfo(name))
    with tarfile.open(tmp_path / "y.tar", "w") as archive:
        for name in ("a", "a/b"):
            archive.addfile(tarfile.TarInfo(name))
    for name in ("x", "y"):
        with pytest.raises(DataError, match="every name once"):
            unpack(tmp_path / f"{name}.tar", tmp_path / name)


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MAX_FILES", 2)
    with pytest.raises(DataError, match="more than 2 files"):
        unpack(make_tar(tmp_path / "x.tar", FILES), tmp_path / "out")


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "a.csv").write_text("x")
    assert not is_archive(tmp_path / "folder.zip")
    assert not is_archive(tmp_path / "a.csv")
    assert not is_archive(tmp_path / "gone.tar")
