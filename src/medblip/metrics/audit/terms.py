"""The audit's vocabulary: the files of `lexicon/`, indexed for a longest-match search.

Words only; negation scope and what belongs to what are `extract.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

from medblip.metrics.audit.normalise import tokens

__all__ = ["Finder", "Hit", "Term", "Vocabulary", "vocabulary"]


class Term(NamedTuple):
    """A concept; terms of one kind and axis exclude each other."""

    kind: str
    name: str
    axis: str


#: Phrases that hold a term without meaning it.
_IGNORE = Term("ignore", "ignore", "ignore")


class Hit(NamedTuple):
    """A term found at tokens `start` to `stop` (exclusive)."""

    term: Term
    start: int
    stop: int


class Finder:
    """Finds phrases in tokens, from left to right, the longest first."""

    def __init__(self) -> None:
        self._forms: dict[tuple[str, ...], list[Term]] = {}
        self._lengths: dict[
            str, list[int]
        ] = {}  # first token -> lengths of its forms, longest first

    def add(self, term: Term, forms: Iterable[str]) -> None:
        """Let every form stand for the term; a form may stand for several."""
        for form in forms:
            key = tuple(tokens(form))
            known = self._forms.setdefault(key, [])
            if term not in known:
                known.append(term)
            lengths = self._lengths.setdefault(key[0], [])
            if len(key) not in lengths:
                lengths.append(len(key))
                lengths.sort(reverse=True)

    def find(self, text: Sequence[str]) -> list[Hit]:
        """Return the hits in order; hits of one phrase with several terms share their place."""
        found: list[Hit] = []
        forms, known_lengths = self._forms, self._lengths
        free = 0  # tokens before are taken
        for position, token in enumerate(text):
            if token not in known_lengths or position < free:
                continue
            for length in known_lengths[token]:
                stop = position + length
                if stop > len(text):
                    continue
                known = forms.get(tuple(text[position:stop]))
                if known is not None:
                    found.extend([Hit(term, position, stop) for term in known])
                    free = stop
                    break
        return found


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Everything the files hold.

    Args:
        concepts: Finder of modalities, findings, devices, anatomy.
        attributes: Finder of sides, levels, severities; kind `ignore` swallows phrases.
        planes: Finder of planes.
        changes: Finder of temporal phrases.
        cues: Finder of denials and doubts.
        parents: Modality -> the modality that includes it.
        broader: Finding -> the finding that includes it.
        region: Anatomy -> its region.
        numbered: Noun -> kind, for `segment 4` and `grade 2`.
        rules: Words of the temporal rules, by name of the rule.
        stop, plain, show, ends: Function words; words without a fact; verbs of seeing; scope ends.
    """

    concepts: Finder
    attributes: Finder
    planes: Finder
    changes: Finder
    cues: Finder
    parents: Mapping[str, str]
    broader: Mapping[str, str]
    region: Mapping[str, str]
    numbered: Mapping[str, str]
    rules: Mapping[str, frozenset[str]]
    stop: frozenset[str]
    plain: frozenset[str]
    show: frozenset[str]
    ends: frozenset[str]

    def wider(self, name: str) -> list[str]:
        """Return the findings that include one, the nearest first."""
        out = []
        while name in self.broader:
            name = self.broader[name]
            out.append(name)
        return out


def _read(name: str) -> dict[str, Any]:
    file = resources.files("medblip.metrics.audit").joinpath("lexicon", f"{name}.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _folded(words: Iterable[str]) -> frozenset[str]:
    return frozenset(token for word in words for token in (word, *tokens(word)))


@functools.cache
def vocabulary() -> Vocabulary:
    """Return the vocabulary that ships with the package."""
    words = {name: _folded(text.split()) for name, text in _read("words").items()}
    cues, changes = _read("negation"), _read("comparison")
    modality, finding, anatomy = _read("modality"), _read("finding"), _read("anatomy")
    attributes, numbered = _attributes()
    broader, ignored = finding.pop("broader"), finding.pop("ignore")["phrases"]
    concepts, planes = Finder(), Finder()
    concepts.add(_IGNORE, ignored)
    for name, forms in modality["terms"].items():
        concepts.add(Term("modality", name, "modality"), (name, *forms))
    for section in finding.values():
        for name, forms in section.items():
            concepts.add(Term("finding", name, "finding"), (name, *forms))
    for name, forms in _read("device")["terms"].items():
        concepts.add(Term("device", name, "device"), (name, *forms))
    for section in anatomy.values():
        for name, forms in section.items():
            concepts.add(Term("anatomy", name, "anatomy"), (name, *forms))
    for name, forms in _read("plane")["terms"].items():
        planes.add(Term("plane", name, "plane"), (name, *forms))
    cue_finder, change_finder = Finder(), Finder()
    for kind in ("before", "after", "prefix", "unsure_before", "unsure_after", "ignore"):
        cue_finder.add(Term(kind, kind, kind), cues[kind])
    for name, forms in changes["terms"].items():
        change_finder.add(Term("comparison", name, "comparison"), forms)
    change_finder.add(_IGNORE, changes["ignore"]["phrases"])
    return Vocabulary(
        concepts=concepts,
        attributes=attributes,
        planes=planes,
        changes=change_finder,
        cues=cue_finder,
        parents=modality["parents"],
        broader=broader,
        region={name: region for region, section in anatomy.items() for name in section},
        numbered=numbered,
        rules={name: _folded(words_) for name, words_ in changes["rules"].items()},
        stop=words["stop"],
        plain=words["stop"] | words["marks"] | words["generic"] | words["show"],
        show=words["show"],
        ends=_folded(cues["stop"]),
    )


def _attributes() -> tuple[Finder, dict[str, str]]:
    """Return the finder of sides, levels and severities, and the nouns that take a number."""
    finder = Finder()
    numbered: dict[str, str] = {}
    side = _read("side")
    for name, forms in side["terms"].items():
        axis = "relation" if name.endswith("lateral") and name[0] in "ci" else "side"
        finder.add(Term("side", name, axis), (name, *forms))
    finder.add(_IGNORE, side["ignore"]["phrases"])
    for kind in ("level", "severity"):
        table = _read(kind)
        numbered |= {tokens(noun)[-1]: kind for noun in table.pop("numbered")["nouns"]}
        finder.add(_IGNORE, table.pop("ignore")["phrases"])
        for axis, values in table.items():
            for name, forms in values.items():
                finder.add(Term(kind, name, axis), (name, *forms))
    return finder, numbered
