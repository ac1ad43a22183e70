"""What would be learned from: labels after masking, cutting, leaks, sizes of the splits."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

__all__ = ["LOOKED_AT", "examples_of", "labels", "leaks", "sizes"]

#: Training and validation images whose pixels are compared; `medblip data check` compares all.
LOOKED_AT = 2000
_SHOWN = 3
#: A validation split below this chooses by chance; a training split below it is learned by heart.
_FEW = 50


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
        return [], ()  # told by `sizes`
    texts = [text for _, text in rows]
    whole = captioner.tokenize(texts, 10**6)
    taught = captioner.tokenize(texts, cfg.data.max_tokens)
    given = len(captioner.tokenize([""], cfg.data.max_tokens)[0]) - 1  # start and prompt
    shown, masked = _shown(captioner, rows, taught, given)
    found = [
        *masked,
        *_words(rows, taught, given, cfg.data.max_tokens),
        _cut(whole, taught, given, cfg.data.max_tokens),
        _unknown(captioner, taught),
        *_positions(captioner, taught, given),
    ]
    return found, shown


def sizes(cfg: RunConfig, examples: list[Example]) -> list[Finding]:
    """Return splits that are missing or too small to tell anything."""
    found = []
    counts = {s: sum(e.split == s for e in examples) for s in ("train", "validation")}
    advice = {
        "train": ("prepare the data with one", "so few are learned by heart: enough for a trial"),
        "validation": ("medblip data prepare --validation-share 0.1",
                       "the best checkpoint is then chosen by chance; use 200 or more"),
    }  # fmt: skip
    for split, count in counts.items():
        absent, few = advice[split]
        if count < _FEW:
            found.append(
                Finding(
                    level="warning" if count else "error", about=f"{split} split",
                    got=f"{count} images" if count else "none", do=few if count else absent,
                )
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

    def look(example: Example) -> bytes | str:
        try:
            return fingerprint(open_image(root / example.image))
        except ImageError as error:
            return f"{example.id}: {error}"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = list(track(pool.map(look, some), "compare images", len(some)))
    broken = [look for look in looks if isinstance(look, str)]
    usable = [e for e, look in zip(some, looks, strict=True) if isinstance(look, bytes)]
    prints = b"".join(look for look in looks if isinstance(look, bytes))
    named = find_leaks(examples)
    pixels = find_leaks(usable, np.frombuffer(prints, FINGERPRINT))
    learned = "leave one of them out: scores flatter who has learned it"
    chance = "short captions repeat by chance, long ones are copies"
    kinds: list[tuple[Any, str, Leak, str]] = [
        ("error", "patients or cases in several splits", named.groups, learned),
        ("warning", "articles or pages in several splits", named.articles, learned),
        ("warning", "captions in several splits", named.captions, chance),
        ("error", "images in training and validation", pixels.copies, learned),
        ("warning", "near-duplicates across training and validation", pixels.near_copies, learned),
        ("warning", "images that occur again in their split", pixels.copies_within, learned),
    ]
    found = [
        Finding(level=level, about=about, got=f"{leak.cases}, e.g. {' = '.join(leak.first[0])}",
                do=do)
        for level, about, leak, do in kinds if leak.cases
    ]  # fmt: skip
    if broken:
        got = f"{len(broken)}, {broken[0]}"
        do = "prepare the data again"
        found.append(Finding(level="error", about="images that cannot be decoded", got=got, do=do))
    test = len(examples) - len(seen)
    closed = f"; {test:,} of the test split stay closed" if test else ""
    got = f"{len(some):,} of {len(seen):,} images of training and validation{closed}"
    found.append(Finding(level="ok", about="pixels that were compared", got=got,
                         do=f"medblip data check {root} compares all"))  # fmt: skip
    return found


def _shown(
    captioner: Captioner, rows: list[tuple[str, str]], taught: list[list[int]], given: int
) -> tuple[tuple[dict[str, str], ...], list[Finding]]:
    """Return a few labels, and whether a batch masks start, prompt and pads, and nothing else.

    On a network without numbers a batch has none either: the tokens that count are counted.
    """
    chosen = taught[:_SHOWN]
    batch = captioner.collate(chosen)
    width = int(batch.labels.shape[1])
    shown, learned, wrong = [], 0, False
    for (name, text), ids in zip(rows, chosen, strict=False):
        count = len(captioner.collate([ids]).targets)
        learned += count
        wrong |= count != len(ids) - given
        hidden = len(ids) - count
        shown.append({
            "id": name, "caption": text, "label": captioner.label_text(ids),
            "masked": f"{hidden} of {len(ids)} tokens (start, prompt) and {width - len(ids)} pads",
        })  # fmt: skip
    if not wrong and learned == len(batch.targets):
        return tuple(shown), []
    got = f"{len(batch.targets)} tokens count in {len(chosen)} captions, {learned} one by one"
    return tuple(shown), [
        Finding(level="error", about="mask of the labels", got=got,
                do="please report it: start, prompt or pads of this captioner would be learned")
    ]  # fmt: skip


def _words(
    rows: list[tuple[str, str]], taught: list[list[int]], given: int, max_tokens: int
) -> list[Finding]:
    """Return labels of which masking and cutting leave the end token alone."""
    bare = [name for (name, _), ids in zip(rows, taught, strict=True) if len(ids) - given < 2]
    if not bare:
        return []
    do = "prepare the data again: an empty caption teaches silence"
    if max_tokens < 2:
        do = "data.max_tokens = 64: its last token is the end of the caption"
    got = f"{len(bare)} of {len(rows)}, e.g. {', '.join(bare[:5])}"
    return [Finding(level="error", about="labels without a word", got=got, do=do)]


def _cut(whole: list[list[int]], taught: list[list[int]], given: int, max_tokens: int) -> Finding:
    lengths = np.array([len(ids) - given for ids in whole])  # as `data.max_tokens` counts
    share = sum(len(a) != len(b) for a, b in zip(whole, taught, strict=True)) / len(whole)
    return Finding(
        level="warning" if share > 0.01 else "ok", about="captions that are cut",
        got=f"{share:.1%} at {max_tokens} tokens; the median has {np.median(lengths):.0f}",
        do=f"data.max_tokens = {int(np.ceil(np.percentile(lengths, 99)))} keeps 99 % of them whole"
        if share > 0.01 else "",
    )  # fmt: skip


def _unknown(captioner: Captioner, taught: list[list[int]]) -> Finding:
    share = sum(ids.count(captioner.unknown_id) for ids in taught) / sum(map(len, taught))
    many = share > 0.001
    return Finding(
        level="warning" if many else "ok", about="tokens that are unknown", got=f"{share:.2%}",
        do="the captioner's vocabulary lacks these words" if many else "",
    )  # fmt: skip


def _positions(captioner: Captioner, taught: list[list[int]], given: int) -> list[Finding]:
    """Return captions with more tokens than the decoder has places for: training would stop."""
    network: Any = captioner.network
    places = int(network.config.text_config.max_position_embeddings)
    longest = max(map(len, taught))
    if longest <= places:
        return []
    do = f"data.max_tokens = {places - given} or less"
    got = f"{longest} tokens with the prompt; the decoder has {places} places"
    return [Finding(level="error", about="longest caption", got=got, do=do)]
