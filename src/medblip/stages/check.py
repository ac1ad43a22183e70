"""Stage `check`: the doctor of a prepared data set.

What is in it, what is wrong with it, and what a model will really see of it: the label after
tokenising, cutting and decoding, and the image after resizing. Writes `check.json` and `seen.png`
into the data set; changes nothing else.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from medblip.config import ModelConfig
from medblip.data.burnt_in import find_text
from medblip.data.duplicates import FINGERPRINT, fingerprint
from medblip.data.images import open_image
from medblip.data.leaks import Leak, find_leaks
from medblip.data.sheet import Tile, contact_sheet
from medblip.data.store import PixelStore, Resize
from medblip.errors import DataError, ImageError, explain
from medblip.files import write_bytes, write_json
from medblip.progress import track
from medblip.schema import SPLITS, Example, read_examples

if TYPE_CHECKING:
    from medblip.models.captioner import Captioner

__all__ = ["Checked", "Finding", "check"]

#: Captions shown as a model sees them, and images in seen.png.
_SHOWN = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was found.

    Args:
        level: `error` flatters scores or cannot be read; `warning` deserves a look; `note` is good
            to know.
        what: In a few words.
        count: How often.
        first: Ids of the first ones.
        do: What to do about it.
        leak: Whether splits share it: an error for `strict`, whatever its level.
    """

    level: Literal["error", "warning", "note"]
    what: str
    count: int
    first: tuple[str, ...] = ()
    do: str = ""
    leak: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """What `check.json` holds.

    Args:
        data: The data set.
        model: Whose eyes were used.
        images: In the manifest.
        splits: Images per split.
        findings: Errors first.
        labels: Tokens per caption (median, p95, longest), the share cut at `max_tokens`, the share
            of words that the vocabulary lacks, and a few captions beside what the model is taught.
        seen: Contact sheet of images as the model sees them.
    """

    data: str
    model: str
    images: int
    splits: dict[str, int]
    findings: tuple[Finding, ...]
    labels: dict[str, Any]
    seen: str

    @property
    def errors(self) -> list[Finding]:
        """The findings that `strict` refuses."""
        return [finding for finding in self.findings if finding.level == "error" or finding.leak]


def check(
    data: Path | str, *, model: str = "bundled", max_tokens: int = 64, strict: bool = False
) -> Checked:
    """Examine a prepared data set.

    Args:
        data: Its folder.
        model: Captioner whose tokenizer and image size are used; its weights are not loaded.
        max_tokens: As `data.max_tokens` of a run: longer captions are cut in training.
        strict: Raise when there is an error, after everything was written.

    Raises:
        DataError: There is no data set; with `strict`: it has errors.
        CheckpointError: There is no such captioner.
    """
    from medblip.models.captioner import load_captioner

    root = Path(data)
    examples = read_examples(root / "manifest.jsonl")
    captioner: Captioner = load_captioner(ModelConfig(name=model), weights=False)
    looked = _images(root, examples)
    usable = [e for e, one in zip(examples, looked, strict=True) if one.reason is None]
    prints = np.frombuffer(b"".join(one.print for one in looked), FINGERPRINT)
    labels, about_labels = _labels(usable, captioner, max_tokens)
    bad = [f"{e.id}: {one.reason}" for e, one in zip(examples, looked, strict=True) if one.reason]
    worded = [e.id for e, one in zip(examples, looked, strict=True) if one.text]
    findings = [
        _found("error", "images that cannot be decoded", bad, "prepare the data again"),
        *_stores(root, examples),
        *_leaks(usable, prints),
        *_gaps(examples),
        *about_labels,
        _found("warning", "images with text burnt into their pixels", worded,
               "look whether it names a patient; some are missed (docs/burnt-in-text.md)"),
    ]  # fmt: skip
    seen = root / "seen.png"
    write_bytes(seen, _seen(root, usable, captioner, max_tokens))
    counts = Counter(example.split for example in examples)
    order = ("error", "warning", "note")
    checked = Checked(
        data=str(root), model=model, images=len(examples),
        splits={split: counts[split] for split in SPLITS if counts[split]},
        findings=tuple(sorted((f for f in findings if f), key=lambda f: order.index(f.level))),
        labels=labels, seen=str(seen),
    )  # fmt: skip
    write_json(root / "check.json", dataclasses.asdict(checked))
    if strict and checked.errors:
        raise DataError(
            explain(
                f"{root} has errors",
                got="; ".join(f"{f.count} {f.what}" for f in checked.errors),
                expected="none (--strict)",
                do=f"see {root / 'check.json'}",
            )
        )
    return checked


def _found(
    level: Literal["error", "warning", "note"], what: str, ids: Sequence[str], do: str
) -> Finding | None:
    if not ids:
        return None
    return Finding(level=level, what=what, count=len(ids), first=tuple(ids[:10]), do=do)


@dataclasses.dataclass(frozen=True)
class _Look:
    """What one image shows: why it cannot be decoded, or its fingerprint and if it has text."""

    reason: str | None = None
    print: bytes = b""
    text: bool = False


def _images(root: Path, examples: Sequence[Example]) -> list[_Look]:
    """Decode every image, on all cores."""

    def look(example: Example) -> _Look:
        try:
            image = open_image(root / example.image)
        except ImageError as error:
            return _Look(reason=str(error))
        return _Look(print=fingerprint(image), text=bool(find_text(image)))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(track(pool.map(look, examples), "look at the images", len(examples)))


def _stores(root: Path, examples: Sequence[Example]) -> list[Finding | None]:
    """Read every pixel store and compare its checksums."""
    found: list[Finding | None] = []
    for folder in sorted(path.parent for path in root.glob("pixels/*/index.json")):
        try:
            bad = PixelStore(folder, _rows_of(folder.name, examples)).damaged()
        except DataError as error:
            bad = [str(error).partition("\n")[0]]
        do = f"delete pixels/{folder.name}: it is made again when it is needed"
        found.append(_found("error", f"damaged files in pixels/{folder.name}", bad, do))
    return found


def _rows_of(store: str, examples: Sequence[Example]) -> list[str]:
    """Return the ids that a store holds: of all images, or of the split that its name ends with."""
    of = next((split for split in SPLITS if store.endswith(f"-{split}")), None)
    return [example.id for example in examples if of is None or example.split == of]


def _leaks(examples: Sequence[Example], prints: np.ndarray) -> list[Finding | None]:
    leaks = find_leaks(examples, prints)
    more = "" if leaks.complete else " (the search ended at its limit)"
    learned = "leave one of them out: scores flatter who has learned it"
    return [
        _leak("error", "patients, cases or articles in several splits", leaks.groups,
              "split by group, or report scores without them"),
        _leak("warning", "articles or pages in several splits", leaks.articles,
              "split by article, or report scores without them"),
        _leak("error", "images that lie in several splits", leaks.copies, learned),
        _leak("warning", f"pairs of near-duplicates across splits{more}", leaks.near_copies,
              f"look at them; {learned}"),
        _leak("warning", "captions that occur in several splits", leaks.captions,
              "short captions repeat by chance, long ones are copies"),
        _leak("note", "images that occur again in their split", leaks.copies_within,
              "they count twice in every score"),
        _leak("note", "captions that occur again in their split", leaks.captions_within,
              "the commonest caption is learned first"),
    ]  # fmt: skip


def _leak(
    level: Literal["error", "warning", "note"], what: str, leak: Leak, do: str
) -> Finding | None:
    if not leak.cases:
        return None
    held_out = f" ({leak.held_out} images of validation or test)" if leak.held_out else ""
    first = tuple(" = ".join(case) for case in leak.first)
    return Finding(
        level=level, what=what + held_out, count=leak.cases, first=first, do=do,
        leak=level != "note",
    )  # fmt: skip


def _gaps(examples: Sequence[Example]) -> list[Finding | None]:
    there = {example.split for example in examples}
    absent = [split for split in SPLITS if split not in there]
    alone = [example.id for example in examples if example.group is None]
    unknown = [example.id for example in examples if not example.licence]
    return [
        _found("warning", "splits that are missing", absent,
               "--validation-share of prepare makes a validation split out of training"),
        _found("note", "images without a patient, case or article", alone,
               "name --group-column if there is one: without it no leak of a patient can be seen"),
        _found("note", "images without a licence", unknown, "ask before you publish them"),
    ]  # fmt: skip


def _labels(
    examples: Sequence[Example], captioner: Captioner, max_tokens: int
) -> tuple[dict[str, Any], list[Finding | None]]:
    """Tokenise what training would read; return figures, and what is wrong with the labels."""
    rows = [(e, text) for e in examples for text in e.targets or e.captions]
    whole = captioner.tokenize([text for _, text in rows], 10**6)
    labels = captioner.tokenize([text for _, text in rows], max_tokens)
    lengths = np.array([len(ids) for ids in whole])
    cut = [row[0].id for row, a, b in zip(rows, whole, labels, strict=True) if len(a) != len(b)]
    unknown = [ids.count(captioner.unknown_id) for ids in whole]
    lacking = sum(unknown) / max(1, int(lengths.sum()))
    figures = {
        "median_tokens": float(np.median(lengths)),
        "p95_tokens": float(np.percentile(lengths, 95)),
        "max_tokens": int(lengths.max()),
        "cut_at": max_tokens,
        "cut_share": round(len(cut) / len(rows), 4),
        "unknown_token_share": round(lacking, 4),
        "examples": [
            {"id": example.id, "caption": text, "label": captioner.label_text(ids)}
            for (example, text), ids in zip(rows[:_SHOWN], labels, strict=False)
        ],
    }
    words = [rows[i][0].id for i, count in enumerate(unknown) if count]
    return figures, [
        _found("warning", f"captions cut at {max_tokens} tokens", cut,
               "raise data.max_tokens, or clean the captions"),
        _found("warning", "captions with words that the vocabulary lacks", words,
               "the model is taught [UNK] there: choose another captioner"),
    ]  # fmt: skip


def _seen(root: Path, examples: Sequence[Example], captioner: Captioner, max_tokens: int) -> bytes:
    """Draw images after the resize, each with the label that is taught for it."""
    chosen = examples[:: max(1, len(examples) // _SHOWN)][:_SHOWN]
    resize = Resize(*captioner.image_size, captioner.image_resample)
    tiles = []
    for example in chosen:
        pixels = resize.apply(open_image(root / example.image))
        image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        text = (example.targets or example.captions)[0]
        label = captioner.label_text(captioner.tokenize([text], max_tokens)[0])
        tiles.append(Tile(image, label, f"{example.id} · {resize.name}"))
    return contact_sheet(tiles, columns=4)
