"""Files of other stages, looked at before they are used: a foreign one is refused in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medblip.errors import RunError, explain
from medblip.files import read_json

__all__ = ["read_record"]


def read_record(path: Path, keys: Mapping[str, Sequence[str]], *, kind: str) -> dict[str, Any]:
    """Read one JSON file that must hold `keys`, and their entries what the keys name.

    Args:
        path: The file.
        keys: Key -> keys of every entry of its list, () where it is no list of records.
        kind: What the file should be, and which command writes it.

    Raises:
        RunError: It is not there, damaged, or of another kind.
    """
    try:
        record = read_json(path)
    except RunError as error:
        if not path.exists():
            raise
        raise _foreign(path, str(error).partition("\n")[0], kind) from None
    missing = [key for key in keys if key not in record]
    missing += [
        f"{key}: {name}"
        for key, names in keys.items()
        for name in names
        if not _every_entry_has(name, record.get(key, []))
    ]
    if missing:
        raise _foreign(path, f"no {', '.join(missing)} in it", kind)
    return record


def _every_entry_has(name: str, entries: Any) -> bool:
    return isinstance(entries, list) and all(
        isinstance(entry, dict) and name in entry for entry in entries
    )


def _foreign(path: Path, got: str, kind: str) -> RunError:
    return RunError(
        explain(
            f"{path} is not what was asked for",
            got=got,
            expected=kind,
            do="check which file follows --comparison, --ablation and --study, or write it again",
        )
    )
