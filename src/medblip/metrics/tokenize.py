"""Tokens as the caption field counts them, without Java.

The reference is the Penn Treebank tokenizer of the COCO caption evaluation, lower-cased, with its
list of punctuation removed. These rules were written from what it does to text (text in, tokens
out), never from its source; `docs/metrics.md` says how often they agree.

At each place the longest of `_SHAPES` is the next token. Tokens end at white space, but for a few
shapes; only texts that may hold one of those are read as a whole (`_ACROSS_SPACES`), all others
piece by piece, from a memory of pieces.
"""

from __future__ import annotations

import re
from functools import lru_cache

from medblip.metrics import tokenize_data as data

__all__ = ["tokenize"]

_LETTER = rf"[^\W\d_{data.NO_LETTERS}]"
_LETTERS = rf"(?:{_LETTER}[{data.MARKS}]*)+"
_SIGN = rf"(?:\d|{_LETTER}[{data.MARKS}]*)"
_QUOTE = "['\u2019\x92]"
_ELIDED = rf"(?:[dloDLO]{_QUOTE}(?={_SIGN}{{2}}))?{_SIGN}+"
_WORD = rf"{_ELIDED}(?:[-_\u2010\u2011\u058a]{_ELIDED})*"
_PART = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_URL = r'[^\s"<>|(){}]'
_URL_END = r'[^\s"<>|(){}.!?,-]'
_HOST = r'[^\s"<>|(){}.]+'
_TAG = r"[A-Za-z_:][\w.:-]*"
_GAP = r"[ \u00a0]"


def _any(words: str) -> str:
    return "|".join(words.split())


_CASED = f"{data.ABBREVIATIONS_WITH_CAPITAL} {data.ABBREVIATIONS_WITH_CAPITAL.upper()}"
_CASED += f" {data.ABBREVIATIONS_NOT_IN_CAPITALS} {data.ABBREVIATIONS_NOT_IN_CAPITALS.title()}"
_CLITIC = f"(?i:{_any(data.CLITICS)})"
_SHAPES = (
    # words
    _WORD,  # t1-weighted, l'orbite
    rf"{_LETTER}{_SIGN}*(?:[.!?]{_LETTER}{_SIGN}*)+",  # depth.representative
    r"[A-Za-z0-9][A-Za-z0-9.,]*(?:-[A-Za-z0-9]+)+",  # 3.5-cm, n,n-dimethyl
    rf"{_PART}(?:\\?/{_PART}){{1,2}}",  # pet/ct-scan, mg/kg/day
    r"[A-Z]+(?:(?:[&+]|&(?i:amp);)[A-Z]+)+",  # H&E, A+B
    rf"{_WORD}\.(?=[,;:])",  # "5 cm., a" -> "cm."
    r"(?:\d+\.)+[xX](?![A-Za-z0-9])",  # 2.x
    # apostrophes
    rf"[A-Za-z]*[A-MO-Za-mo-z][nN]{_QUOTE}[tT]",  # isn't: is cut to "is" in _scan
    rf"[nN]{_QUOTE}[tT](?!{_LETTER})",
    rf"'{_CLITIC}(?![A-Za-z])|[\u2019\x92]{_CLITIC}",
    r"'[nN](?:'|(?![^\W_]))|[\u2019\x92][nN][\u2019\x92]?|'(?i:tis|twas)",  # rock 'n' roll
    rf"{_QUOTE}(?i:em|till?|cause)",
    rf"[A-HJ-XZn]{_QUOTE}{_LETTER}{_LETTERS}",  # S'il
    rf"{_LETTERS}(?<=[aeiouyAEIOUY])(?:{_QUOTE}|[\u2018`])[aeiouAEIOU]{_LETTERS}",  # Xi'an
    rf"(?i:[dljy]{_QUOTE})(?={_LETTER})",  # y'all -> "y'" "all"
    rf"(?i:o{_QUOTE}o|c{_QUOTE}mon|d{_QUOTE}y(?:ou|a|e)|ol{_QUOTE}|[eo]{_QUOTE}er|ne{_QUOTE}er"
    rf"|ma{_QUOTE}am|nor{_QUOTE}easter|li{_QUOTE}l|cap{_QUOTE}n|somethin{_QUOTE})",
    rf"{_QUOTE}\d(?:0s|\d(?=\s|\Z))",  # '90s
    rf"[{''.join(data.QUOTES)}]{{2}}",
    # numbers
    r"[-+]?(?:\d+|\d*(?:[.,:]\d+)+)(?:[.,:]\d+)*",  # -3.5, 1,000, 10:30
    rf"(?:\d+(?:-|{_GAP}))?\d+(?:\\?/|\u2044)\d+",  # 21 3/7
    rf"(?:\(\d{{2,3}}\){_GAP}?|\+{{0,2}}(?:\d{{2,4}}[- \u00a0])?\d{{2,4}}[- \u00a0])"
    r"\d{3,4}[- \u00a0]?\d{3,5}",  # telephone numbers: 100 200 300
    r"[\u207a\u207b]?[\u00b2\u00b3\u00b9\u2070\u2074-\u2079]+|[\u208a\u208b]?[\u2080-\u2089]+",
    r"[A-Z]+\$",  # US$
    # periods
    rf"(?:(?i:{_any(data.ABBREVIATIONS)})|{_any(_CASED)})\.",
    rf"(?i:{_any(data.ABBREVIATIONS_BEFORE_NUMBERS)})\.(?=\s?\d)",
    r"[A-Za-z](?:\.[A-Za-z])+\.|(?i:ph\.d|a\.k\.a)\.",  # e.g.
    rf"[A-Za-z]\.(?!\s+(?:{_any(data.SENTENCE_STARTS)})(?=\s|\Z))",  # initials
    # addresses
    rf"(?i:https?)://{_URL}+{_URL_END}",
    rf"(?i:www)\.(?:[^\s\"<>|.!?(){{}},]+\.)+[a-zA-Z]{{2,4}}(?:/{_URL}+{_URL_END})?",
    rf"(?:[A-Za-z]+\.)+(?i:com|net|org|edu)/{_URL}+{_URL_END}",
    rf"<?(?i:mailto:)?[A-Za-z0-9]{_URL}*@{_HOST}(?:\.{_HOST})*>?",
    rf"\#{_LETTERS}|@[A-Za-z_][A-Za-z0-9_]*",
    # mark-up, smileys, signs
    rf"</{_TAG}\s*>|<{_TAG}(?:\s+{_TAG}(?:=(?:\"[^\"]*\"|'[^']*'))?)*\s*/?>|<[!?][A-Za-z-][^>]*>",
    r"&(?i:amp|lt|gt|quot|apos|nbsp|[mn]dash|md);|&\#\d+;",
    r"[<>]?[:;=][-o*']?[()DPp\[\]{}|\\@](?![A-Za-z0-9])|[-^~<>=x']_[-^~<>=x'](?![A-Za-z0-9])",
    r"[!?]{2,}|\*{2,}|_{2,}|\#{2,}|@{2,}|-{2,}|<<|>>|\\\*|''|``",
    rf"[{re.escape(''.join(sign for sign in data.NAMED_SIGNS if len(sign) == 1))}"
    rf"{data.SIGNS}{data.MARKS}]",
)
_SHAPE = re.compile("".join(f"(?=({shape})?)" for shape in _SHAPES))
_ACROSS_SPACES = re.compile(
    rf"<|\d\)?{_GAP}\(?\d"
    rf"|(?<![^\W_])(?:[A-Za-z]|(?i:{_any(data.ABBREVIATIONS_BEFORE_NUMBERS)}))\.\s"
)
_NOT = frozenset(["n't", "n\u2019t", "n\x92t"])
_WRITTEN: dict[str, tuple[str, ...]] = {
    **{a + b: (data.QUOTES[a] + data.QUOTES[b],) for a in data.QUOTES for b in data.QUOTES},
    **{quote + rest: (f"'{rest}",) for quote in "\u2019\x92" for rest in data.CLITICS.split()},
    **{negation: ("n't",) for negation in _NOT},
    **data.CONTRACTIONS,
    **{sign: (name,) for sign, name in data.NAMED_SIGNS.items()},
    **{token: () for token in data.DROPPED},
}
for _pair in [pair for pair, tokens in _WRITTEN.items() if tokens and tokens[0] in data.DROPPED]:
    _WRITTEN[_pair] = ()
_INSIDE = re.compile(r"[\s(){}]")


def tokenize(text: str) -> list[str]:
    """Return the tokens of one caption; an empty list when nothing but punctuation is in it.

    >>> tokenize("The patient's T1-weighted MRI: no 3.5-cm mass.")
    ['the', 'patient', "'s", 't1-weighted', 'mri', 'no', '3.5-cm', 'mass']
    """
    if _ACROSS_SPACES.search(text):
        return _scan(text)
    tokens: list[str] = []
    for piece in text.split():
        tokens += _piece(piece)
    return tokens


@lru_cache(maxsize=1 << 16)
def _piece(piece: str) -> tuple[str, ...]:
    """Text without white space; captions repeat most of theirs."""
    return tuple(_scan(piece))


def _scan(text: str) -> list[str]:
    text = text.replace("\n", " ").replace("\u00ad", "")
    tokens: list[str] = []
    place = 0
    while place < len(text):
        found = _SHAPE.match(text, place)
        token = max(filter(None, found.groups()), key=len, default="") if found else ""
        if len(token) > 3 and token[-3:].lower() in _NOT:
            token = token[:-3]
        place += len(token) or 1
        if token:
            tokens += _written(token.lower())
    return tokens


def _written(token: str) -> tuple[str, ...]:
    """What the reference writes for a shape: mostly itself."""
    known = _WRITTEN.get(token)
    if known is not None:
        return known
    return (_INSIDE.sub(lambda sign: data.NAMED_SIGNS.get(sign[0], "\u00a0"), token),)
