"""Stage `submit`: captions as the file that ImageCLEFmedical Caption takes, checked.

The checks are those of the organisers' evaluator and of their submission check (2025, 2026), in the
strictest version seen of each: a file that passes here should pass there. It scores nothing.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from medblip import config as configuration
from medblip.data.captions import read_captions
from medblip.errors import DataError, RunError, explain
from medblip.files import staged_file
from medblip.rundir import RunDir
from medblip.schema import read_jsonl

__all__ = ["Submitted", "submit", "validate_submission"]

HEADER = ("ID", "Caption")
YEARS = (2025, 2026)
#: What the first line of a list of ids may call them.
_HEADS = ("id", "image_id", "image", "filename", "file_name", "name")
_MEMBER = "submission.csv"  # the platform takes a .zip that holds this one file
#: White space of every kind, control characters and halves of surrogate pairs.
_NOT_TEXT = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Submitted:
    """A file that passed the checks.

    Args:
        submission_file: The file.
        year: Of the challenge; None when a file was only checked.
        n: Captions in it.
        empty: Captions without a word; they are allowed.
        cleaned: Captions whose line breaks, control characters or runs of blanks became one blank.
        ids_file: Where the expected ids came from; None: nowhere, so none can be missing.
        verdict: What was checked, in a few words.
    """

    submission_file: str
    year: int | None
    n: int
    empty: int
    cleaned: int
    ids_file: str | None
    verdict: str


def submit(
    predictions: Path | str,
    *,
    ids: Path | str | None = None,
    split: str = "test",
    out: Path | str,
    year: int = 2026,
    force: bool = False,
) -> Submitted:
    """Write captions in the challenge's format and check the file as the organisers do.

    The format is the same in both years: UTF-8, header `ID,Caption`, the order of the ids, every
    caption in quotes on one line.

    Args:
        predictions: Run directory, or JSONL or CSV with `id` and `caption`.
        ids: The official ids in their order: the organisers' CSV (first column), a prepared data
            set or its manifest, JSONL with `id`, or text with one id per line. None: the data set
            that the run captioned, if it is there.
        split: Which split of a run or of a prepared data set.
        out: File to write; `.zip` packs it as `submission.csv`, as the platform wants it.
        year: 2025 or 2026.
        force: Replace a file that is there.

    Raises:
        DataError: Ids are missing, unknown or repeated, or something there cannot be read.
        RunError: There are no captions, or `out` is there already or cannot be written.
    """
    target = Path(out)
    zipped = target.suffix.lower() == ".zip"
    _refuse_target(target, year, force)
    read = [Path(one).resolve() for one in (predictions, ids) if one is not None]
    if target.resolve() in read or target.is_dir():
        raise RunError(
            explain(
                f"{target}: cannot be written there",
                got="a file that is read, or a folder",
                expected="a new file",
                do="choose another --out",
            )
        )
    raw = _captions(Path(predictions), split)
    ids_file = Path(ids) if ids is not None else _own_data(Path(predictions))
    wanted = list(raw) if ids_file is None else _ids(ids_file, split)
    _refuse(_pairing(list(raw), wanted), f"{predictions}: captions and ids do not belong together")
    captions = {name: _NOT_TEXT.sub(" ", raw[name]).strip() for name in wanted}
    _refuse(_bad_ids(wanted), f"{ids_file or predictions}: unfit for the format")
    with staged_file(target) as partial:
        _write(partial, captions, zipped=zipped)
        rows = _checked(_content(partial, zipped=zipped), wanted, f"{target}: would be refused")
        changed = [name for name in wanted if rows[name] != captions[name]]
        _refuse([(name, "captions that do not read back") for name in changed], str(target))
    return Submitted(
        submission_file=str(target),
        year=year,
        n=len(wanted),
        empty=sum(not caption for caption in captions.values()),
        cleaned=sum(captions[name] != raw[name] for name in wanted),
        ids_file=None if ids_file is None else str(ids_file),
        verdict=_verdict(ids_file is not None),
    )


def validate_submission(
    path: Path | str, ids: Path | str | None = None, *, split: str = "test"
) -> Submitted:
    """Check a file that is there, written by whatever program, as the organisers would.

    Args:
        path: CSV, or `.zip` with `submission.csv`.
        ids: The official ids in their order, as for `submit`; None: only the file itself.
        split: Which split of a prepared data set.

    Raises:
        DataError: All that is wrong, counted, with the first few of each kind.
    """
    wanted = None if ids is None else _ids(Path(ids), split)
    content = _content(Path(path), zipped=Path(path).suffix.lower() == ".zip")
    rows = _checked(content, wanted, f"{path}: would be refused")
    return Submitted(
        submission_file=str(path),
        year=None,
        n=len(rows),
        empty=sum(not caption for caption in rows.values()),
        cleaned=0,
        ids_file=None if ids is None else str(ids),
        verdict=_verdict(ids is not None),
    )


def _verdict(with_ids: bool) -> str:
    return f"passes every check of the file{' and of its ids' if with_ids else '; no ids to check'}"


def _refuse_target(target: Path, year: int, force: bool) -> None:
    if year not in YEARS:
        raise DataError(
            explain(
                "unknown year of the challenge",
                got=year,
                expected=" or ".join(map(str, YEARS)),
                do="choose one of these; other years may want another format",
            )
        )
    if target.exists() and not force:
        raise RunError(
            explain(
                f"{target} is there already",
                got="an earlier file",
                expected="a new file",
                do="choose another --out, or add --force to replace it",
            )
        )


def _write(path: Path, captions: dict[str, str], *, zipped: bool) -> None:
    """Write the file; ids stay bare and captions are quoted, commas or not."""
    lines = [",".join(HEADER)]
    for name, caption in captions.items():
        lines.append('{},"{}"'.format(name, caption.replace('"', '""')))
    content = ("\n".join(lines) + "\n").encode("utf-8")
    if not zipped:
        path.write_bytes(content)
        return
    member = zipfile.ZipInfo(_MEMBER)  # dated 1980: the same captions give the same bytes
    member.external_attr = 0o644 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content, zipfile.ZIP_DEFLATED)


def _content(path: Path, *, zipped: bool) -> bytes:
    try:
        if not zipped:
            return path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            if archive.namelist() != [_MEMBER]:
                raise DataError(
                    explain(
                        f"{path}: not the archive that the platform takes",
                        got=", ".join(archive.namelist()[:5]) or "nothing in it",
                        expected=f"{_MEMBER} and nothing else",
                        do="pack it again, without a folder",
                    )
                )
            return archive.read(_MEMBER)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            explain(
                f"{path} cannot be read",
                got=str(error),
                expected="a .csv file, or a .zip file with submission.csv in it",
                do="check the path",
            )
        ) from None


def _checked(content: bytes, wanted: Sequence[str] | None, where: str) -> dict[str, str]:
    """Return captions by id, or raise with all that is wrong."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte {error.object[error.start]:#04x} at offset {error.start}"
        raise _wrong(where, f"not UTF-8: {byte}") from None
    if text.startswith("\ufeff"):
        raise _wrong(where, "a byte order mark before the header")
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise _wrong(where, f"not CSV: {error}") from None
    if not rows or tuple(rows[0]) != HEADER:
        found = ",".join(rows[0]) if rows else "nothing"
        raise _wrong(where, f"first line {found[:60]!r}, not {','.join(HEADER)!r}")
    _refuse(_bad_lines(text.splitlines(), rows), where)
    names = [row[0] for row in rows[1:]]
    problems = [(name, "ids twice") for name, count in Counter(names).items() if count > 1]
    problems += _bad_ids(names)
    problems += [(name, "captions with blanks around") for name, caption in rows[1:]
                 if caption != caption.strip()]  # fmt: skip
    problems += _pairing(names, names if wanted is None else wanted)
    if not problems and wanted is not None and names != list(wanted):
        place = next(i for i, name in enumerate(names) if name != wanted[i])
        problems.append(
            (f"row {place + 1}: {names[place]} instead of {wanted[place]}", "first id out of order")
        )
    _refuse(problems, where)
    return {name: caption for name, caption in rows[1:]}


def _bad_lines(lines: Sequence[str], rows: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """Return where lines and rows are not one to one, of two columns, and quoted at need."""
    problems = [(f"line {number}", "blank lines") for number, line in enumerate(lines, start=1)
                if not line.strip()]  # fmt: skip
    full = [row for row in rows if row]
    problems += [(row[0], "captions of several lines") for row in full
                 if any(len(f"{cell}.".splitlines()) > 1 for cell in row)]  # fmt: skip
    problems += [(row[0], f"rows not of {len(HEADER)} columns") for row in full
                 if len(row) != len(HEADER)]  # fmt: skip
    if not problems:
        for line, row in zip(lines[1:], full[1:], strict=True):
            rest = line.partition(",")[2]
            if "," in rest and not (rest.startswith('"') and rest.endswith('"')):
                problems.append((row[0], "captions with a comma but no quotes"))
    return problems


def _bad_ids(names: Iterable[str]) -> list[tuple[str, str]]:
    return [(repr(name), "ids with blanks, commas, quotes or line breaks") for name in names
            if not name or re.search(r'[\s,"]', name)]  # fmt: skip


def _pairing(names: Sequence[str], wanted: Sequence[str]) -> list[tuple[str, str]]:
    here, there = set(names), set(wanted)
    return [(name, "images without a caption") for name in wanted if name not in here] + [
        (name, "unknown ids") for name in names if name not in there
    ]


def _refuse(problems: Sequence[tuple[str, str]], what: str) -> None:
    """Raise if there is a problem: how many of each kind, and the first three."""
    kinds: dict[str, list[str]] = {}
    for example, kind in problems:
        kinds.setdefault(kind, []).append(example)
    if kinds:
        raise _wrong(
            what,
            "; ".join(
                f"{len(found)} {kind} ({', '.join(found[:3])}{', ...' if found[3:] else ''})"
                for kind, found in kinds.items()
            ),
        )


def _wrong(what: str, got: str) -> DataError:
    return DataError(
        explain(
            what,
            got=got,
            expected="the header ID,Caption, then every official id once, in the official order, "
            "with one caption on one line, in UTF-8",
            do="correct the captions or the list of ids, or write the file with `medblip submit`",
        )
    )


def _captions(source: Path, split: str) -> dict[str, str]:
    """Return captions by id from a run directory or any table of captions."""
    file = RunDir(source).predictions(split) if source.is_dir() else source
    if source.is_dir() and not file.exists():
        raise RunError(
            explain(
                f"no captions of the {split} split",
                got=f"{file} is not there",
                expected="captions to submit",
                do=f"run `medblip caption {source} --split {split}` first, or name another --split",
            )
        )
    return read_captions(file)


def _own_data(run: Path) -> Path | None:
    """Return the manifest of the data set that a run captioned, if both are there."""
    settings = RunDir(run).config
    if not run.is_dir() or not settings.exists():
        return None
    manifest = Path(configuration.load(settings).data.root) / "manifest.jsonl"
    return manifest if manifest.exists() else None


def _ids(source: Path, split: str) -> list[str]:
    """Return the expected ids in order."""
    if source.is_dir():
        source = source / "manifest.jsonl"
    if source.suffix.lower() == ".jsonl":
        rows = [row for row in read_jsonl(source) if row.get("split", split) == split]
        names = [str(row.get("id", "")) for row in rows]
    else:
        names = [row[0].strip() for row in _table(source)]
        if names[0].lower() in _HEADS:
            names = names[1:]
    if not names:
        raise DataError(
            explain(
                f"{source}: no ids",
                got=f"none of the {split} split" if source.suffix == ".jsonl" else "none",
                expected="the official ids, one per row",
                do="name another file or --split",
            )
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    _refuse([(name, "ids twice") for name in twice], str(source))
    return names


def _table(path: Path) -> list[list[str]]:
    """Return the rows of a CSV that have a cell; a byte order mark is fine here."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            explain(
                f"{path} cannot be read",
                got=str(error),
                expected="a CSV file in UTF-8",
                do="check the path, or convert the file",
            )
        ) from None
    if not rows:
        raise DataError(
            explain(f"{path}: empty", got="no row", expected="a CSV file", do="check the path")
        )
    return rows
