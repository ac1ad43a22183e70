"""How cleaning rules cut text: a mark where something was taken away, and the repair around it.

The repair touches what is next to a mark and nothing else. Knows no rule.
"""

# ruff: noqa: RUF001 - the dashes, quotes and signs of real captions are meant

from __future__ import annotations

import re

__all__ = ["CUT", "compiled", "mend"]

#: Left where something was taken away; a character of the private use area.
CUT = "\ue000"

_COUNT = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen"
    "|sixteen|seventeen|eighteen|nineteen|twenty"
)
#: What {NAME} stands for in a pattern; a later entry may stand in an earlier one.
_PARTS = {
    "POINTER": r"{WHICH}(?:arrow(?:[\s-]?(?:head|mark|sign|tip)s?|s)?|asteri(?:sk|x|ck)s?)"
    r"(?:\s\#?(?:[A-H]|\d)\b(?!\s?[cm]?m\b))?",
    "SHAPE": r"{WHICH}(?:stars?|circles?|triangles?|box(?:es)?|rectangles?|squares?|ovals?"
    r"|ellipses?|crosses|(?:dotted|dashed|{COLOUR})\s(?:out)?lines?)",
    "WHICH": r"(?:(?:the|this|these|an?|each|both|two|three|\d)\s)?"
    r"(?:{LOOK}(?:,?\s(?:and\s|or\s)?|-)){0,4}",
    "LOOK": r"(?:{COLOUR}|thin|thick|smaller|small|larger|large|bigger|big|longer|long|shorter"
    r"|short|solid|opened|open|hollow|filled|full|empty|closed|curved|straight|bent|dashed|dotted"
    r"|striped|linear|interrupted|broken|bold|broad|wide|narrow|block|simple|double|double-sided"
    r"|two-way|single|upper|lower|left|right|top|bottom|up|down|upward|downward|horizontal"
    r"|vertical|anterior|posterior|inferior|superior|middle|medium|lateral|medial|outlined"
    r"|transparent|opposing|notched|paired|oblique)",
    "COLOUR": r"(?:(?:light|dark)[\s-])?(?:white|black|red|yellow|blue|green|orange|pink|purple"
    r"|gr[ae]y|magenta|cyan|violet|brown|colou?r(?:ed)?)",
    "NUMBER": r"(?:\d{1,3}(?:[.,½]\d{0,2})?(?:\s?(?:[-–]|to|or|½)\s?\d{1,3})?"
    r"|(?:{COUNT})(?:\s?(?:-|to|or|and)\s?(?:{COUNT}|a\shalf))?|an?|several|(?:a\s)?few"
    r"|half\san?)",
    "COUNT": _COUNT,
    "UNIT": r"(?:hours?|hrs?|days?|weeks?|wks?|months?|mos|years?|yrs?)(?!\w)",
    "DASH": r"[-‐‑–—−]",
}
#: A full stop after these ends no sentence.
_ABBREVIATED = ("al.", "e.g.", "i.e.", "vs.", "Fig.", "Dr.", "cf.", "ca.", "approx.")


def compiled(text: str, flags: int = re.IGNORECASE) -> re.Pattern[str]:
    """Compile a verbose pattern in which {NAME} stands for an entry of `_PARTS`."""
    for name, value in _PARTS.items():
        text = text.replace("{" + name + "}", value)
    return re.compile(text, flags | re.VERBOSE)


def mend(text: str) -> str:
    """Remove the marks, with the punctuation and spaces that have become too many.

    >>> mend(f"A mass ({CUT}, 3 cm) {CUT}, in the liver ({CUT}).{CUT} no cyst")
    'A mass (3 cm), in the liver. No cyst'
    """
    first, *rest = text.split(CUT)
    done = [first] if first else []
    for part in rest:
        right = _join(done, part)
        if right:
            done.append(right)
    return "".join(done)


def _join(done: list[str], right: str) -> str:
    """Return `right` as it follows what is `done`, whose end may be shortened."""
    spaced = right[:1].isspace() or bool(done and done[-1][-1].isspace())
    right = right.lstrip()
    last = _strip_end(done)
    ends = last in (".", "!", "?") and not done[-1].endswith(_ABBREVIATED)
    while last and last in "([" and right[:1] in (")", "]"):  # nothing is left between brackets
        done[-1] = done[-1][:-1]
        right, spaced = right[1:].lstrip(), True
        last = _strip_end(done)
    if not last:
        return _capital(right.lstrip(" ,;:.)]-–—="))
    if last in "([":
        return right.lstrip(" ,;:.-–—=")
    if right[:1] in (")", "]", ""):
        _strip_end(done, " ,;:-–—=")
        return right
    if right[0] in ",.;:!?":
        return _punctuated(done, last, ends, right)
    if ends:
        right = _capital(right)
    apart = spaced or (right[0].isalnum() and (last.isalnum() or last in ",;:"))
    return (" " if apart else "") + right


def _punctuated(done: list[str], last: str, ends: bool, right: str) -> str:
    """Return `right`, which begins with punctuation, so that one sign is left of two."""
    if ends:
        rest = right.lstrip(" ,.;:")
        return " " + _capital(rest) if rest else ""
    if last not in ",;:-–—":
        return right
    if right[0] in ".;!?":
        stopped = _strip_end(done, " ,;:-–—") in (".", "!", "?")
        return right[1:] if stopped else right
    if last in "-–—":
        _strip_end(done, " -–—")
        return right
    return right[1:]


def _strip_end(done: list[str], characters: str | None = None) -> str:
    """Strip the end of what is done (None: white space); return the last character, or ""."""
    while done:
        done[-1] = done[-1].rstrip(characters)
        if done[-1]:
            return done[-1][-1]
        done.pop()
    return ""


def _capital(text: str) -> str:
    """Begin with a capital letter, unless the first word has capitals of its own (pH, mTOR)."""
    word = text[:12].split(" ")[0].rstrip(".,;:")
    return text[:1].upper() + text[1:] if word.islower() else text
