"""Cleaning rules for what points at the image: arrows and other marks, figure numbers, panels.

Every quantifier in every pattern is bounded: time grows linearly with the text, whatever the text.
"""

# ruff: noqa: RUF001 - the dashes, quotes and signs of real captions are meant

from __future__ import annotations

import re

from medblip.data.clean_cut import CUT, compiled

__all__ = ["without_arrows", "without_figure_letters"]

_SYMBOLS = "*∗※☆★→←↑↓▲▼►◄#†‡§"
_BRACKET = re.compile(r"[(\[]([^()\[\]]{1,240})[)\]]")
#: A part of a bracket that is a pointer and nothing else has one of these ...
_NOUN = compiled(
    r"\b(?:{POINTER}|arrow(?:ed|-?indicated)|(?:en)?circled|stars?|circles?|triangles?|box(?:es)?"
    r"|rectangles?|squares?|ovals?|ellipses?|cross(?:es)?|lines?|markers?)\b"
    rf"|^\s?[{re.escape(_SYMBOLS)}]{{1,3}}\s?$"
)
#: ... and no word besides these.
_AROUND = compiled(
    r"\b(?:{LOOK}|{POINTER}|{SHAPE}|lines?|and|or|the|an?|see|note|as|in|at|by|with|of|to|from"
    r"|between|within|on|indicated|marked|shown|pointed|pointing|delineated|outlined|denoted"
    r"|identified|highlighted|demonstrated|depicted|seen|noted|shows?|arrow(?:ed|-?indicated)"
    r"|respectively|resp|both|all|each|two|three|numbers?|nos?|panel|image|picture|figure|figs?"
    r"|this|heads?|areas?|shape|withe|(?:up|down|left|right)wards?|marks?|(?:en)?circled|markers?"
    rf"|cross|[a-h]|\d{{1,2}})\b|[\s.&+–—{re.escape(_SYMBOLS)}-]"
)
_VERB = (
    r"(?:(?:is|are|was|were)\s)?(?:indicat(?:es?|ing|ed)|point(?:s|ing|ed)?(?:\sout)?"
    r"|show(?:s|ed|ing|n)?|mark(?:s|ed|ing)?|denot(?:es?|ed|ing)|demonstrat(?:es?|ed|ing)"
    r"|represent(?:s|ed|ing)?|depict(?:s|ed|ing)?|highlight(?:s|ed|ing)?|delineat(?:es?|ed|ing)"
    r"|outlin(?:es?|ed|ing)|identif(?:y|ies|ied|ying)|illustrat(?:es?|ed|ing)|annotat(?:es?|ing)"
    r"|defin(?:es?|ing)|reveal(?:s|ed|ing)?|designat(?:es?|ing)|correspond(?:s|ing)?"
    r"|refer(?:s|ring)?|direct(?:s|ed)?|demarcat(?:es?|ing)|signif(?:y|ies)|label(?:s|led)?)"
    r"(?:\s(?:to|at|towards?|that))?"
)
_PLACE = (
    r"(?:\s(?:in|on|at)\s(?:the\s)?"
    r"(?:scan|image|figure|picture|film|(?:left|right)(?:\sside)?|[a-d]))?"
)
#: "The white arrow indicates the tear" -> "The tear".
_ACTIVE = compiled(
    r"(?P<before>(?:^|[.,;:()\[–—-]|\b(?:and|or|with|while|whereas|but|where|note|see|of))"
    rf"\s{{0,2}})?\b(?:{{POINTER}}|(?P<shape>{{SHAPE}})){_PLACE}\s(?P<verb>{_VERB})\s"
    r"(?!(?:where|how|by|with|in|at|between)\b)"
)
#: "..., as shown by the arrows" -> nothing.
_PASSIVE = compiled(
    r"(?:(?:,?\sand\s|,\s|\s|^)(?:(?:is|are|was|were|has\sbeen|have\sbeen|can\sbe|being)\s)?"
    r"(?:(?:clearly|also|well|best)\s)?(?:as\s)?(?:indicated|marked|shown|pointed(?:\sout)?|seen"
    r"|denoted|identified|highlighted|demonstrated|depicted|delineated|outlined|noted"
    r"|represented|labell?ed|designated|illustrated|demarcated)\s(?:out\s)?"
    r"(?:by|with|at|between|in|using)\s|(?:,\s|\s)(?:see|note|with|at|by|between|within|near)\s)"
    r"{POINTER}(?=\s?[.,;:)]|\s?$|\sand\b|\sin\b)"
)
#: "arrow: nidus", "Asterisk = cyst" -> "nidus", "Cyst".
_LABEL = compiled(
    r"(?:^|(?<=[.,;:(\[])|(?<=\sand))\s{0,2}(?:{POINTER}|[*∗※☆])"
    r"(?:\s?[:=]|\s?[–—]|\s-|-(?=\s)|(?:(?<=.)),(?=\s[a-z]))"
)
#: ", white arrow," between commas; "- arrow" at the end.
_ALONE = compiled(r"(?<=[,;:–—-])\s?(?:see\s)?{POINTER}(?=\s?[.,;:)]|\s?$)")


#: Three of four captions have none of these and need no closer look.
_HINT = re.compile(
    rf"arrow|asteri|circle|star|triang|box|rectang|square|oval|ellips|cross|line|marker"
    rf"|[{re.escape(_SYMBOLS)}]",
    re.IGNORECASE,
)


def without_arrows(text: str) -> str:
    """Cut pointers at marks that were drawn into the figure; what they point at stays."""
    if not _HINT.search(text):
        return text
    text = _BRACKET.sub(_pointing, text)
    text = _PASSIVE.sub(CUT, text)
    text = _LABEL.sub(CUT, text)
    text = _ACTIVE.sub(_active, text)
    return _ALONE.sub(CUT, text)


def _pointing(match: re.Match[str]) -> str:
    """Cut the parts of a bracket that are pointers, or the whole bracket."""
    parts = re.split(r"([,;])", match[1])
    kept = [CUT if _is_pointer(part) else part for part in parts]
    if kept == parts:
        return match[0]
    if not _AROUND.sub("", "".join(kept)).strip(CUT + ",;"):  # "(small, thin arrow)"
        return CUT
    return match[0][0] + "".join(kept) + match[0][-1]


def _is_pointer(part: str) -> bool:
    return bool(_NOUN.search(part)) and not _AROUND.sub("", part)


def _active(match: re.Match[str]) -> str:
    """Cut the verb too, unless it belongs to what stands before: "CT, arrow showing a cyst"."""
    if match["before"] is not None:
        return match["before"] + CUT
    if match["shape"]:
        return match[0]
    return f"{CUT}{match['verb']} " if match[0][0].islower() else CUT


_LETTERS = r"(?:[A-Ha-h]'?(?:\s?(?:,|&|[-–]|and|to|,\sand)\s?[A-Ha-h]'?){0,7})"
_FIGURE = rf"(?:fig(?:ure)?s?\.?\s?\d{{1,3}}(?:\s?[.-]?\s?\(?{_LETTERS}\)?)?(?!\s?[cm]?m\b)(?!\w))"
_SHOWS = (
    r"(?:\s(?:shows?|showed|showing|presents?|is|are|demonstrates?|illustrates?|depicts?)(?=\s))"
)
#: "Figure 2B." at the start; "Figure 3 shows the FLAIR" -> "The FLAIR".
_START = compiled(rf"^\W{{0,3}}{_FIGURE}\s?(?:[.:;,)]|{{DASH}}|{_SHOWS}|(?=\s[A-Z(])){{1,3}}")
_PREFIX = r"(?:(?:see|in|also|cf\.|panels?|image|same\sas)\s){0,2}"
_LETTERED = rf"[(\[]\s?{_PREFIX}{_LETTERS}\s?[.,:]?[)\]]:?"
_FIGURED = rf"[(\[]\s?{_PREFIX}{_FIGURE}(?:\s?[,;]\s?{_FIGURE}){{0,3}}\s?[.,:]?[)\]]:?"
#: "(A)", "(a, b) and (c)", "(see Fig. 2)"; not "in (a)", "grade (B)", "2(b)", "= (A)".
_IN_BRACKETS = compiled(
    r"(?<!\d)(?<!\bin\s)(?<!\bof\s)(?<!\bthe\s)(?<!\bto\s)(?<!\bfrom\s)(?<!\bwith\s)"
    r"(?<!\bbetween\s)(?<!\bsee\s)(?<!\btype\s)(?<!\bgrade\s)(?<!\bstage\s)(?<!\bclass\s)"
    r"(?<!\bpugh\s)(?<!\bzone\s)(?<![=÷×/+]\s)(?<![=÷×/+])(?P<first>^|(?<=[.;:]\s))?"
    rf"(?:{_FIGURED}|{_LETTERED}(?:(?:,\s|,?\s(?:and|or|to)\s|\s?[-–]\s?){_LETTERED}){{0,6}})"
    rf"(?(first){_SHOWS}?)(?!\s?[=÷×/])"
)
#: "A." or "B)" or "C:" where a sentence begins; a species ("C. difficile") has a small letter.
_PANEL = compiled(
    rf"(?:^|(?<=[.;:]\s)|(?<=[.;:]))(?:[Pp]anels?\s)?(?:{_LETTERS}\s?[):](?!\d){_SHOWS}?"
    r"|(?<!Dr\.\s)(?<!Prof\.\s)(?<!med\.\s)(?<!al\.\s)[A-H]\.(?=\s[A-Z0-9][^.]|[A-Z][a-z])|[A-H](?:,\s?[B-H]){1,7}[.,:]?(?=\s)|[A-H],(?=\s[A-Z]))\s?",
    flags=0,
)


def without_figure_letters(text: str) -> str:
    """Cut figure numbers and the letters of panels and of marks."""
    text = _START.sub(CUT, text)
    text = _IN_BRACKETS.sub(CUT, text)
    return _PANEL.sub(CUT, text)
