"""The radiological vocabulary: concepts and their surface forms, read from `lexicon.toml`.

Captions of phantoms are written with it and facts are read from captions with it, so both sides
agree by construction. Knows words only; nothing of negation scope, grammar or images.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import tomllib
from collections.abc import Sequence
from importlib import resources

__all__ = ["KINDS", "Concept", "Lexicon", "Mention", "lexicon", "words"]

#: What a concept can be. `before`/`after` are negation cues, `ignore` swallows misleading phrases.
KINDS = ("modality", "region", "side", "finding", "device", "before", "after", "ignore")

_WORD = re.compile(r"\d+[.,]\d+|[^\W_]+|[.,;:()]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Concept:
    """One concept with the phrases that express it.

    Args:
        write: Forms that captions use; the first is the plainest.
        read: Further forms that are understood but never written.
        sided: Whether a finding can be left or right.
        article: Whether the noun takes an indefinite article.
    """

    kind: str
    name: str
    write: tuple[str, ...]
    read: tuple[str, ...] = ()
    sided: bool = True
    article: bool = True


@dataclasses.dataclass(frozen=True)
class Mention:
    """A concept found in text: tokens `start` to `stop` (exclusive)."""

    kind: str
    name: str
    start: int
    stop: int


def words(text: str) -> list[str]:
    """Split text into lower-case words and the punctuation that ends clauses; hyphens are spaces.

    >>> words("Left-sided effusion, on X - ray.")
    ['left', 'sided', 'effusion', ',', 'on', 'x', 'ray', '.']
    """
    return _WORD.findall(text.lower())


class Lexicon:
    """All concepts, and the search for them in text."""

    def __init__(self, concepts: Sequence[Concept]) -> None:
        """Index the concepts by name and by the words of their forms."""
        self.concepts = tuple(concepts)
        self._by_name = {(concept.kind, concept.name): concept for concept in concepts}
        self._forms: dict[tuple[str, ...], tuple[str, str]] = {}
        for concept in concepts:
            for form in (*concept.write, *concept.read):
                self._forms[tuple(words(form))] = (concept.kind, concept.name)
        self._longest: dict[str, int] = {}  # first word -> longest form that begins with it
        for form_words in self._forms:
            first = form_words[0]
            self._longest[first] = max(self._longest.get(first, 0), len(form_words))

    def __getitem__(self, key: tuple[str, str]) -> Concept:
        """Return the concept of a (kind, name) pair; KeyError when there is none."""
        return self._by_name[key]

    def names(self, kind: str) -> tuple[str, ...]:
        """Return the names of all concepts of one kind, in the order of the file."""
        return tuple(concept.name for concept in self.concepts if concept.kind == kind)

    def mentions(self, tokens: Sequence[str]) -> list[Mention]:
        """Find concepts from left to right, the longest form first; `tokens` come from `words`."""
        found: list[Mention] = []
        position = 0
        while position < len(tokens):
            for length in range(self._longest.get(tokens[position], 0), 0, -1):
                known = self._forms.get(tuple(tokens[position : position + length]))
                if known is not None:
                    found.append(Mention(*known, position, position + length))
                    position += length
                    break
            else:
                position += 1
        return found


@functools.cache
def lexicon() -> Lexicon:
    """Return the lexicon that ships with the package."""
    text = resources.files("medblip").joinpath("lexicon.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    concepts = [
        Concept(
            kind=kind,
            name=name,
            write=tuple(entry["write"]),
            read=tuple(entry.get("read", ())),
            sided=entry.get("sided", True),
            article=entry.get("article", True),
        )
        for kind in ("modality", "region", "side", "finding", "device")
        for name, entry in table[kind].items()
    ]
    for cue in ("before", "after"):
        concepts.append(
            Concept(kind=cue, name="negation", write=(), read=tuple(table["negation"][cue]))
        )
    concepts.append(
        Concept(kind="ignore", name="ignore", write=(), read=tuple(table["ignore"]["read"]))
    )
    return Lexicon(concepts)
