"""Stage `prepare`: any supported source becomes one prepared data set, checked image by image.

```
DATA/
├── manifest.jsonl   one `Example` per image; captions as the source wrote them
├── images/          the source's files (of DICOM: the rendered picture), each decoded once in full
├── pixels/          the same, resized once for the model: what training reads (medblip.data.store)
├── rejects.jsonl    id, file, reason: what was left out
├── stats.json       counts, caption lengths, licences, leakage
└── README.md        the same for people: the data card
```
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medblip.data import archives, hub
from medblip.data.card import card
from medblip.data.chunk import run_chunks
from medblip.data.clean import parse_rules
from medblip.data.intake import Intake
from medblip.data.raw import Raw, ReadOptions, stamp
from medblip.data.readers import detect_format, read_source
from medblip.data.split import assign_split, carve
from medblip.data.store import Resize, Shard, ids_digest, write_index
from medblip.errors import DataError, explain
from medblip.files import require_space, resumable_directory
from medblip.progress import track
from medblip.schema import Example, Reject, dump_jsonl

__all__ = ["Plan", "Prepared", "prepare"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """What was made: the folder, the images in it by split, and the rows left out."""

    data: str
    format: str
    images: int
    rejects: int
    splits: dict[str, int]
    reasons: dict[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What would be made: see `prepare(dry_run=True)`.

    Args:
        source: File or folder.
        format: As recognised.
        rows: In the source.
        splits: Rows per split that the source names; `none` where it names none.
        source_bytes: Of the files that hold images.
        pixel_bytes: Of the pixel store, if every image is grey; three times that in colour.
        first: A few rows, as they were read.
    """

    source: str
    format: str
    rows: int
    splits: dict[str, int]
    source_bytes: int
    pixel_bytes: int
    first: list[dict[str, Any]]


def prepare(
    source: Path | str,
    out: Path | str,
    *,
    format: str | None = None,
    size: int | Sequence[int] = 384,
    seed: int = 0,
    captions: Path | str | None = None,
    window: str = "auto",
    clean: str = "",
    licences: Sequence[str] | None = None,
    validation_share: float = 0.0,
    revision: str | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
    id_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    link: bool = False,
    limit: int | None = None,
    max_rejects: int | None = None,
    workers: int | None = None,
    dry_run: bool = False,
    force: bool = False,
) -> Prepared | Plan:
    """Check a source and write a prepared data set.

    A split that the source names is kept; rows without one are split 80/10/10 by group (patient,
    case, article), or by image where no group is known. A bad row never stops the others: it is
    counted, with its reason, in `rejects.jsonl`. Killed or interrupted, the same call goes on where
    it stopped, and what comes out is the same, for any number of workers too.

    Args:
        source: File or folder in a format of `medblip.data.readers.FORMATS`, an archive of one, or
            a data set of the Hugging Face hub (`hf:owner/name`).
        out: New folder.
        format: One of these formats; None recognises it.
        size: Side of the pixels to keep for the model, bicubic; several, or 0 for none. Other sizes
            are made when a model needs them.
        seed: Of the split.
        captions: Table of captions, for a source that holds images only (DICOM).
        window: CT window of DICOM files, by name.
        clean: Cleaning rules for what training reads, e.g. `arrows,history`, or `all`.
        licences: Keep only images with one of these licences.
        validation_share: Of the training groups, to become the validation split.
        revision: Commit, tag or branch of a hub data set.
        image_column: Column with the image path, where it has an unusual name.
        caption_column: Column with the caption.
        id_column: Column with the id.
        split_column: Column with the split.
        group_column: Column with patient, case or article.
        link: Make `images/` of hard links to the source's files, where the file system can: faster,
            and no second copy on the disk; but who then edits one of them edits the source.
        limit: Read only so many rows.
        max_rejects: More than so many bad rows are an error; nothing is written.
        workers: Threads that decode; None: one per core.
        dry_run: Read the rows but no image, write nothing, return the plan.
        force: Replace a data set that is there.

    Raises:
        DataError: The source cannot be read, `out` is taken, or no row is usable.
        RunError: The disk is full; nothing was changed.
    """
    out = Path(out)
    rules = parse_rules(clean)
    resizes = [Resize(side, side) for side in ([size] if isinstance(size, int) else size) if side]
    columns = {
        "image": image_column, "caption": caption_column, "id": id_column,
        "split": split_column, "group": group_column,
    }  # fmt: skip
    options = ReadOptions(
        columns={role: name for role, name in columns.items() if name},
        captions=Path(captions) if captions else None,
        window=window,
    )
    _refuse_taken(out, force or dry_run)
    if dry_run and hub.is_hub(str(source)):
        fetchable = hub.plan(str(source), revision=revision)
        if fetchable.missing_bytes:  # what is in the cache is looked at, like any folder
            return _fetch_plan(fetchable)
    with contextlib.ExitStack() as stack:
        staged = None
        if _is_packed(source) and not dry_run:
            require_space(out, Path(source).stat().st_size)
            staged = stack.enter_context(resumable_directory(out))
        place = _local(source, staged[1] if staged else None, revision)
        kind = format or detect_format(place.folder)
        if kind == "dicom":  # the folder may be called by a patient's name
            place = dataclasses.replace(place, name="DICOM files")
        read = functools.partial(_limited, place.folder, kind, options, limit)
        plan = _survey(str(source), kind, read(), resizes)
        if dry_run:
            return plan
        require_space(out, plan.source_bytes + plan.pixel_bytes - _done_bytes(out))
        filled, notes = staged or stack.enter_context(resumable_directory(out))
        intake = Intake(
            rows=_with_split(read(), seed, validation_share),
            rules=rules,
            licences=None if licences is None else {name.casefold() for name in licences},
            max_rejects=max_rejects,
        )
        _write_rows(intake, filled, notes, resizes, plan.rows, workers, link=link)
        tally = intake.tally
        if not tally.images:
            raise DataError(_nothing_usable(place.folder, plan.rows, tally.rejects))
        stats = tally.statistics(source=place.name, format=kind, commit=place.commit)
        text = json.dumps(stats, indent=1, ensure_ascii=False) + "\n"
        (filled / "stats.json").write_text(text, encoding="utf-8")
        (filled / "README.md").write_text(card(place.name, stats), encoding="utf-8")
    return Prepared(
        data=str(out), format=kind, images=tally.images, rejects=tally.rejects.total(),
        splits=stats["splits"], reasons=stats["rejects"],
    )  # fmt: skip


def _fetch_plan(fetchable: hub.HubPlan) -> Plan:
    return Plan(
        source=f"{fetchable.name}@{fetchable.commit}", format="not fetched yet", rows=0, splits={},
        source_bytes=fetchable.size_bytes, pixel_bytes=0,
        first=[{"file": name} for name in fetchable.files[:10]],
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where the rows are now: the source itself, an unpacked archive, or a snapshot of the hub."""

    folder: Path
    name: str
    commit: str | None = None


def _local(source: Path | str, notes: Path | None, revision: str | None) -> _Place:
    if hub.is_hub(str(source)):
        fetched = hub.fetch(str(source), revision=revision)
        return _Place(fetched.folder, fetched.name, fetched.commit)
    if revision is not None:
        raise DataError(
            explain(
                "--revision without a hub",
                got=source,
                expected="a data set of the hub, such as hf:owner/name",
                do="leave --revision out",
            )
        )
    source = Path(source)
    if not _is_packed(source):
        return _Place(source, source.name or str(source))
    if notes is None:
        raise DataError(
            explain(
                f"{source}: an archive is not read without unpacking it",
                got="--dry-run",
                expected="a folder or a table",
                do="unpack it, or leave --dry-run out",
            )
        )
    return _Place(_unpacked(source, notes), source.name)


def _is_packed(source: Path | str) -> bool:
    """Whether this is an archive that must be unpacked: a tar may be a shard of WebDataset."""
    if hub.is_hub(str(source)) or not archives.is_archive(Path(source)):
        return False
    try:
        detect_format(Path(source))
    except DataError:
        return True
    return False


def _done_bytes(out: Path) -> int:
    """Return what a killed run has written already."""
    partial = out.with_name(out.name + ".partial")
    return sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())


def _unpacked(archive: Path, notes: Path) -> Path:
    """Unpack an archive beside the data set; what a killed run has unpacked whole is kept."""
    record, into, version = notes / "unpacked.json", notes / "unpacked", stamp(archive)
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(record.read_text(encoding="utf-8"))
        if found["stamp"] == version:
            return into / str(found["folder"])
    shutil.rmtree(into, ignore_errors=True)
    folder = archives.unpack(archive, into).relative_to(into)
    record.write_text(json.dumps({"stamp": version, "folder": str(folder)}), encoding="utf-8")
    return into / folder


def _limited(source: Path, format: str, options: ReadOptions, limit: int | None) -> Iterator[Raw]:
    return itertools.islice(read_source(source, format=format, options=options), limit)


def _survey(source: str, format: str, rows: Iterator[Raw], resizes: Sequence[Resize]) -> Plan:
    """Read all rows once: how many, of which split, from files of how many bytes."""
    count, n_bytes, last = 0, 0, None
    first: list[dict[str, Any]] = []
    splits: Counter[str] = Counter()
    for row in rows:
        count += 1
        splits[row.split or "none"] += 1
        if row.image.path != last:  # rows of one container follow each other
            last = row.image.path
            with contextlib.suppress(OSError):
                n_bytes += last.stat().st_size
        if len(first) < 3:
            fields = dataclasses.asdict(dataclasses.replace(row, image=row.image))
            fields["image"] = row.image.label
            first.append({name: value for name, value in fields.items() if value})
    return Plan(
        source=source, format=format, rows=count, splits=dict(splits), source_bytes=n_bytes,
        pixel_bytes=count * sum(r.height * r.width for r in resizes), first=first,
    )  # fmt: skip


def _with_split(rows: Iterator[Raw], seed: int, validation_share: float) -> Iterator[Raw]:
    """Give every row a split: the source's, else one drawn by its group."""
    for row in rows:
        key = row.group or row.id
        split = row.split or assign_split(key, seed)
        if validation_share and split == "train" and carve(key, seed, validation_share):
            split = "validation"
        yield row if split == row.split else dataclasses.replace(row, split=split)


def _write_rows(
    intake: Intake,
    filled: Path,
    notes: Path,
    resizes: Sequence[Resize],
    total: int,
    workers: int | None,
    *,
    link: bool,
) -> None:
    """Decode everything; write copies, pixels, manifest and rejects as it goes."""
    (filled / "images").mkdir(exist_ok=True)
    places = {resize: filled / "pixels" / resize.name for resize in resizes}
    shards: dict[Resize, list[Shard]] = {resize: [] for resize in resizes}

    def results() -> Iterator[Example | Reject]:
        chunks = intake.chunks()
        for done in run_chunks(
            chunks, places, copies=filled, link=link, journal=notes, workers=workers
        ):
            for resize in resizes:
                shards[resize] += done.shards.get(resize.name, [])
            yield from intake.results(done)

    def ids() -> Iterator[str]:
        for result in track(results(), "decode and resize", total):
            if isinstance(result, Reject):
                rejects.write(dump_jsonl([result]))
            else:
                manifest.write(dump_jsonl([result]))
                yield result.id

    with (
        (filled / "manifest.jsonl").open("w", encoding="utf-8") as manifest,
        (filled / "rejects.jsonl").open("w", encoding="utf-8") as rejects,
    ):
        digest = ids_digest(ids())
    for resize, place in places.items():
        write_index(place, resize, digest, shards[resize])


def _refuse_taken(out: Path, force: bool) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not force:
        raise DataError(
            explain(
                f"{out} is taken",
                got="a folder with files in it" if out.is_dir() else "a file",
                expected="a new or empty folder",
                do="choose another --out, or add --force to replace it",
            )
        )


def _nothing_usable(source: Path, rows: int, rejects: Counter[str]) -> str:
    told = ", ".join(f"{count} x {reason}" for reason, count in rejects.most_common(3))
    return explain(
        f"{source}: no usable image",
        got=f"{rows} rows; {told}" if rows else "no rows",
        expected="at least one image that can be decoded, with a caption",
        do="check image paths (relative to the table) and captions (column, or .txt beside images)",
    )
