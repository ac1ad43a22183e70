"""Optional caption cleaning: listed rules, each a pure function from text to text.

A rule takes away what no model can read from the pixels, such as pointers at marks, credits, ages
and dates. That changes what training reads (`Example.targets`) and nothing else: the caption of
the source is kept, and scores always use that. What each rule does to ROCO: docs/captions.md.
"""

# ruff: noqa: RUF001 - the dashes, quotes and signs of real captions are meant

from __future__ import annotations

import dataclasses
import html
import re
import unicodedata
from collections.abc import Callable, Collection

from medblip.data.clean_cut import CUT, compiled, mend
from medblip.data.clean_history import without_dates, without_history
from medblip.data.clean_marks import without_arrows, without_figure_letters
from medblip.errors import DataError, explain, nearest

__all__ = ["RULES", "Cleaned", "Rule", "clean", "parse_rules"]

#: A caption that still changes after so many rounds of all rules is no caption; it is kept.
_ROUNDS = 8

_SAME = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′´`", "'"),
        **dict.fromkeys("“”„‟″", '"'),
        **dict.fromkeys("‐‑‒−﹣－", "-"),
        **dict.fromkeys("∼～", "~"),
        **dict.fromkeys("∗⁎", "*"),
        **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\u2061\u2062\u2063\ufeff\ufe0f", None),
        "µ": "μ", "º": "°", "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "…": "...",
    }
)  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TAG = re.compile(
    r"</?(?:p|br|b|i|u|em|strong|sup|sub|span|div|italic|bold|xref|sec|title|a|font)"
    r"(?:\s[^<>]{0,200})?/?>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z]{2,8}\d{0,2});", re.IGNORECASE)
_LINK = re.compile(
    r"(?:\b(?:at|from|see|via)\s)?\b(?:(?:https?|ftp)://|www\.)[^\s\]>)]{1,400}(?<![.,;:])"
    r"|\bdoi:?\s?(?:https?://\S{1,100}|10\.\d{4,9}/[^\s,;\])]{1,200}(?<![.:]))",
    re.IGNORECASE,
)
#: "[12, 15-17]"; not a crystal's "[110]" after "=", an isotope's "[18F]", or "as shown in [12]".
_NUMBERED = re.compile(
    r"(?<![=<>])(?<!\bby)(?<!\bin)(?<!\bof)(?<!\bfrom)(?<!\bsee)(?<!\bref)"
    r"(?:(?<=\S)\s|(?<!\s))(?<!\d)(?<!=\s)"
    r"\[[1-9]\d{0,2}(?:\s?[,;–-]\s?[1-9]\d{0,2}){0,12}\](?![a-z]{2})(?!-)"
)
#: "(Smith et al., 2010)", "(Smith and Jones [3])".
_NAME = r"[A-Z][a-z'’][\w'’-]{1,24}"
_AUTHORS = re.compile(
    rf"\s?[(\[](?:see\s|cf\.?\s|after\s|e\.g\.,?\s|from\s)?{_NAME}\s"
    rf"(?:et\sal\.?,?(?:\s?[(\[]?(?:(?:19|20)\d\d[a-z]?|\d{{1,3}})[)\]]?)?"
    rf"|(?:and|&)\s{_NAME},?\s(?:(?:19|20)\d\d[a-z]?|\[\d{{1,3}}\]))(?:;[^()\[\]]{{1,120}})?[)\]]"
)
_CREDIT = compiled(
    r"(?:[(\[]|\s(?:was|were|is|are)\s)?(?:(?:(?:the\s|this\s)?(?:image|figure|photo(?:graph)?"
    r"|picture|illustration|video|data)s?(?:\sis|\swas)?\s)?"
    r"(?:(?:re)?(?:produced|printed|published|used|adapted|modified|drawn|taken)"
    r"(?:\sand\s\w{3,12})?,?\s(?:with|by|under)\s(?:the\s|kind\s|full\s|written\s){0,2}permissions?"
    r"|(?:adapted|modified|reproduced|reprinted|redrawn)\s"
    r"(?:(?:with\s\w{3,14}\s)?from|after|with|by)\b"
    r"|(?:with|by)\s(?:the\s)?(?:kind\s)?permission\s(?:of|from|by)"
    r"|(?:by\s|with\s(?:the\s)?)?courtesy\b)|(?<![\w°])(?:copyright|©)(?=\s?[\dA-Z©(:]|\s\w))"
)
_CREDIT_HINT = re.compile(
    r"permission|courtesy|copyright|©|adapted|modified|reproduced|reprinted|redrawn", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"\.(?=\s[A-Z])")
_NO_END = compiled(
    r"(?:\b(?:[A-Z]|Drs?|Profs?|Mrs?|Ms|al|J|Am|Med|Surg|Radiol|Int|Eur|Clin|Br|vol|no|pp?|Inc"
    r"|Ltd|Co|St|Figs?|eds?|Assoc|Univ|etc)|\W)$"
)


def _plain_text(text: str) -> str:
    text = unicodedata.normalize("NFC", text.translate(_SAME))
    return " ".join(_CONTROL.sub(" ", text).split())


def _without_markup(text: str) -> str:
    return _ENTITY.sub(lambda found: html.unescape(found[0]), _TAG.sub("", text))


def _without_links(text: str) -> str:
    return _LINK.sub(CUT, text)


def _without_citations(text: str) -> str:
    text = _AUTHORS.sub(CUT, _NUMBERED.sub(CUT, text))
    if not _CREDIT_HINT.search(text):
        return text
    kept, position = [], 0
    for match in _CREDIT.finditer(text):
        start = match.start()
        opened = text.rfind("(", max(position, start - 60), start)
        if opened >= 0 and ")" not in text[opened:start]:
            start = opened
        if start >= position:
            kept.append(text[position:start])
            position = _credit_end(text, start, match.end())
    return CUT.join([*kept, text[position:]])


def _credit_end(text: str, start: int, end: int) -> int:
    """Return where a credit ends: with its bracket, or with its sentence."""
    if text[start] in "([":
        depth = 1
        for index in range(start + 1, min(len(text), start + 800)):
            depth += (text[index] in "([") - (text[index] in ")]")
            if not depth:
                return index + 1
    for stop in _SENTENCE_END.finditer(text, end, end + 600):
        if not _NO_END.search(text[max(0, stop.start() - 12) : stop.start()]):
            return stop.end()
    return len(text)


@dataclasses.dataclass(frozen=True)
class Rule:
    """One way to clean a caption.

    Args:
        description: What it does.
        cut: From text to text, with a mark where something was taken away.
        before: An example.
        after: What becomes of it.
    """

    description: str
    cut: Callable[[str], str]
    before: str
    after: str

    def apply(self, text: str) -> str:
        """Return the text as this rule leaves it."""
        cut = self.cut(text)
        return text if cut == text else mend(cut)


#: Name -> rule, in the order in which they are applied.
RULES: dict[str, Rule] = {
    "spaces": Rule(
        "one plain space between words; straight quotes and hyphens; no control characters",
        _plain_text,
        "A\u00a02.5\u2009cm  mass in the patient’s right ﬁbula",
        "A 2.5 cm mass in the patient's right fibula",
    ),
    "markup": Rule(
        "HTML tags and entities",
        _without_markup,
        "CO<sub>2</sub> embolism &amp; oedema",
        "CO2 embolism & oedema",
    ),
    "links": Rule(
        "URLs and DOIs",
        _without_links,
        "Chest film (https://example.org/film.html).",
        "Chest film.",
    ),
    "citations": Rule(
        "numbered and named references, permissions, credits, copyright lines",
        _without_citations,
        "Normal scan [12,13] (Smith et al., 2010). Reproduced with permission from J. Smith.",
        "Normal scan.",
    ),
    "history": Rule(
        "age, sex, complaints, previous illness; a diagnosis stays",
        without_history,
        "CT of a 45-year-old woman with a history of cancer shows no mass.",
        "CT shows no mass.",
    ),
    "dates": Rule(
        "calendar dates and times between events; weeks of gestation stay",
        without_dates,
        "Film taken 3 months after surgery (12 March 2015). Union at 6-month follow-up.",
        "Film taken after surgery. Union.",
    ),
    "figure-letters": Rule(
        "figure numbers and the letters of panels",
        without_figure_letters,
        "Figure 2B. (A) Axial scan (see Fig. 3) and (B) coronal view.",
        "Axial scan and coronal view.",
    ),
    "arrows": Rule(
        "pointers at arrows, asterisks, circles and other marks; what they point at stays",
        without_arrows,
        "White arrow: stent. Mass (arrow, 3 cm) in the left lung, as shown by the arrowheads.",
        "Stent. Mass (3 cm) in the left lung.",
    ),
}


@dataclasses.dataclass(frozen=True)
class Cleaned:
    """A caption after cleaning.

    Args:
        text: What training reads.
        fired: The rules that changed it.
        kept: Whether it was given back as it came, because too little would have been left.
    """

    text: str
    fired: tuple[str, ...] = ()
    kept: bool = False


def clean(caption: str, rules: Collection[str]) -> Cleaned:
    """Apply rules until none of them changes the caption; cleaning the result changes nothing.

    A caption that would keep fewer than two words is kept as it came.

    Args:
        caption: Any text.
        rules: Names of `RULES`; their order there counts.

    >>> clean("Large mass (arrow).", ["arrows"])
    Cleaned(text='Large mass.', fired=('arrows',), kept=False)
    >>> clean("Mass (arrow).", ["arrows"])
    Cleaned(text='Mass (arrow).', fired=(), kept=True)
    """
    chosen = [name for name in RULES if name in rules]
    text, fired = caption, set()
    for _ in range(_ROUNDS):
        before = text
        for name in chosen:
            changed = RULES[name].apply(text)
            if changed != text:
                fired.add(name)
                text = changed
        if text == before:
            break
    else:
        return Cleaned(caption, kept=True)
    words = [word for word in text.split() if any(map(str.isalpha, word))]
    if text != caption and len(words) < 2:
        return Cleaned(caption, kept=True)
    return Cleaned(text, tuple(name for name in chosen if name in fired))


def parse_rules(text: str) -> tuple[str, ...]:
    """Read names separated by commas, or `all`; nothing means no rule.

    Raises:
        DataError: A name is unknown.

    >>> parse_rules("arrows, history")
    ('history', 'arrows')
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in RULES and name != "all"]
    if unknown:
        raise DataError(
            explain(
                "unknown cleaning rule",
                got=", ".join(unknown),
                expected=nearest(unknown[0], [*RULES, "all"]),
                do="name rules separated by commas (docs/captions.md lists them), or `all`",
            )
        )
    return tuple(name for name in RULES if name in names or "all" in names)
