"""Checkpoints that are either whole or not there: manifest, verification, retention.

```
checkpoints/step-000123/
├── config.json  model.safetensors  tokenizer, image processor    loads with `from_pretrained`
├── state/       optimizer, generators, position: what a resumed run needs besides
└── COMPLETE     sizes and SHA-256 of every file, written last
```

A folder is filled beside its place, flushed, and renamed. What a kill leaves is a `.partial`
folder, or one without a valid COMPLETE: neither is ever chosen. Knows nothing of what is inside.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from medblip.files import json_text, staged_directory

__all__ = ["new_checkpoint", "newest", "prune", "reuse", "verify"]

_NAME = re.compile(r"step-(\d{6,})")


@contextlib.contextmanager
def new_checkpoint(checkpoints: Path, step: int) -> Iterator[Path]:
    """Yield a folder to fill; on success it becomes `step-<step>`, with its manifest.

    Raises:
        RunError: The disk is full or the folder cannot be written; earlier checkpoints are whole.
    """
    with staged_directory(checkpoints / f"step-{step:06d}") as folder:
        yield folder
        names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        with ThreadPoolExecutor(8) as pool:
            digests = list(pool.map(lambda name: _sha256(folder / name), names))
        files = {
            name: {"bytes": (folder / name).stat().st_size, "sha256": digest}
            for name, digest in zip(names, digests, strict=True)
        }
        (folder / "COMPLETE").write_text(json_text({"files": files}), encoding="utf-8")


def verify(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint, or None."""
    try:
        files = json.loads((folder / "COMPLETE").read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return "no COMPLETE: it was never finished"
    except (OSError, ValueError, KeyError):
        return "COMPLETE cannot be read"
    for name, written in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != written["bytes"]:
            return f"{name} has {path.stat().st_size} bytes instead of {written['bytes']}"
        if _sha256(path) != written["sha256"]:
            return f"{name} is not what was written (SHA-256)"
    return None


def newest(checkpoints: Path) -> tuple[Path | None, dict[str, str]]:
    """Return the newest valid checkpoint, and name -> fault of the newer ones that were skipped."""
    faults: dict[str, str] = {}
    for folder in reversed(_folders(checkpoints)):
        fault = verify(folder)
        if fault is None:
            return folder, faults
        faults[folder.name] = fault
    return None, faults


def prune(checkpoints: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints, and what killed saves have left."""
    for folder in _folders(checkpoints)[:-keep]:
        (folder / "COMPLETE").unlink(missing_ok=True)  # half deleted is not valid either
        shutil.rmtree(folder, ignore_errors=True)
    for folder in checkpoints.glob("step-*.partial"):
        shutil.rmtree(folder, ignore_errors=True)


def reuse(checkpoint: Path, target: Path) -> None:
    """Replace the folder `target` by a checkpoint's model, without its state and as hard links.

    COMPLETE goes along, for the files that do.
    """
    with staged_directory(target) as folder:
        for path in sorted(checkpoint.rglob("*")):
            place = path.relative_to(checkpoint)
            if not path.is_file() or place.parts[0] in ("COMPLETE", "state"):
                continue
            (folder / place).parent.mkdir(parents=True, exist_ok=True)  # InstructBLIP has a folder
            try:
                os.link(path, folder / place)
            except OSError:  # a file system without hard links
                shutil.copyfile(path, folder / place)
        files = json.loads((checkpoint / "COMPLETE").read_text(encoding="utf-8"))["files"]
        kept = {name: one for name, one in files.items() if Path(name).parts[0] != "state"}
        (folder / "COMPLETE").write_text(json_text({"files": kept}), encoding="utf-8")


def _folders(checkpoints: Path) -> list[Path]:
    if not checkpoints.is_dir():
        return []
    found = [p for p in checkpoints.iterdir() if _NAME.fullmatch(p.name) and p.is_dir()]
    return sorted(found, key=lambda p: int(p.name.partition("-")[2]))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
