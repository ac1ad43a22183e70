"""Tokens as the caption field counts them, without Java.

The reference is the Penn Treebank tokenizer of the COCO caption evaluation, lower-cased, with its
list of punctuation removed. These rules were written from what it does to text (text in, tokens
out), never from its source; `docs/metrics.md` says how often they agree.

At each place the longest of the shapes below is the next token. Tokens end at white space, but for
a few shapes: only texts that may hold one of those are read as a whole, all others piece by piece,
and a piece that was seen before is not read again.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from medblip.metrics import tokenize_data as data
from medblip.metrics.words import Pieces, Words

__all__ = ["tokenize", "tokenize_all"]

_LETTER = rf"[^\W\d_{data.NO_LETTERS}]"
_LETTERS = rf"(?:{_LETTER}[{data.MARKS}]*)+"
_ALNUM = rf"(?:\d|{_LETTER}[{data.MARKS}]*)"
_QUOTE = "['\u2019\x92]"
_ANY_QUOTE = "['\u2019\x92\u2018`]"
_ELIDED = rf"(?:[dloDLO]{_ANY_QUOTE}(?={_ALNUM}{{2}}))?{_ALNUM}+"
_WORD = rf"{_ELIDED}(?:[-_\u2010\u2011\u058a]{_ELIDED})*"
_PART = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_URL = r'[^\s"<>|(){}]'
_URL_END = r'[^\s"<>|(){}.!?,-]'
_HOST = r'[^\s"<>|(){}.]+'
_TAG = r"[A-Za-z][A-Za-z0-9_.:-]*"
_GAP = r"[ \u00a0]"


def _any(words: str) -> str:
    """One of the words, for a pattern."""
    return "|".join(words.split())


_NUMBER = r"[-+]?(?:\d+|\d*(?:[.,:]\d+)+)(?:[.,:]\d+)*"
_DIALLED = r"(?:\d{2,4}[- \u00a0])?\d{2,4}[- \u00a0]"
_PATH = f"(?:/{_URL}+{_URL_END})?"
_MAIL = rf"(?i:mailto:)?[A-Za-z0-9]{_URL}*@{_HOST}(?:\.{_HOST})*>?"
_DOMAIN = r"[^\s!\"$'-),-@A-Z\[-`{|}]"
_SITE = rf"(?:{_DOMAIN}+\.)+(?i:com|net|org|edu){_PATH}"
_WEB = r"(?i:www)\.(?:[^\s\"<>|.!?(){},]"
_FACE = r"[-^~<>=x']_[-^~<>=x']"
_CASED = f"{data.ABBREVIATIONS_WITH_CAPITAL} {data.ABBREVIATIONS_WITH_CAPITAL.upper()}"
_CASED += f" {data.ABBREVIATIONS_NOT_IN_CAPITALS} {data.ABBREVIATIONS_NOT_IN_CAPITALS.title()}"
_STARTS = f"{data.SENTENCE_STARTS} {data.SENTENCE_STARTS.upper()}"
_CLITIC = f"(?i:{_any(data.CLITICS)})"
_CUT = f"{_CLITIC}(?![A-Za-z])"
_JOINED = rf"{_LETTER}{_ALNUM}*(?:[.!?]{_LETTER}{_ALNUM}*)+"
_HYPHENED = r"[A-Za-z0-9][A-Za-z0-9.,]*(?:-[A-Za-z0-9]+)+"
#: Nothing shorter than two more signs is joined to these: "ct.x" -> "ct." "x".
_STOPS = rf"(?i:{_any(data.ABBREVIATIONS)})|{_any(_CASED)}"
#: Shapes that begin with a letter or a digit.
_WORDS = (
    _WORD,  # t1-weighted, l'orbite
    rf"(?!(?:{_STOPS})\.-[A-Za-z0-9](?![A-Za-z0-9-])){_HYPHENED}",  # 3.5-cm, n,n-dimethyl
    rf"{_PART}(?:\\?/{_PART}){{1,2}}",  # pet/ct-scan, mg/kg/day
    rf"(?:{_WORD}|{_JOINED}|{_HYPHENED})\.(?=[,;:])",  # "5 cm., a" -> "cm."
    r"(?:[A-Za-z0-9][A-Za-z0-9.,]*-(?:[A-Za-z0-9]+-)*)?[A-Za-z](?:\.[A-Za-z])+\.",  # e.g., non-u.s.
    _MAIL,
)
_FROM_LETTERS = (
    rf"(?!(?:{_STOPS})\.{_LETTER}(?![.!?]?{_ALNUM})){_JOINED}",  # depth.representative
    r"[A-Z]+(?:(?:[&+]|&(?i:amp);)[A-Z]+)+|[A-Z]+\$",  # H&E, A+B, US$
    r"(?i:anti|pro)-|[CFcf]\#|[Cc]\+\+",
    rf"(?:(?i:(?:ph|ed)\.d|{_any(data.TITLES)})|{_STOPS})\.",  # Dr., etc.
    rf"(?i:{_any(data.ABBREVIATIONS_BEFORE_NUMBERS)})\.(?=\s?\d)",
    rf"[A-Za-z]\.(?!\s+(?:{_any(_STARTS)})(?=\s|\Z))",  # initials
    rf"[A-Za-z]*[A-MO-Za-mo-z][nN]{_ANY_QUOTE}[tT]",  # isn't: is cut to "is" in _next
    rf"[nN]{_ANY_QUOTE}[tT](?!{_LETTER})",
    rf"[A-HJ-XZn]{_ANY_QUOTE}(?!{_CLITIC}(?!{_LETTER})){_LETTER}{_LETTERS}",  # S'il
    rf"{_LETTER}{_LETTERS}(?<=[aeiouyAEIOUY]){_ANY_QUOTE}(?!{_CUT})"
    rf"[aeiouA-Z](?:{_LETTERS})?",  # Xi'an
    rf"(?i:[dlj]{_QUOTE}|y{_QUOTE}(?={_LETTER}))(?!{_CUT})",  # y'all -> "y'" "all"
    rf"(?i:c'mon|c{_QUOTE}est|d'y(?:ou|a|e)|ol{_QUOTE}|[eo]'er|ma{_ANY_QUOTE}am|nor'easter|li'l|cap'n"
    r"|somethin')",
    rf"(?i:https?)://{_URL}+{_URL_END}",
    rf"{_WEB}+\.)+[a-zA-Z]{{2,4}}",  # www.x-y.org
    rf"{_WEB[:-1]}/]+\.)+[a-zA-Z]{{2,4}}/{_URL}+{_URL_END}",
    _SITE,
    _FACE,
)
_FROM_DIGITS = (
    rf"(?:{_ALNUM}+\.)+(?i:{_any(data.FILE_ENDINGS)})(?=[!,.?\s]|\Z)",  # 12.pdf
    _NUMBER,  # 1,000, 10:30
    rf"(?:\d+(?:-|{_GAP}))?\d+(?:\\?/|\u2044)\d+",  # 21 3/7
    rf"{_DIALLED}\d{{3,4}}[- \u00a0]?\d{{3,5}}",  # telephone numbers: 100 200 300
)
_FROM_SIGNS = (
    _NUMBER,  # -3.5, .05
    rf"(?:\(\d{{2,3}}\){_GAP}?|\+{{1,2}}{_DIALLED})\d{{3,4}}[- \u00a0]?\d{{3,5}}",
    r"[\u207a\u207b]?[\u00b2\u00b3\u00b9\u2070\u2074-\u2079]+|[\u208a\u208b]?[\u2080-\u2089]+",
    rf"'{_CUT}|[\u2019\x92]{_CLITIC}|{_QUOTE}(?i:em|till?|cause)|'(?i:tis|twas)",  # 's
    rf"'[nN](?:{_QUOTE}|(?=\s|\Z))|[\u2019\x92][nN]{_QUOTE}?",  # rock 'n' roll
    rf"{_QUOTE}\d(?:0s|\d(?=\s|\Z))",  # '90s
    rf"[{''.join(data.QUOTES)}]{{2}}",
    rf"</{_TAG}\s*>|<{_TAG}(?:\s+{_TAG}(?:=(?:\"[^\"]*\"|'[^']*'))?)*\s*/?\s*>",  # <br />
    r"<[!?][A-Za-z-][^>]*>",
    r"&(?i:amp|lt|gt|quot|apos|nbsp|[mn]dash|md);|&\#\d+;",
    rf"<{_MAIL}",
    rf"\#{_LETTERS}|@[A-Za-z_][A-Za-z0-9_]*",
    _SITE,
    _FACE,
    r"[<>]?[:;=][-o*']?[()DPOdp\[\]{|\\@](?![A-Za-z0-9])",  # :-)
    r"\([-^x=~<>'][-_.]?[-^x=~<>']\)",  # (->)
    r"-(?i:[lr][rsc]b)-",  # brackets of a text that was tokenized before
    r"[!?]{2,}|\*{2,}|_{2,}|\#{2,}|@{2,}|-{2,}|\.{3,5}|<<|>>|\\\*|''|``",
    rf"[{re.escape(''.join(sign for sign in data.NAMED_SIGNS if len(sign) == 1))}"
    rf"{data.SIGNS}{data.MARKS}]",
)


def _longest(*shapes: str) -> re.Pattern[str]:
    """A pattern that matches the empty string and holds each shape's match in a group."""
    return re.compile("".join(f"(?=({shape})?)" for shape in shapes))


_WORD_SHAPE = _longest(*_WORDS)  # apart from the next two: compiling it twice costs 15 ms
_LETTER_SHAPE = _longest(*_FROM_LETTERS)
_DIGIT_SHAPE = _longest(*_FROM_DIGITS)
_SIGN_SHAPE = _longest(*_FROM_SIGNS)
#: The commonest pieces, where no longer shape can begin.
_PLAIN = re.compile(
    r"[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*(?=[,)]?(?:\s|\Z))|[.,)](?=\s|\Z)|\((?=[A-Za-wyz])"
)
_NUMBER_NEXT = re.compile(r" \(?\d")  # quicker than the next, which is then rarely tried
_NUMBERS = re.compile(rf"\d\)?{_GAP}\(?\d")
_OPEN = re.compile(
    rf"(?:.*[^A-Za-z])?(?:[A-Za-z]|(?i:{_any(data.ABBREVIATIONS_BEFORE_NUMBERS)}))\."
)
_NOT = {"n't": "n't", "n\u2019t": "n't", "n\x92t": "n't", "n\u2018t": "n`t", "n`t": "n`t"}
_PAIRS = {a + b: data.QUOTES[a] + data.QUOTES[b] for a in data.QUOTES for b in data.QUOTES}
_WRITTEN: dict[str, tuple[str, ...]] = {
    **{pair: () if name in data.DROPPED else (name,) for pair, name in _PAIRS.items()},
    **{quote + rest: (f"'{rest}",) for quote in "\u2019\x92" for rest in data.CLITICS.split()},
    **{sign: (name,) for sign, name in {**data.NAMED_SIGNS, **_NOT}.items()},
    **data.CONTRACTIONS,
    **{token: () for token in data.DROPPED},
}
_SIMPLE = re.compile(
    r"(\(?)([A-Za-wyz](?:[A-Za-z0-9]*(?:-[A-Za-z0-9]+)*(?=[,;:)]|\Z)|[A-Za-z]+))(\)?[.,;:]?)"
)
_WITH_PERIOD = frozenset(
    f"{data.ABBREVIATIONS} {data.TITLES} {data.ABBREVIATIONS_NOT_IN_CAPITALS} "
    f"{data.ABBREVIATIONS_WITH_CAPITAL.lower()} "
    f"{data.ABBREVIATIONS_BEFORE_NUMBERS.replace('?', '')} fig no".split()
)
_REMEMBERED = 1 << 16  # pieces; about 15 MB
_INSIDE = re.compile(r"[\s()]")
_SPACES = re.compile(r"\s")


def tokenize(text: str) -> list[str]:
    """Return the tokens of one caption; an empty list when nothing but punctuation is in it.

    >>> tokenize("The patient's T1-weighted MRI: no 3.5-cm mass.")
    ['the', 'patient', "'s", 't1-weighted', 'mri', 'no', '3.5-cm', 'mass']
    """
    found: list[Any] = [_PIECES[piece] for piece in text.split()]
    if None in found or _crosses_spaces(text):
        return _scan(text)
    return list(itertools.chain.from_iterable(found))


def tokenize_all(texts: Pieces) -> Words:
    """Return the tokens of many texts as numbers, of each the same as `tokenize` returns."""
    return texts.words(_PIECES.__getitem__, _scan, _crosses_spaces)


def _crosses_spaces(text: str) -> bool:
    """Whether a token may hold white space: mark-up, "21 3/7", telephone numbers."""
    if "<" in text:
        return True
    near = _NUMBER_NEXT.search(text) or "\u00a0" in text
    return bool(near and _NUMBERS.search(text))


class _Pieces(dict[str, Any]):
    """Tokens of text without white space, remembered: captions repeat nine of ten pieces.

    None where the next word decides ("Fig." or "B.").
    """

    def __missing__(self, piece: str) -> tuple[str, ...] | None:
        if len(self) >= _REMEMBERED:
            self.clear()
        known = _simple(piece)
        if known is None and not (piece.endswith(".") and _OPEN.fullmatch(piece)):
            known = tuple(_scan(piece))
        self[piece] = known
        return known


def _simple(piece: str) -> tuple[str, ...] | None:
    """What `_scan` says of a word in the commonest punctuation, four times faster; else None."""
    found = _SIMPLE.fullmatch(piece)
    if not found:
        return None
    opened, word, ended = found.groups()
    word = word.lower()
    if ended.endswith(".") and word in _WITH_PERIOD:
        return None
    tokens = data.CONTRACTIONS.get(word) or (word,)
    if opened or ended[:1] == ")":
        return (*("-lrb-",) * bool(opened), *tokens, *("-rrb-",) * (ended[:1] == ")"))
    return tokens


_PIECES = _Pieces()


def _scan(text: str) -> list[str]:
    """Tokens of any text, from its begin to its end."""
    text = text.replace("\n", " ").replace("\u00ad", "")
    tokens: list[str] = []
    place = 0
    while place < len(text):
        plain = _PLAIN.match(text, place)
        token = plain[0] if plain else _next(text, place)
        place += len(token) or 1
        if token:
            tokens += _written(token.lower())
    return tokens


def _next(text: str, place: int) -> str:
    """The longest of the shapes that begin here; empty where none does."""
    first = text[place]
    if first.isspace():
        return ""
    shapes: tuple[re.Pattern[str], ...] = (_SIGN_SHAPE,)
    if first.isalpha() or first.isdecimal():
        shapes = (_WORD_SHAPE, _LETTER_SHAPE if first.isalpha() else _DIGIT_SHAPE)
    matches = [shape.match(text, place) for shape in shapes]
    found = (token for match in matches if match for token in match.groups() if token)
    token = max(found, key=len, default="")
    if len(token) > 3 and token[-3:].lower() in _NOT and token[:-2].isalpha():
        return token[:-3]
    return token


def _written(token: str) -> tuple[str, ...]:
    """What the reference writes for a shape: mostly itself."""
    known = _WRITTEN.get(token)
    if known is not None:
        return known
    if "&amp;" in token and "/" not in token and "@" not in token:
        token = token.replace("&amp;", "&")
    if token[0] == "<" and token[-1] == ">":
        return (_SPACES.sub("\u00a0", token),)
    return (_INSIDE.sub(lambda sign: data.NAMED_SIGNS.get(sign[0], "\u00a0"), token),)
