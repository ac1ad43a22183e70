"""The rows of a source on their way into a data set: which are worth decoding, what became of them.

Pure bookkeeping in the order of the source: no thread, no file. It keeps rows only while their
chunk is being decoded, and of every row a hash of its id and a file name.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator

from medblip.data.card import Tally
from medblip.data.chunk import Chunk, Done
from medblip.data.clean import clean
from medblip.data.raw import Raw
from medblip.data.store import SHARD_ROWS
from medblip.errors import DataError, explain
from medblip.schema import Example, Reject

__all__ = ["Intake"]


class Intake:
    """Rows in, chunks to decode out; outcomes in, examples and rejects out.

    Args:
        rows: With a split each.
        rules: Cleaning rules for what training reads.
        licences: In lower case; None keeps all.
        max_rejects: More bad rows than this are an error; None: never.
    """

    def __init__(
        self,
        *,
        rows: Iterator[Raw],
        rules: tuple[str, ...],
        licences: set[str] | None,
        max_rejects: int | None,
    ) -> None:
        self.tally = Tally()
        self._rows = rows
        self._rules = rules
        self._licences = licences
        self._max_rejects = max_rejects
        self._seen: set[int] = set()
        self._names: set[str] = set()
        #: Chunk number -> its rows in order, good (with the name of the copy) and bad.
        self._waiting: dict[int, list[tuple[Raw, str] | Reject]] = {}

    def chunks(self) -> Iterator[Chunk]:
        """Yield rows worth decoding, 256 at a time; remember them until their chunk is done."""
        for number in itertools.count():
            entries: list[tuple[Raw, str] | Reject] = []
            good: list[tuple[Raw, str]] = []
            for row in self._rows:
                entry = self._look(row)
                entries.append(entry)
                if not isinstance(entry, Reject):
                    good.append(entry)
                    if len(good) == SHARD_ROWS:
                        break
            if not entries:
                return
            self._waiting[number] = entries
            yield Chunk(number, [row.image for row, _ in good], [name for _, name in good])

    def results(self, done: Done) -> Iterator[Example | Reject]:
        """Yield what became of the rows of one chunk, in their order."""
        outcomes = iter(done.outcomes)
        for entry in self._waiting.pop(done.number):
            if isinstance(entry, Reject):
                yield self._reject(entry)
                continue
            row, name = entry
            outcome = next(outcomes)
            if outcome.reason is not None:
                yield self._reject(Reject(id=row.id, file=row.image.label, reason=outcome.reason))
                continue
            example = self._example(row, name)
            self.tally.add(
                example, width=outcome.width, height=outcome.height, grey=outcome.channels == 1
            )
            yield example

    def _look(self, row: Raw) -> tuple[Raw, str] | Reject:
        captions = tuple(text.strip() for text in row.captions if text.strip())
        key = hash(row.id)
        reason = None
        if not captions:
            reason = "no caption"
        elif key in self._seen:
            reason = "id appears twice"
        elif self._licences is not None and (row.licence or "").casefold() not in self._licences:
            reason = f"licence not asked for: {row.licence or 'unknown'}"
        if reason is not None:
            return Reject(id=row.id, file=row.image.label, reason=reason)
        self._seen.add(key)
        return dataclasses.replace(row, captions=captions), self._file_name(row)

    def _file_name(self, row: Raw) -> str:
        """Return a safe, unique file name below images/, told by the id."""
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", row.id).strip("._")[:120] or "image"
        name, number = f"{stem}{row.image.suffix}", 1
        while name.lower() in self._names:  # two ids may look alike once sanitised
            number += 1
            name = f"{stem}-{number}{row.image.suffix}"
        self._names.add(name.lower())
        return f"images/{name}"

    def _example(self, row: Raw, name: str) -> Example:
        targets = None
        if self._rules:
            cleaned = [clean(caption, self._rules) for caption in row.captions]
            for rule in itertools.chain.from_iterable(one.fired for one in cleaned):
                self.tally.cleaned(rule)
            targets = tuple(one.text for one in cleaned)
            targets = None if targets == row.captions else targets
        return Example(
            id=row.id, image=name, split=row.split or "train", captions=row.captions,
            group=row.group, licence=row.licence, source=row.source, targets=targets,
            concepts=row.concepts, keywords=row.keywords,
            facts=dict(row.facts) if row.facts else None,
        )  # fmt: skip

    def _reject(self, reject: Reject) -> Reject:
        self.tally.reject(reject)
        unasked = self.tally.rejects["licence not asked for"]
        count = self.tally.rejects.total() - unasked
        if self._max_rejects is not None and count > self._max_rejects:
            told = ", ".join(f"{n} x {kind}" for kind, n in self.tally.rejects.most_common(3))
            raise DataError(
                explain(
                    "too many rows cannot be used",
                    got=f"{count} so far: {told}; the last one: {reject.file} ({reject.reason})",
                    expected=f"at most {self._max_rejects} (--max-rejects)",
                    do="mend the source, or allow more and read rejects.jsonl",
                )
            )
        return reject
