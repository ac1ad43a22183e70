"""Which words of a caption name which finding, and which words carry content.

A finding is found through the lexicon that phantoms are written with (`medblip.lexicon`): names of
several words (`effusion in the pleural space`), synonyms, plurals, other spellings; the longest
form wins, case and hyphens do not matter. A denied finding (`no pneumothorax`) names nothing in the
image and is left out. A finding that is asserted but not there has no mask: it is counted. Devices
are left out: their masks are lines, thinner than a patch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from medblip.lexicon import words
from medblip.metrics.facts import asserted

__all__ = ["Named", "content_words", "named_findings"]

#: Words of grammar, and of a figure legend's frame: a place in the image tells nothing of them.
_EMPTY = frozenset(
    {"a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "from", "has", "have", "in",
     "into", "is", "it", "its", "no", "not", "of", "on", "or", "over", "showing", "shows", "that",
     "the", "their", "there", "this", "through", "to", "towards", "was", "well", "were", "which",
     "with", "without"}
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Named:
    """A finding that a caption asserts.

    Args:
        finding: Its name in the lexicon.
        words: Places of its content words in the caption, in order.
        real: Whether it is in the image.
    """

    finding: str
    words: tuple[int, ...]
    real: bool


def named_findings(caption: Sequence[str], present: Collection[str]) -> list[Named]:
    """Return the findings that a caption asserts, in order of mention, each mention by itself.

    Args:
        caption: Its words as a captioner's maps have them; punctuation may stand alone or not.
        present: Names of the findings that the image shows.

    >>> named_findings("a left pleural effusion , no nodule".split(), {"pleural effusion"})
    [Named(finding='pleural effusion', words=(2, 3), real=True)]
    """
    tokens: list[str] = []
    owners: list[int] = []
    for place, word in enumerate(caption):
        parts = words(word)
        tokens += parts
        owners += [place] * len(parts)
    found = []
    for mention in asserted(tokens):
        if mention.kind != "finding":
            continue
        own = sorted({owners[token] for token in range(mention.start, mention.stop)})
        content = [place for place in own if caption[place].lower() not in _EMPTY]
        found.append(Named(mention.name, tuple(content or own), mention.name in present))
    return found


def content_words(caption: Sequence[str]) -> list[int]:
    """Return the places of words that carry content: no grammar, no punctuation, no lone letters.

    >>> content_words("frontal chest x - ray with a nodule .".split())
    [0, 1, 4, 7]
    """
    return [
        place
        for place, word in enumerate(caption)
        if sum(map(str.isalnum, word)) > 1 and word.lower().strip(".,;:()") not in _EMPTY
    ]
