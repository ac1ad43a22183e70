"""Folders that survive a kill: atomic writes, staged directories, locks, and a run's paths.

A file or folder that this module has written is either the old one or the new one, never half of
either: write to `<name>.partial`, flush, fsync, rename, fsync the parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

from medblip.errors import RunError, explain
from medblip.schema import SCHEMA_VERSION, check_version

__all__ = [
    "RunDir",
    "environment",
    "json_text",
    "read_json",
    "require_space",
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
    with _explain_os_errors(path):
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
    retired = path.with_name(path.name + ".old.partial")
    with _explain_os_errors(path):
        try:
            if retired.exists() and not path.exists():  # killed between the two renames below
                os.replace(retired, path)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            with ThreadPoolExecutor(16) as pool:  # one by one, 4,000 small images take 15 s
                list(pool.map(_fsync, filter(Path.is_file, partial.rglob("*"))))
            shutil.rmtree(retired, ignore_errors=True)
            if path.exists():
                os.replace(path, retired)
            os.replace(partial, path)
            _fsync(path.parent)
            shutil.rmtree(retired, ignore_errors=True)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


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
            with _explain_os_errors(path):
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
    check_version(record, path)
    return dict(record)


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


class RunDir:
    """The paths of one run and the lock that keeps a second writer out.

    ```
    runs/<id>/
    ├── config.json  environment.json  trainable.json (which parameters train, at which rate)
    ├── metrics.jsonl                 one record per line, append-only
    ├── checkpoints/best/             loads with `from_pretrained`
    ├── train.json                    written last: the run is complete
    ├── predictions/<split>.jsonl     {id, caption, logprob};  <split>.json: how they were made
    ├── scores/<split>.json           value, interval, n, signature;  .npz: per-image statistics
    ├── maps/<split>.json             per-word cross-attention of a few images
    └── report.html
    ```

    Args:
        path: The run directory; it need not exist.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    config = property(lambda self: self.path / "config.json")
    environment = property(lambda self: self.path / "environment.json")
    trainable = property(lambda self: self.path / "trainable.json")
    metrics = property(lambda self: self.path / "metrics.jsonl")
    checkpoint = property(lambda self: self.path / "checkpoints" / "best")
    completion = property(lambda self: self.path / "train.json")
    report = property(lambda self: self.path / "report.html")

    def predictions(self, split: str) -> Path:
        """Return the path of the captions of one split."""
        return self.path / "predictions" / f"{split}.jsonl"

    def scores(self, split: str) -> Path:
        """Return the path of the scores of one split."""
        return self.path / "scores" / f"{split}.json"

    def maps(self, split: str) -> Path:
        """Return the path of the attention maps of one split."""
        return self.path / "maps" / f"{split}.json"

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Append one record to `metrics.jsonl` in a single write."""
        with _explain_os_errors(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    @contextlib.contextmanager
    def replaced(self, *, force: bool) -> Iterator[None]:
        """Make room for a new run; an old one returns to its place unless the new one completes.

        Raises:
            RunError: Something is there and `force` is not given, or somebody is writing there.
        """
        retired = self.path.with_name(self.path.name + ".old.partial")
        if retired.exists() and not self.completion.exists():  # a replacement was killed
            with self.lock():  # or goes on: then this refuses
                pass
            shutil.rmtree(self.path, ignore_errors=True)
            retired.replace(self.path)
        occupied = self.path.exists() and any(self.path.iterdir())
        if occupied and not force:
            finished = self.completion.exists()
            raise RunError(
                explain(
                    f"{self.path} is taken",
                    got="a finished run" if finished else "an unfinished run, or other files",
                    expected="a new or empty folder",
                    do="choose another --out, or add --force to replace it",
                )
            )
        if occupied:
            with self.lock():  # refuses when somebody is writing there
                pass
            shutil.rmtree(retired, ignore_errors=True)
            self.path.replace(retired)
        try:
            yield
        except BaseException:
            if occupied:
                shutil.rmtree(self.path, ignore_errors=True)
                retired.replace(self.path)
            raise
        shutil.rmtree(retired, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold `LOCK` (pid and host) while writing; a lock whose process is gone is taken over.

        Raises:
            RunError: Another process is writing into this run.
        """
        path = self.path / "LOCK"
        me = f"{os.getpid()} {socket.gethostname()}"
        new = not self.path.exists()
        with _explain_os_errors(path):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                owner = path.read_text().strip()
                if _is_alive(owner):
                    raise RunError(
                        explain(
                            f"{self.path} is being written by another process",
                            got=f"LOCK held by process {owner}",
                            expected="one writer per run directory",
                            do=f"wait for it, choose another --out, or delete {path} if it is gone",
                        )
                    ) from None
                path.unlink(missing_ok=True)
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        try:
            with _explain_os_errors(path), os.fdopen(descriptor, "w") as file:
                file.write(me)
            yield
        finally:
            path.unlink(missing_ok=True)
            if new:  # what failed before it wrote anything leaves nothing
                with contextlib.suppress(OSError):
                    self.path.rmdir()


def environment(**extra: Any) -> dict[str, Any]:
    """Describe what a result depends on besides its configuration: versions, machine, threads."""
    versions = {}
    for name in ("medblip", "torch", "transformers", "accelerate", "peft", "numpy", "pillow"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "versions": versions,
        **extra,
    }


@contextlib.contextmanager
def _explain_os_errors(path: Path) -> Iterator[None]:
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
