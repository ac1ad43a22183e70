"""What would be learned from: labels after masking, cutting, leaks, sizes of the splits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medblip.config import RunConfig
from medblip.data.duplicates import FINGERPRINT, fingerprint
from medblip.data.images import open_image
from medblip.data.leaks import Leak, find_leaks
from medblip.errors import ImageError
from medblip.progress import track
from medblip.schema import Example, read_examples
from medblip.stages.doctor.diagnose import Finding

if TYPE_CHECKING:
    from medblip.models.captioner import Captioner

__all__ = ["examples_of", "labels", "leaks", "sizes"]

#: Training and validation images whose pixels are compared; `medblip data check` compares all.
LOOKED_AT = 2000
_SHOWN = 3


def examples_of(cfg: RunConfig) -> list[Example]:
    """Return every example of the data set; the files of the test split stay closed."""
    return read_examples(Path(cfg.data.root) / "manifest.jsonl")


def labels(
    cfg: RunConfig, captioner: Captioner, examples: list[Example]
) -> tuple[list[Finding], tuple[dict[str, str], ...]]:
    """Tokenise what training would read, and decode what is left after masking."""
    raw = cfg.data.captions == "raw"
    rows = [
        (example.id, text)
        for example in examples
        if example.split == "train"
        for text in (raw and example.captions) or example.targets or example.captions
    ]
    if not rows:
        return [Finding(level="error", about="training captions", got="none",
                        do="prepare the data with a training split")], ()  # fmt: skip
    texts = [text for _, text in rows]
    whole = captioner.tokenize(texts, 10**6)
    taught = captioner.tokenize(texts, cfg.data.max_tokens)
    lengths = np.array([len(ids) for ids in whole])
    cut = int(sum(len(a) != len(b) for a, b in zip(whole, taught, strict=True)))
    unknown = sum(ids.count(captioner.unknown_id) for ids in taught) / sum(map(len, taught))
    empty = [name for (name, text), ids in zip(rows, taught, strict=True)
             if not captioner.label_text(ids).strip() or not text.strip()]  # fmt: skip
    share = cut / len(rows)
    enough = int(np.percentile(lengths, 99))
    findings = [
        Finding(
            level="warning" if share > 0.01 else "ok", about="captions that are cut",
            got=f"{share:.1%} at {cfg.data.max_tokens} tokens; the median has "
            f"{np.median(lengths):.0f}",
            do=f"data.max_tokens = {enough} keeps 99 % of them whole" if share > 0.01 else "",
        ),
        Finding(
            level="warning" if unknown > 0.001 else "ok", about="tokens that are unknown",
            got=f"{unknown:.2%}",
            do="the captioner's vocabulary lacks these words" if unknown > 0.001 else "",
        ),
    ]  # fmt: skip
    if empty:
        findings.append(
            Finding(level="error", about="labels without a word", got=", ".join(empty[:5]),
                    do="prepare the data again: an empty caption teaches silence")
        )  # fmt: skip
    shown = []
    for (name, text), ids in list(zip(rows, taught, strict=True))[:_SHOWN]:
        learned = len(captioner.collate([ids]).targets)
        shown.append({
            "id": name, "caption": text, "label": captioner.label_text(ids),
            "masked": f"{len(ids) - learned} of {len(ids)} tokens (start, prompt)",
        })  # fmt: skip
    return findings, tuple(shown)


def sizes(cfg: RunConfig, examples: list[Example]) -> list[Finding]:
    """Return splits that are missing or too small to tell anything."""
    found = []
    counts = {s: sum(e.split == s for e in examples) for s in ("train", "validation")}
    for split, count in counts.items():
        if not count:
            do = "medblip data prepare --validation-share 0.1" if split == "validation" else ""
            found.append(Finding(level="error", about=f"{split} split", got="none",
                                 do=do or "prepare the data with one"))  # fmt: skip
    if 0 < counts["validation"] < 50:
        found.append(
            Finding(level="warning", about="validation split", got=f"{counts['validation']} images",
                    do="the best checkpoint is then chosen by chance; use 200 or more")
        )  # fmt: skip
    if 0 < counts["train"] < cfg.train.batch_size:
        found.append(
            Finding(level="warning", about="batch size",
                    got=f"{cfg.train.batch_size} for {counts['train']} training images",
                    do="lower train.batch_size")
        )  # fmt: skip
    return found


def leaks(cfg: RunConfig, examples: list[Example]) -> list[Finding]:
    """Return what training and validation share, with each other and, by name, with the test split.

    Pixels are compared for the first images of training and validation only.
    """
    root = Path(cfg.data.root)
    seen = [e for e in examples if e.split != "test"]
    some = [e for e in seen if e.split == "validation"][: LOOKED_AT // 2]
    some += [e for e in seen if e.split == "train"][: LOOKED_AT - len(some)]
    prints, usable, broken = [], [], []
    for example in track(some, "compare images", len(some)):
        try:
            prints.append(fingerprint(open_image(root / example.image)))
            usable.append(example)
        except ImageError as error:
            broken.append(f"{example.id}: {error}")
    named = find_leaks(examples)
    pixels = find_leaks(usable, np.frombuffer(b"".join(prints), FINGERPRINT))
    looked = "" if len(some) == len(seen) else f" (among {len(some)} of {len(seen)} images)"
    kinds: list[tuple[str, str, Leak]] = [
        ("error", "patients or cases in several splits", named.groups),
        ("warning", "articles or pages in several splits", named.articles),
        ("error", f"images in training and validation{looked}", pixels.copies),
        ("warning", f"near-duplicates across training and validation{looked}", pixels.near_copies),
    ]
    found = [
        Finding(level="error" if level == "error" else "warning", about=about,
                got=f"{leak.cases}, e.g. {' = '.join(leak.first[0])}",
                do="leave one of them out: scores flatter who has learned it")
        for level, about, leak in kinds if leak.cases
    ]  # fmt: skip
    if broken:
        got = f"{len(broken)}, {broken[0]}"
        do = "prepare the data again"
        found.append(Finding(level="error", about="images that cannot be decoded", got=got, do=do))
    return found or [Finding(level="ok", about="leaks", got=f"none found{looked}")]
