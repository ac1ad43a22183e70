"""Where a report may be written: over an earlier report of ours, and over nothing else.

Text files are known by a line that every report has. What cannot carry one (CSV, PDF) is known by
the file that is written first into its folder. A file that an earlier report wrote there, that
nobody changed, and that the new one does not have, is removed: it would stand beside numbers that
it does not belong to. What was written stands beside the folder, in `.<name>.report.json`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from medblip.errors import ConfigError, explain
from medblip.files import read_json, write_bytes, write_json
from medblip.stamps import digest

__all__ = ["TABLE_NAMES", "require_free", "write_folder"]

#: Every table that a report can have; `scores-all` in CSV alone.
TABLE_NAMES = (
    "scores", "tests", "outcomes", "strata", "weakest", "weakest-all", "agreement", "clinical",
    "statuses", "errors", "hallucinations", "missed", "ablation", "ablation-tests", "cost",
    "faithfulness", "faithfulness-tests", "claims", "scores-all",
)  # fmt: skip
_ANY_TABLE = "|".join(TABLE_NAMES)
_CHARTS = (
    "training-loss-per-token|validation-loss-per-token|validation-cider-d|quality-against-cost"
    r"|(?:deletion|insertion)-\d+"
)
#: Format -> paths below its folder that medblip can write.
_PATHS = {
    "md": re.compile(r"report\.md"),
    "csv": re.compile(rf"(?:{_ANY_TABLE})\.csv"),
    "latex": re.compile(
        rf"report\.tex|methods\.tex|tables/(?:{_ANY_TABLE})\.tex|figures/(?:{_CHARTS})\.pdf"
    ),
}
#: Format -> (the file by which a folder is known, what is in the file's head when it is ours).
_KNOWN_BY = {
    "html": ("", '<p class="brand">medblip <span>report</span></p>'),
    "pdf-ready": ("", '<p class="brand">medblip <span>report</span></p>'),
    "md": ("report.md", "\n\nResearch use only. Not a medical device.\n"),
    "csv": ("scores-all.csv", "system,metric,value,low,high,"),
    "latex": ("tables/scores.tex", "% needs: booktabs, array\n"),
}
#: Letters in which the line is looked for: before it a page has its style sheet only.
_HEAD = 200_000


def require_free(target: Path, format: str) -> None:
    """Refuse a place that holds something else than an earlier report of this format.

    Raises:
        ConfigError: A folder is where a file belongs, a file where a folder does, or what is there
            is not ours.
    """
    one = format in ("html", "pdf-ready")
    if target.exists() and target.is_file() != one:
        raise ConfigError(
            explain(
                f"{target} cannot be written as {format}",
                got="a folder" if one else "a file",
                expected="a file" if one else "a folder",
                do="name another --out",
            )
        )
    taken = [target] if one and target.exists() else _written(target, format)
    if taken and not _is_ours(target, format):
        raise ConfigError(
            explain(
                f"{taken[0]} is taken",
                got="a file that `medblip report` did not write",
                expected=f"no file, or an earlier report of the format {format}",
                do="name another --out",
            )
        )


def write_folder(folder: Path, files: Mapping[str, bytes], format: str) -> None:
    """Write `files` (path below the folder -> content) and remove what an earlier report left.

    The file by which the folder is known comes first, so that an interrupted call can be repeated.
    """
    note = folder.with_name(f".{folder.name}.report.json")
    before = read_json(note)["files"] if note.exists() else {}
    for name in sorted(files, key=lambda name: name != _KNOWN_BY[format][0]):
        write_bytes(folder / name, files[name])
    for name, written in before.items():
        if name not in files and written and digest(folder / name) == written:
            (folder / name).unlink()
    write_json(note, {"files": {name: digest(folder / name) for name in sorted(files)}})


def _written(folder: Path, format: str) -> list[Path]:
    """Return the files below a folder whose names medblip can write."""
    if not folder.is_dir():
        return []
    below = [*folder.iterdir(), *folder.glob("tables/*"), *folder.glob("figures/*")]
    return sorted(
        path
        for path in below
        if path.is_file() and _PATHS[format].fullmatch(path.relative_to(folder).as_posix())
    )


def _is_ours(target: Path, format: str) -> bool:
    name, line = _KNOWN_BY[format]
    path = target / name if name else target
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return line in file.read(_HEAD)
