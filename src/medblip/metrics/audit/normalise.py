"""Text to canonical tokens: spelling, plurals, abbreviations, measurements and vertebrae folded.

Two captions that differ in case, hyphens, British or American spelling, plural or units give the
same tokens here. Knows words and numbers only; what they mean is `terms.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from importlib import resources

__all__ = ["PUNCTUATION", "lemma", "tokens"]

#: Tokens that end clauses.
PUNCTUATION = frozenset(".,;:")

_NUMBER = r"\d+(?:[.,]\d+)?"
_LEVEL = r"(?:th|[ctdls])"
_LEVELS = re.compile(rf"({_LEVEL})?-?\s?(\d{{1,2}})")
#: S6 to S8 are segments of the liver; D is the dorsal (thoracic) spine.
_HIGHEST = {"c": 8, "t": 12, "d": 12, "l": 6, "s": 8}

#: `T1` and `T2` are vertebrae only in such company; else they are MR weightings.
_SPINAL_AFTER = re.compile(
    r"[\s-]*(?:vertebra|level|bod|rib|nerve|spinous|burst|compress|fracture|pedicle|lamina|root"
    r"|transverse process|segment|spine|and (?:t|l|c)\d)"
)
_SPINAL_BEFORE = re.compile(r"(?:vertebra\w*|bod\w+ of|levels?(?: of)?|thoracic|rib|at|from|to) $")
_SEQUENCE_BEFORE = re.compile(r"(?:axial|coronal|sagittal|on|weighted|contrast|mri|mr)[\s(]+$")
_SPINAL = re.compile(r"vertebra|spondyl|(?<![^\W_])[cl]\d(?![^\W_])")
_WEIGHTED = re.compile(r"[\s-]*(?:w|im|mr|seq|flair|signal|hyper|hypo|fat|tse|fse|gad|post|contr)")

_COMPOUND = re.compile(r"([a-z]{5,6}o)(\w{6,})")


@dataclasses.dataclass(frozen=True)
class _Spelling:
    """What `lexicon/spelling.toml` holds, and the patterns that its units and numbers give."""

    expand: Mapping[str, tuple[str, ...]]
    irregular: Mapping[str, str]
    articles: frozenset[str]
    keep: frozenset[str]
    stems: frozenset[str]
    times: frozenset[str]
    firsts: Mapping[str, str]
    seconds: frozenset[str]
    counts: tuple[str, ...]
    ordinals: Mapping[str, int]
    units: Mapping[str, tuple[str, float]]
    token: re.Pattern[str]
    part: re.Pattern[str]


@functools.cache
def _spelling() -> _Spelling:
    file = resources.files("medblip.metrics.audit").joinpath("lexicon", "spelling.toml")
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    unit = "|".join(re.escape(name) for name in sorted(table["units"], key=len, reverse=True))
    count = rf"(?:{_NUMBER}|{'|'.join(table['counts'])})"
    token = rf"""
        (?P<measure>(?<![\w.]){count}
            (?:[\s-]*(?:{unit})?s?\s*(?:[x*\u00d7\-\u2013/]|by\b|to\b|and\b)\s*{count})*
            [\s\-]*(?:{unit})s?(?![^\W\d_]|\d)(?P<old>[\s-]*old\b)?)
        |(?P<vertebra>(?<![^\W_]){_LEVEL}-?\d{{1,2}}
            (?:\s?[-\u2013\u2014/&]\s?{_LEVEL}?\s?\d{{1,2}}\b)*(?![^\W_]))
        |(?P<ordinal>\d+(?:st|nd|rd|th)\b)
        |(?P<number>{_NUMBER})
        |(?P<word>[^\W\d_]+)
        |(?P<stop>[.,;:?!])
        """
    return _Spelling(
        expand={short: tuple(long.split()) for short, long in table["expand"].items()},
        irregular=table["irregular"],
        articles=frozenset(table["articles"]),
        keep=frozenset(table["keep"]),
        stems=frozenset(table["stems"]),
        times=frozenset(table["times"]),
        firsts=table["firsts"],
        seconds=frozenset(table["seconds"]),
        counts=tuple(table["counts"]),
        ordinals={word: i for i, word in enumerate(table["ordinals"], 1)},
        units={name: (dimension, factor) for name, (dimension, factor) in table["units"].items()},
        token=re.compile(token, re.VERBOSE),
        part=re.compile(rf"({count})|({unit})"),
    )


@functools.cache
def lemma(word: str) -> str:
    """Return the canonical spelling of a lower-case word: American, singular.

    >>> lemma("haemorrhages"), lemma("stenoses"), lemma("masses")
    ('hemorrhage', 'stenosis', 'mass')
    """
    spelling = _spelling()
    if word in spelling.irregular:
        return spelling.irregular[word]
    if word in spelling.keep or len(word) < 4:
        return word
    if len(word) > 4:
        word = word.replace("ae", "e").replace("oe", "e")
        word = re.sub(r"(tum|col|fav|behavi|harb|vap)our", r"\1or", word)
        word = re.sub(r"(cent|fib|lit|met|calib|lust)re(s?)$", r"\1er\2", word)
        word = re.sub(r"is(e|es|ed|ing|ation)$", r"iz\1", word) if len(word) > 8 else word
        word = word.replace("grey", "gray")
    if not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "ches", "shes", "xes")):
        return word[:-2]
    if word.endswith(("ases", "oses", "eses", "yses", "ises")) and word[:-1] not in spelling.stems:
        return word[:-2] + "is"
    return word[:-1]


def tokens(text: str) -> list[str]:
    """Split text into canonical tokens.

    Measurements become `#length:35` (mm), vertebrae `#vertebra:L4`, ordinals `#ordinal:2`; the
    punctuation that ends clauses stays; brackets, hyphens and articles go, but `and a` is `plus`.

    >>> tokens("A 3.5-cm tumour at L4/5, RLL.")
    ['#length:35', 'tumor', 'at', '#vertebra:L4', '#vertebra:L5', ',', 'right', 'lower', \
'lobe', '.']
    """
    text = text.casefold()
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text).casefold()
        text = "".join(char for char in text if not unicodedata.combining(char))
    out: list[str] = []
    for match in _spelling().token.finditer(text):
        group = match.lastgroup
        if group == "word":
            word = match.group()
            if not (word in ("head", "heads") and out and out[-1] == "arrow"):
                out.extend(_word(word))
            if word in ("a", "an") and out and out[-1] == "and":
                out[-1] = "plus"  # `no effusion and a mass`: the denial ends here
        elif group == "stop":
            out.append("." if match.group() in "?!" else match.group())
        elif group == "number":
            out.append(match.group())
        elif group == "ordinal":
            out.append(f"#ordinal:{match.group()[:-2]}")
        elif group == "vertebra":
            out.extend(_vertebrae(match) or re.findall(r"[a-z]+|\d+", match.group()))
        else:
            out.extend(_measures(match.group("measure"), match.group("old") is not None))
    return _ordinals(out)


@functools.cache
def _word(word: str) -> tuple[str, ...]:
    """Return the tokens of a lower-case word; articles give none."""
    spelling = _spelling()
    if word in spelling.articles:
        return ()
    if word in spelling.expand:
        return spelling.expand[word]
    compound = _COMPOUND.fullmatch(word)
    if compound and compound[1] in spelling.firsts and compound[2] in spelling.seconds:
        return spelling.firsts[compound[1]], compound[2]
    if word.startswith("non") and len(word) > 7 and word != "nonetheless":
        return "non", lemma(word[3:])
    return (lemma(word),)


def _vertebrae(match: re.Match[str]) -> list[str]:
    """Return the vertebrae that a match like `l4-5` names; none when it means something else."""
    out: list[str] = []
    region = ""
    for named, digits in _LEVELS.findall(match.group()):
        region = named[:1] or region
        if not 1 <= int(digits) <= _HIGHEST[region]:
            return []
        out.append(f"#vertebra:{region.upper().replace('D', 'T')}{int(digits)}")
    after = match.string[match.end() : match.end() + 24]
    if region == "t":
        if _WEIGHTED.match(after):
            return []
        if len(out) == 1 and out[0][-2:] in ("T1", "T2", "T3"):
            before = match.string[max(0, match.start() - 14) : match.start()]
            if _SPINAL_AFTER.match(after) or _SPINAL_BEFORE.search(before):
                return out
            if _SEQUENCE_BEFORE.search(before) or not _SPINAL.search(match.string):
                return []
    if len(out) == 1 and region == "d" and int(out[0][11:]) < 4:  # coronary branches, days
        return []
    return out


def _measures(text: str, old: bool) -> list[str]:
    """Return `#dimension:value` for every number of a measurement; a unit serves those before."""
    values: list[float] = []
    out: list[str] = []
    for count, unit in _spelling().part.findall(text):
        if count:
            values.append(_value(count))
            continue
        dimension, factor = _spelling().units[unit]
        out.extend(f"#{'age' if old else dimension}:{value * factor:.4g}" for value in values)
        values = []
    return out


def _value(count: str) -> float:
    worded = _spelling().counts
    if count in worded:
        return float(worded.index(count) + 1)
    if re.fullmatch(r"\d{1,3},\d{3}", count):  # 1,200 ml
        return float(count.replace(",", ""))
    return float(count.replace(",", "."))


def _ordinals(found: list[str]) -> list[str]:
    """Turn `second` into `#ordinal:2` unless it counts time; `fourth lumbar` into a vertebra."""
    ordinals, times = _spelling().ordinals, _spelling().times
    for i, token in enumerate(found):
        if token in ordinals:
            token = f"#ordinal:{ordinals[token]}"
        elif not token.startswith("#ordinal"):
            continue
        after = found[i + 1] if i + 1 < len(found) else ""
        if after in times:
            found[i] = "nth"
            continue
        region = {"cervical": "C", "thoracic": "T", "dorsal": "T", "lumbar": "L"}.get(after)
        found[i] = f"#vertebra:{region}{token[9:]}" if region else token
    return found
