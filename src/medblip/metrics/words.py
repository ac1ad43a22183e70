"""Texts as numbers of words, and how to get there fast: each distinct piece of text is read once.

A piece is what stands between white space. Captions repeat nine of ten, so that a tokenizer, too
slow for two million letters of prose, reads a tenth of them. Knows no tokenizer and no metric.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Ints", "Pieces", "Words"]

Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Words:
    """The words of many texts.

    Args:
        numbers: Number of each word, text after text, int64 (words,).
        lengths: Words per text, int64 (texts,).
        vocabulary: The word of each number.
    """

    numbers: Ints
    lengths: Ints
    vocabulary: Sequence[str]

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]]) -> Words:
        """Number the words of texts that are tokenised already."""
        number = _numbering()
        numbers = _ints(map(number.__getitem__, itertools.chain.from_iterable(texts)))
        return cls(numbers, _ints(map(len, texts)), list(number))

    def take(self, texts: Ints) -> Words:
        """Return texts by number, in any order and as often as named."""
        start = np.cumsum(self.lengths) - self.lengths
        lengths = self.lengths[texts]
        return Words(self.numbers[_runs(start[texts], lengths)], lengths, self.vocabulary)

    def lists(self) -> list[list[int]]:
        """Return the numbers of each text."""
        flat, ends = self.numbers.tolist(), np.cumsum(self.lengths).tolist()
        return [flat[start:end] for start, end in itertools.pairwise([0, *ends])]

    def replaced(self, texts: dict[int, Sequence[str]]) -> Words:
        """Return the same with other words for some texts."""
        number = _numbering(self.vocabulary)
        lengths, ends = self.lengths.copy(), np.cumsum(self.lengths)
        parts, after = [], 0
        for text, words in sorted(texts.items()):
            parts += [self.numbers[after : ends[text] - self.lengths[text]],
                      _ints(map(number.__getitem__, words))]  # fmt: skip
            after, lengths[text] = int(ends[text]), len(words)
        return Words(np.concatenate([*parts, self.numbers[after:]]), lengths, list(number))


class Pieces:
    """Texts cut at white space, every distinct text and every distinct piece once.

    Args:
        texts: Any texts.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        number = _numbering()
        self._which = _ints(map(number.__getitem__, texts))
        self._texts = list(number)
        self._pieces = Words.of([text.split() for text in self._texts])

    def words(
        self,
        of_piece: Callable[[str], Sequence[str] | None],
        of_text: Callable[[str], Sequence[str]] | None = None,
        whole: Callable[[str], bool] | None = None,
    ) -> Words:
        """Return the words of all texts.

        Args:
            of_piece: Words of a piece; None where only the text can tell.
            of_text: Words of a text, where pieces do not do.
            whole: Whether a text must be read as a whole.
        """
        known = [of_piece(piece) for piece in self._pieces.vocabulary]
        table = Words.of([words or () for words in known])
        size = table.lengths[self._pieces.numbers]
        owner = np.repeat(np.arange(len(self._texts)), self._pieces.lengths)
        words = Words(
            table.take(self._pieces.numbers).numbers,
            np.bincount(owner, size, len(self._texts)).astype(np.int64),
            table.vocabulary,
        )
        if of_text is not None:
            unsure = np.array([words is None for words in known], dtype=bool)
            texts = set(owner[unsure[self._pieces.numbers]].tolist())
            if whole is not None:
                texts.update(i for i, text in enumerate(self._texts) if whole(text))
            words = words.replaced({text: of_text(self._texts[text]) for text in texts})
        return words.take(self._which)


def _numbering(words: Iterable[str] = ()) -> collections.defaultdict[str, int]:
    """Return a table that gives each new word the next number."""
    numbers: collections.defaultdict[str, int] = collections.defaultdict()
    numbers.default_factory = numbers.__len__
    numbers.update((word, number) for number, word in enumerate(words))
    return numbers


def _ints(values: Iterable[int]) -> Ints:
    return np.array(list(values), dtype=np.int64)


def _runs(start: Ints, length: Ints) -> Ints:
    """Return start[0], start[0] + 1, ..., start[1], ...: `length` numbers from each start."""
    begins = np.cumsum(length) - length
    return np.repeat(start - begins, length) + np.arange(int(length.sum()))
