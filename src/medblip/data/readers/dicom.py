"""DICOM files, with captions from a table or from report texts beside them.

A file, or a folder: files that end in .dcm, .dicom or .ima, and any other that begins as DICOM does
("DICM" after 128 bytes). A DICOMDIR is passed over: the files that it lists are found anyway.

What is told of a file: facts of an allow-list, its patient under a pseudonym, and its path if no
value of its header is in it; else `image-00017`, the seventeenth file in sorted order.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from medblip.data.dicom.captions import SUFFIXES, CaptionTable, report_text
from medblip.data.dicom.parent import Look, look
from medblip.data.dicom.privacy import Pseudonyms
from medblip.data.dicom.ref import DicomRef
from medblip.data.dicom.windows import check_window
from medblip.data.raw import Raw, ReadOptions
from medblip.data.readers.names import IMAGE_SUFFIXES
from medblip.errors import DataError, explain

__all__ = ["is_dicom", "matches", "read"]

#: Not opened to see whether they are DICOM.
_OTHERS = {*IMAGE_SUFFIXES, ".txt", ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".zip", ".tar"}


def matches(source: Path) -> bool:
    """Whether this is a DICOM file, or a folder with one anywhere below."""
    return next(_files(source), None) is not None


def read(source: Path, options: ReadOptions) -> Iterator[Raw]:
    """Yield the files in sorted order; a report is passed on as it is, headings and all.

    Raises:
        DataError: There is none, pydicom is not installed, the window is unknown, or the table of
            captions fits no file.
    """
    window = check_window(options.window)
    root = source if source.is_dir() else source.parent
    paths = sorted(_files(source))
    if not paths:
        raise DataError(
            explain(
                f"{source}: no DICOM file",
                got="nothing that ends in .dcm or begins as DICOM does",
                expected="DICOM files",
                do="check the path, or leave --format out",
            )
        )
    table = CaptionTable(options.captions, options.columns) if options.captions else None
    names = [path.relative_to(root).as_posix() for path in paths]
    ids = _ids(names)
    namesakes = Counter(_stem(path.name) for path in paths)
    patients, matched = Pseudonyms("patient"), 0
    for number, seen in enumerate(_looks(paths, names)):
        path, name = paths[number], names[number]
        if table is None:
            captions = report_text(path, root)
        else:
            alone = namesakes[_stem(path.name)] == 1
            captions = table.find(name, seen.identifiers, one_of_its_name=alone)
        matched += bool(captions)
        pseudonym = f"image-{number + 1:05d}"
        yield Raw(
            id=pseudonym if seen.betrays else ids[number],
            image=DicomRef(path, pseudonym if seen.betrays else name, window),
            captions=captions,
            group=_patient(seen, name, patients),
            facts={"dicom": seen.facts} if seen.facts else None,
        )
    if table is not None and not matched:
        raise DataError(
            explain(
                f"{options.captions}: no DICOM file of {source} is in it",
                got=f"{len(paths)} files",
                expected="their paths or names, SOPInstanceUID, StudyInstanceUID, AccessionNumber",
                do="check the columns; paths are relative to the folder",
            )
        )


def _files(source: Path) -> Iterator[Path]:
    candidates: Iterable[Path] = [source]
    if source.is_dir():
        candidates = source.rglob("*")
    return (path for path in candidates if is_dicom(path))


def is_dicom(path: Path) -> bool:
    """Whether a file ends in .dcm, or begins as DICOM does."""
    # ._x.dcm is what macOS keeps beside x.dcm
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR" or not path.is_file():
        return False
    suffix = path.suffix.lower()
    if suffix in SUFFIXES or suffix in _OTHERS:
        return suffix in SUFFIXES
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"  # PS3.10 7.1
    except OSError:
        return False


def _looks(paths: list[Path], names: list[str]) -> Iterator[Look]:
    """Yield what the headers say, in order; as many children read as there are cores."""
    workers = os.cpu_count() or 1
    pool = ThreadPoolExecutor(workers, thread_name_prefix="dicom")
    waiting: deque[Future[Look]] = deque()
    try:
        for path, name in zip(paths, names, strict=True):
            waiting.append(pool.submit(look, path, name))
            if len(waiting) >= 8 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _patient(seen: Look, name: str, patients: Pseudonyms) -> str | None:
    """Return the pseudonym of the patient, else of the study, else of the folder."""
    for attribute in ("PatientID", "StudyInstanceUID"):
        if attribute in seen.identifiers:
            return patients.name(f"{attribute}={seen.identifiers[attribute]}")
    folder = name.rpartition("/")[0]
    return patients.name(f"folder={folder}") if folder and seen.readable else None


def _ids(names: list[str]) -> list[str]:
    """Return the paths without suffix, unless two would be the same."""
    counts = Counter(map(_stem, names))
    return [_stem(name) if counts[_stem(name)] == 1 else name for name in names]


def _stem(name: str) -> str:
    base, dot, suffix = name.rpartition(".")
    return base if f"{dot}{suffix}".lower() in SUFFIXES else name
