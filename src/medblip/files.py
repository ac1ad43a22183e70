"""Files and folders that survive a kill: atomic writes, staged directories, locks, free space.

A file or folder that this module has written is either the old one or the new one, never half of
either: write to `<name>.partial`, flush, fsync, rename, fsync the parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from medblip.errors import LockedError, RunError, explain
from medblip.progress import console
from medblip.schema import SCHEMA_VERSION, check_version

__all__ = [
    "explain_os_errors",
    "is_younger",
    "json_text",
    "lock",
    "read_json",
    "require_space",
    "resumable_directory",
    "short_names",
    "staged_directory",
    "staged_file",
    "staged_texts",
    "write_bytes",
    "write_json",
    "write_text",
]


@contextlib.contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """Yield a `.partial` path to write; on success it replaces `path`, on failure it is removed.

    Raises:
        RunError: The disk is full or the folder cannot be written; `path` is untouched.
    """
    partial = path.with_name(path.name + ".partial")
    with explain_os_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            _fsync(partial)
            os.replace(partial, path)
            _fsync(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def staged_directory(path: Path) -> Iterator[Path]:
    """Yield an empty `.partial` folder to fill; on success it takes the place of `path`.

    The old folder is moved aside before and deleted after the rename, so a kill leaves one of both.

    Raises:
        RunError: The disk is full or the folder cannot be written; `path` is untouched.
    """
    partial = path.with_name(path.name + ".partial")
    with explain_os_errors(path):
        try:
            _mend(path)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            _take_place(partial, path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextlib.contextmanager
def resumable_directory(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (folder to fill, folder for notes); on success the first takes the place of `path`.

    Both lie in `<name>.partial`. After a kill or an interruption they are still there, and the
    next call yields them as they were left; an error removes them.

    Raises:
        RunError: The disk is full, the folder cannot be written, or another process is at it.
    """
    partial = path.with_name(path.name + ".partial")
    filled, notes = partial / "filled", partial / "notes"
    try:
        with explain_os_errors(path), lock(partial):
            _mend(path)
            filled.mkdir(exist_ok=True)
            notes.mkdir(exist_ok=True)
            try:
                yield filled, notes
                _take_place(filled, path)
            except Exception:
                shutil.rmtree(filled, ignore_errors=True)
                shutil.rmtree(notes, ignore_errors=True)
                raise
            except BaseException:
                line = f"interrupted: the same command goes on from {partial}"
                console().print(line, markup=False, highlight=False, soft_wrap=True)
                raise
            shutil.rmtree(notes, ignore_errors=True)
    finally:
        with contextlib.suppress(OSError):  # not empty: interrupted, or another process is at it
            partial.rmdir()


def _mend(path: Path) -> None:
    """Undo a replacement that was killed between its two renames."""
    retired = path.with_name(path.name + ".old.partial")
    if retired.exists() and not path.exists():
        os.replace(retired, path)


def _take_place(filled: Path, path: Path) -> None:
    """Put a folder, all of it on the disk, in the place of another."""
    retired = path.with_name(path.name + ".old.partial")
    files = [file for file in filled.rglob("*") if file.is_file()]
    if len(files) > 10_000 and hasattr(os, "sync"):  # 160,000 files one by one take minutes
        os.sync()
    else:
        with ThreadPoolExecutor(16) as pool:  # one by one, 4,000 small images take 15 s
            list(pool.map(_fsync, files))
    shutil.rmtree(retired, ignore_errors=True)
    if path.exists():
        os.replace(path, retired)
    os.replace(filled, path)
    _fsync(path.parent)
    shutil.rmtree(retired, ignore_errors=True)


@contextlib.contextmanager
def staged_texts(texts: Mapping[Path, str]) -> Iterator[None]:
    """Write files that belong together aside; if the body succeeds they take their places.

    All are old or all are new, however full the disk; the first one is renamed last, so that after
    a kill, too, who finds it finds the others.

    Raises:
        RunError: The disk is full or a folder cannot be written; every file is untouched.
    """
    with contextlib.ExitStack() as stack:
        for path, text in texts.items():
            partial = stack.enter_context(staged_file(path))
            with explain_os_errors(path):
                partial.write_text(text, encoding="utf-8")
        yield


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file `path` atomically."""
    with staged_file(path) as partial:
        partial.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Replace the file `path` atomically with UTF-8 text."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Replace the file `path` atomically with one JSON object; `schema_version` is added."""
    write_text(path, json_text(record))


def json_text(record: dict[str, Any]) -> str:
    """Return what `write_json` writes."""
    text = json.dumps({"schema_version": SCHEMA_VERSION} | record, indent=1, ensure_ascii=False)
    return text + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object that `write_json` wrote.

    Raises:
        RunError: The file is absent or not JSON.
        DataError: It was written by a newer medblip.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(
            explain(
                "file not found",
                got=path,
                expected="the result of an earlier stage",
                do="run that stage first (data prepare, train, caption, evaluate: in this order)",
            )
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(
            explain(
                f"{path}: not JSON ({error})",
                got="a damaged or foreign file",
                expected="one JSON object",
                do="run the stage that writes it again with --force",
            )
        ) from None
    if not isinstance(record, dict):
        raise RunError(
            explain(
                f"{path}: not an object",
                got=f"a {type(record).__name__}",
                expected="one JSON object",
                do="check which file this is",
            )
        )
    check_version(record, path)
    return record


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return a name per file or folder: as many of its last parts as tell it from all others.

    Files lose their ending, unless it is all that tells two of them apart.
    """
    whole = [path.resolve() for path in paths]
    plain = [path.with_suffix("") if path.is_file() else path for path in whole]
    if len(set(plain)) == len(set(whole)):
        whole = plain
    names = []
    for own in whole:
        others = [other for other in whole if other != own]
        length = 1
        while length < len(own.parts) and any(
            other.parts[-length:] == own.parts[-length:] for other in others
        ):
            length += 1
        names.append("/".join(own.parts[-length:]))
    return names


def is_younger(target: Path, *sources: Path) -> bool:
    """Whether a file is there and was written after what it was made of."""
    if not target.exists():
        return False
    made = target.stat().st_mtime_ns
    return all(made >= source.stat().st_mtime_ns for source in sources)


def require_space(folder: Path, n_bytes: int) -> None:
    """Refuse to begin when `folder`'s disk has less than `n_bytes` free.

    Raises:
        RunError: Not enough room.
    """
    existing = next(p for p in [folder, *folder.absolute().parents] if p.exists())
    free = shutil.disk_usage(existing).free
    if free < n_bytes:
        raise RunError(
            explain(
                "not enough disk space",
                got=f"{free / 1e6:,.0f} MB free on the disk of {folder}",
                expected=f"at least {n_bytes / 1e6:,.0f} MB",
                do="free some space or choose another --out; nothing was changed",
            )
        )


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold `LOCK` (pid and host) while writing; a lock whose process is gone is taken over.

    Raises:
        LockedError: Another process is writing there.
    """
    path = folder / "LOCK"
    me = f"{os.getpid()} {socket.gethostname()}"
    new = not folder.exists()
    with explain_os_errors(path):
        descriptor = _claim(path)
    try:
        with explain_os_errors(path), os.fdopen(descriptor, "w") as file:
            file.write(me)
        yield
    finally:
        path.unlink(missing_ok=True)
        if new:  # what failed before it wrote anything leaves nothing
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into a message; safetensors and torch do not raise OSError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
        elif any(word in str(error) for word in ("No space left", "writing file", "os error")):
            reason = str(error).splitlines()[0]
        else:
            raise
        raise RunError(
            explain(
                f"cannot write {path}",
                got=reason,
                expected="a writable folder with enough free space",
                do="free space or choose another folder, then run again; earlier results are whole",
            )
        ) from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":  # not an OSError although the disk is full
            raise
        raise RunError(
            explain(
                f"cannot write {path}",
                got=str(error).splitlines()[0],
                expected="a writable folder with enough free space",
                do="free space or choose another folder, then run again; earlier results are whole",
            )
        ) from error


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _claim(path: Path) -> int:
    """Create a lock and return its descriptor; what happens between two steps is tried again."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileNotFoundError:  # the last owner has just removed the folder
            continue
        except FileExistsError:
            pass
        try:
            owner, age = path.read_text().strip(), time.time() - path.stat().st_mtime
        except FileNotFoundError:  # just released
            continue
        if _is_alive(owner) or (not owner and age < 5):  # empty: its owner is about to write
            raise LockedError(
                explain(
                    f"{path.parent} is being written by another process",
                    got=f"LOCK held by process {owner}",
                    expected="one writer per folder",
                    do=f"wait for it, choose another --out, or delete {path} if it is gone",
                )
            )
        path.unlink(missing_ok=True)


def _is_alive(owner: str) -> bool:
    """Whether the process named in a LOCK may still run; another host's lock is never broken."""
    pid, _, host = owner.partition(" ")
    if not pid.isdigit():
        return False
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
