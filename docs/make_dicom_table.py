"""Write the table of files in docs/dicom.md: what becomes of every test file of two packages.

    python docs/make_dicom_table.py              # write it
    python docs/make_dicom_table.py --check      # fail if it is stale
    python docs/make_dicom_table.py --decoders   # print how many files each set of decoders reads

The packages are pydicom and pydicom-data, from PyPI; nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medblip.data.dicom.parent import close_children, render
from medblip.data.dicom.reasons import Reason, Refused
from medblip.errors import DicomError

PAGE = Path(__file__).parent / "dicom.md"
BEGIN, END = "<!-- begin table -->", "<!-- end table -->"
#: What is said of a file without pixels.
NO_PIXELS = (Reason.NO_PIXELS, Reason.DIRECTORY, Reason.NOT_DICOM, Reason.HEADER)
#: Texts and programs that lie beside the files.
_OTHERS = {".py", ".pyc", ".json", ".txt", ".md", ".icc", ".gz", ".dump", ""}
_PLUGINS = {
    "pydicom and Pillow": {"pydicom", "pillow"},
    "+ pylibjpeg-openjpeg": {"pydicom", "pillow", "pylibjpeg"},
    "+ pyjpegls": {"pydicom", "pillow", "pyjpegls"},
    "+ pylibjpeg-openjpeg, pyjpegls": {"pydicom", "pillow", "pylibjpeg", "pyjpegls"},
    "+ python-gdcm (the extra [dicom])": {"pydicom", "pillow", "gdcm"},
    "all of them": {"pydicom", "pillow", "pylibjpeg", "pyjpegls", "gdcm"},
}


def files() -> Iterator[tuple[str, Path]]:
    """Yield package and path of every DICOM file, by name."""
    import data_store
    import pydicom

    for name, package in (("pydicom", pydicom), ("pydicom-data", data_store)):
        root = Path(package.__file__).parent / "data"
        for path in sorted(root.rglob("*")):
            told = path.suffix not in _OTHERS or (path.suffix == "" and _begins_as_dicom(path))
            if path.is_file() and told and "__pycache__" not in path.parts:
                yield f"{name}: {path.relative_to(root).as_posix()}", path


def _begins_as_dicom(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def results() -> list[tuple[str, str, str, str]]:
    """Return file, modality, transfer syntax, and picture or reason, of every file."""
    rows = []
    for name, path in files():
        try:
            picture = render(path)
            result = f"{picture.mode} {picture.width} x {picture.height}"
        except DicomError as error:
            result = f"**refused**: {error}"
        rows.append((name, *_header(path), result))
    close_children()
    return rows


def _header(path: Path) -> tuple[str, str]:
    """Return modality and transfer syntax, as far as they are there."""
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(Exception):
            ds = pydicom.dcmread(path, force=True)
            syntax = ds.file_meta.get("TransferSyntaxUID")
            return str(ds.get("Modality") or ""), syntax.name if syntax else "(none)"
    return "", "(not readable)"


def table() -> str:
    """Return the table and a summary; neighbours with the same result share a row."""
    rows = results()
    refused = [row for row in rows if row[3].startswith("**refused**")]
    without = [row for row in refused if any(reason.value in row[3] for reason in NO_PIXELS)]
    lines = [
        f"pydicom {version('pydicom')} and pydicom-data {version('pydicom-data')} carry"
        f" {len(rows)} DICOM files. Of the {len(rows) - len(without)} with pixel data,"
        f" {len(rows) - len(refused)} are rendered and {len(refused) - len(without)} refused;"
        f" {len(without)} hold none.",
        "",
        "| file | modality | transfer syntax | picture, or reason |",
        "| --- | --- | --- | --- |",
    ]
    for (folder, *rest), group in itertools.groupby(rows, key=_alike):
        names = [row[0].removeprefix(folder) for row in group]
        more = f"{names[0]} .. {names[-1]} ({len(names)} files)" if len(names) > 1 else names[0]
        lines.append(f"| {folder}{more} | {' | '.join(rest)} |")
    return "\n".join(lines) + "\n"


def _alike(row: tuple[str, str, str, str]) -> tuple[str, ...]:
    """Return what files have in common that share a row: a folder of numbered slices."""
    folder, _, name = row[0].rpartition("/")
    numbered = name.isdigit() or name.startswith("IM0000")
    return (f"{folder}/" if numbered else row[0], *row[1:])


def page(text: str) -> str:
    """Return the page with the table in its place."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{table()}\n{END}{tail}"


def decoders() -> Iterator[str]:
    """Yield how many of the files with pixels each set of decoders reads."""
    from pydicom.pixels.decoders.base import get_decoder

    from medblip.data.dicom.frame import decode_frame, middle_frame
    from medblip.data.dicom.parse import parse, read_layout

    reads: Counter[str] = Counter()
    count = compressed = 0
    for _, path in files():
        try:
            ds, _ = parse(str(path))
            layout = read_layout(ds, 64_000_000)
        except Refused:
            continue
        count += 1
        working: set[str] = set()
        with contextlib.suppress(Refused):
            decode_frame(ds, layout)
            working = {"pydicom"}
        decoder: Any = get_decoder(layout.syntax)  # type: ignore[arg-type]
        if not decoder.is_native:
            compressed += 1
            working = {"gdcm"} if working and layout.syntax.endswith("4.51") else set()
            for plugin in decoder.available_plugins:
                with contextlib.suppress(Exception):
                    index = middle_frame(layout.frames)
                    decoder.as_array(ds, index=index, raw=True, decoding_plugin=plugin)
                    working.add("pydicom" if layout.syntax.endswith(".1.2.5") else plugin)
        for name, plugins in _PLUGINS.items():
            reads[name] += bool(working & plugins)
    yield f"{count} files whose pixels are laid out in a supported way, {compressed} compressed"
    yield from (f"{reads[name]:4d}  {name}" for name in _PLUGINS)


if __name__ == "__main__":
    if "--decoders" in sys.argv:
        warnings.simplefilter("ignore")
        print("\n".join(decoders()))
        sys.exit()
    current = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        sys.exit(0 if current == page(current) else f"{PAGE.name} is stale: run {sys.argv[0]}")
    PAGE.write_text(page(current), encoding="utf-8")
