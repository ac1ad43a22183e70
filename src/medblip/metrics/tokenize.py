"""Tokens as the caption field counts them, without Java.

The reference is the Penn Treebank tokenizer of the COCO caption evaluation, lower-cased, with its
list of punctuation removed. These rules were written from what it does to text (text in, tokens
out), never from its source; `docs/metrics.md` says how often they agree.
"""

from __future__ import annotations

import re

__all__ = ["tokenize"]

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_ABBREVIATIONS = (
    r"(?:figs?|vs|no|nos|dr|mr|mrs|ms|prof|st|approx|etc|e\.g|i\.e|al|jr|sr|inc|dept|est|ca|cf|ct"
    r"|la|ala|md|rt|va|pa|fla|ga|ky|tex)"
)
_FRACTIONS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
_CLITIC = r"(?:'(?:s|re|ve|ll|m|d))"
_WORD = r"[^\W_]+(?:[./,:&@'\u2010\u2011_-]+[^\W_]+)*"  # letters and digits, joined inside a word
_TOKEN = re.compile(
    rf"""
    https?://\S+
  | -l[rsc]b-|-r[rsc]b-
  | \d+(?:[ \u00a0]\d+/\d+)                              # 21 3/7
  | [-+]?\.?\d+(?:[.,/:]\d+)*(?![^\W_]|[-\u2010\u2011./][^\W_])        # 3.5, 1,000, 9/26
  | \d+[.,]\d+(?=[a-z])                                  # 1.5 t
  | {_ABBREVIATIONS}\.
  | (?:[^\W\d_]\.)+(?![^\W_])                            # initials: a. c.t.
  | {_WORD}
  | [^\s\w]|_
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PLAIN = re.compile(r"(?:[a-z]+|[a-z]+(?:-[a-z0-9]+)+|\d+)\Z")
_DROPPED = frozenset(
    ["\"", "'", "``", "''", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";",
     "\u2013", "\u2014", "\u2026", "\u00ab", "\u00bb"]
)  # fmt: skip
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201b": "'", "\u2032": "'",
                         "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u00a0": " "})  # fmt: skip
_SPLIT_CLITIC = re.compile(rf"(.+?)({_CLITIC}|n't)\Z")


def tokenize(text: str) -> list[str]:
    """Return the tokens of one caption; an empty list when nothing but punctuation is in it.

    >>> tokenize("The patient's T1-weighted MRI: no 3.5-cm mass.")
    ['the', 'patient', "'s", 't1-weighted', 'mri', 'no', '3.5-cm', 'mass']
    """
    text = text.translate(_QUOTES)
    for sign, words in _FRACTIONS.items():
        text = text.replace(sign, f"{words} ")
    for bracket, word in _BRACKETS.items():
        text = text.replace(bracket, f" {word} ")
    tokens: list[str] = []
    for token in map(str.lower, _TOKEN.findall(text)):
        if _PLAIN.match(token):
            tokens += ["can", "not"] if token == "cannot" else [token]
        elif token not in _DROPPED:
            tokens += _split(token)
    return tokens


def _split(token: str) -> list[str]:
    """Take clitics off a word; fold the fraction's space into one token."""
    clitic = _SPLIT_CLITIC.match(token)
    if clitic:
        return [*_split(clitic[1]), clitic[2]]
    if re.match(r"\d+[ \u00a0]\d+/", token):
        return [re.sub(r"[ \u00a0]", "\u00a0", token)]
    return [token]
