"""Cleaning rules for what lies outside the image: who the patient is, what came before, and when.

Every quantifier in every pattern is bounded: time grows linearly with the text, whatever the text.
"""

# ruff: noqa: RUF001 - the dashes, quotes and signs of real captions are meant

from __future__ import annotations

import re

from medblip.data.clean_cut import CUT, compiled

__all__ = ["without_dates", "without_history"]

_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_AGE = (
    r"(?:\d{1,2}\syears?,?\s(?:and\s)?)?(?:\d{1,3}(?:[.½]\d?)?\s?[-‐‑–]?\s?"
    r"(?:(?:year|yr|month|week|day)s?\s?[-‐‑–]?\s?old|y/?o|y\.o\.)"
    rf"|(?:{{NUMBER}}|(?:{_TENS})(?:[\s-]\w{{3,5}})?)[\s-]?"
    r"(?:year|month|week|day)s?\s?[-‐‑–]?\s?old)(?!\w)"
)
_SPAN = r"{NUMBER}[\s-]?{UNIT}(?:,?\s(?:and\s)?{NUMBER}\s(?:months?|weeks?|days?)\b)?+"
_TAKEN = (
    r"(?:(?<!been\s)(?<!was\s)(?<!were\s)(?<!is\s)(?<!are\s)\b(?:taken|performed|obtained|done"
    r"|acquired|dated|recorded|made|conducted|scanned)\s)"
)
#: Words between age and noun that say nothing of the image; "diabetic", "pregnant" stay.
_PLAIN = (
    r"(?:(?:(?:fe)?male|white|black|caucasian|asian|african|african-american|american|chinese"
    r"|japanese|korean|indian|iranian|turkish|hispanic|healthy|previously|otherwise|asymptomatic"
    r"|right-handed|young|elderly|old|adult|retired|known|normal),?\s)"
)
#: "male" is a person before one of these; else it describes a pelvis, a donor, a dog.
_ENDS = (
    r"(?=\s?(?:[.,;:()–—-]|$)|\s(?:with|who|whose|present|show|demonstrat|reveal|and|in|at|on"
    r"|after|was|had|has|under|referred|admitted|suffer|complain|diagnos|treated|involved)"
    r"\w{0,5}\b)"
)
_SEXED = (
    r"(?:(?:wo)?m[ae]n|boys?|girls?|lady|gentlem[ae]n|daughter|son|(?:fe)?males?(?:"
    r"\s(?:patient|subject|volunteer|infant|child|adult|individual|neonate|newborn|baby)"
    rf"|{_ENDS}))\b"
)
_WHO = (
    rf"(?:{_SEXED}|(?:patient|infant|child|neonate|newborn|baby|adult|adolescent|teenager"
    r"|volunteer|subject|individual|person)\b)"
)
#: A person with an age anywhere, or with a sex after "in a".
_PERSON = compiled(
    r"\b(?:(?P<subject>(?:the|this)\s(?:(?:patient|case|subject)\s)?(?:is|was)\s)"
    r"|(?P<in>(?:of\s)?(?:in|of|from|for|on)\s))?(?:"
    rf"(?:(?:an?|the|this|another|our|same)\s{_PLAIN}{{0,2}})?{_AGE}[\s,-]{{1,3}}"
    rf"{_PLAIN}{{0,3}}?{_WHO}"
    rf"|(?:(?:an?|the|this|another|our)\s)?{_PLAIN}{{0,2}}?{_WHO},?\s"
    rf"(?:aged?\s{_SPAN}(?:\sold)?|{_SPAN}\s(?:old|of\sage))\b"
    rf"|(?(in)(?:an?|the)\s{_PLAIN}{{0,2}}?{_SEXED}|(?!))"
    r")(?:['’]s(?=\s))?(?:\spatient\b)?"
)
_SHOWS = (
    r"(?:show|demonstrat|reveal|depict|illustrat|display|confirm|visuali[sz]|indicat|exhibit)"
    r"(?:e?s|e?d|n|ing)?\b"
)
#: What follows a person and is history to the end of its clause.
_PRESENTED = compiled(
    r",?\s(?:who\s|that\s|which\s|and\s)?(?:(?:has|have|had|was|were|is|been)\s){0,2}"
    r"(?:initially\s|first\s|originally\s|previously\s)?(?:present(?:s|ed|ing)"
    r"(?=[.,;]|\s(?:to|with|for|in|at|after|following|due)\b)|complain(?:s|ed|ing)|admitted"
    r"|referred|hospitali[sz]ed|suffer(?:s|ed|ing)|consulted|attended|involved|investigated"
    r"|evaluated|examined|undergoing|underwent|undergone|working|treated|scheduled)\b"
    r"|,?\swho(?:se)?\s(?!show|demonstrat|reveal|develop)"
    r"|,?\s(?:with|had|has|having)\s(?:(?:an?|his|her|no|known|the|past|previous|prior|long"
    r"|family|medical|clinical|significant|\w{1,12}[\s-](?:day|week|month|year|h|hour)s?)\s)"
    r"{0,4}(?:history|complaints?|symptoms)\b"
)
_DIAGNOSED = (
    r",?\s(?:and\s)?(?:(?:who|was|were|is|has\sbeen|subsequently|later|finally)\s){0,3}(?:"
    r"diagnosed\s(?:with|as(?:\sdue\sto)?|as\shaving|to\shave)|found\sto\shave)\s"
)
_HAD = compiled(
    rf"(?:,?\s(?:who\s)?(?:with|had|has|having|showed|developed|presenting(?:\swith)?)\s|{_DIAGNOSED})(?:an?\s)?"
)
_HISTORY = compiled(
    r"(?:(?:\b(?:in|of|from)\s)?\b(?:an?|the|this)\spatients?\s)?"
    r"(?:\b(?:(?:consistent|compatible)\s)?(?:with|and|having|has|had|given|due\sto)\s)?"
    r"(?:\b(?:an?|his|her|known|no|the|without|patient['’]s)\s){0,3}(?:\b[\w-]{1,14}\s){0,2}?"
    r"\bhistory\s(?:of|for)\b"
)
_PATIENT_PRESENTED = compiled(
    r"\bwho\s(?:had\s)?(?:initially\s)?presented\s(?:to|with|for)\b"
    r"|(?:(?:\b(?:when|after|because|while|as|where)\s)?\b(?:(?:in|of|from)\s)?"
    r"(?:an?|the|this|our)\spatient|(?:^|(?<=[.;:]\s))patient|(?<=\bpatient)),?\s"
    r"(?:who\s|that\s)?(?:(?:had|has|was)\s)?(?:initially\s|first\s)?"
    r"(?:present(?:s|ed|ing)\s(?:to|with|for)|complain(?:s|ed|ing)\s(?:of|about)|admitted"
    r"|referred|hospitali[sz]ed)\b"
)
_AGED = compiled(
    rf"(?:,\s|\s)?{_TAKEN}?(?:(?<!gestational\s)(?<!fetal\s)(?<!bone\s)(?<!skeletal\s)"
    rf"(?:\baged?\s{_SPAN}(?:\sold)?|\baged\s\d{{1,3}}(?!\s?[cm]?m))\b"
    r"|\b(?:at|of)\s(?:the\s|an?\s)?(?:chronological\s)?age\s(?:of\s)?"
    rf"(?:{_SPAN}|\d{{1,2}}(?:[.]\d{{1,2}})?\b(?!\s?[cm]?m\b))"
    rf"|\b(?:(?:at|of|on)\s)?{_SPAN}\sof\sage\b)"
)
_ONLY_AGE = compiled(
    rf"(?:(?:,\s)?\b(?:the|this)\spatient\s(?:is|was)\s(?={_AGE}(?:[.,;]|$)))?{_AGE}[\s,-]{{0,2}}"
)
_STOP = compiled(
    rf"[;:(]|\.(?=\s|$|[A-Z])|,(?!\d)|\s(?={_SHOWS}|favou?rs?\b|suggests?\b|supports?\b)|(?={_DIAGNOSED})|\s(?=with\sresult)"
)


#: Most captions have none of these and need no closer look.
_HINT = re.compile(
    r"old|y/?o\b|y\.o\.|age|m[ae]n\b|boy|girl|lady|male|daughter|son\b|ther\b|histor|present"
    r"|complain|admitted|referred|hospitali",
    re.IGNORECASE,
)


def without_history(text: str) -> str:
    """Cut age, sex, complaints and what the patient had before; a diagnosis stays."""
    if not _HINT.search(text):
        return text
    kept, position = [], 0
    for match in _PERSON.finditer(text):
        start, end = match.span()
        begins = match["subject"] is not None or _begins(text, start)
        told_of = begins or match["in"] or match[0][:2].lower() in ("a ", "an")
        if start < position or not told_of:
            continue
        if told := _PRESENTED.match(text, end):
            clause = _clause_end(text, told.end())
            end = end if _SEEN.search(text, end, clause) else clause
        if begins and (had := _HAD.match(text, end)):  # "A man with gout" -> "Gout"
            end = had.end()
        kept.append(text[position:start])
        position = end
    text = CUT.join([*kept, text[position:]])
    for pattern in (_PATIENT_PRESENTED, _HISTORY):
        kept, position = [], 0
        for match in pattern.finditer(text):
            if match.start() >= position:
                kept.append(text[position : match.start()])
                position = _clause_end(text, match.end())
        text = CUT.join([*kept, text[position:]])
    return _ONLY_AGE.sub(CUT, _AGED.sub(CUT, text))


#: A clause that points at the image is no history.
_SEEN = re.compile(r"arrow|asterisk", re.IGNORECASE)


def _begins(text: str, start: int) -> bool:
    """Whether a sentence begins at `start`."""
    before = text[max(0, start - 3) : start].rstrip(" (")
    return not before or before[-1] in ".:;)" or CUT in before


def _clause_end(text: str, start: int) -> int:
    """Return where the clause ends; commas of a list ("fever, cough and pain") do not end it."""
    position = start
    limit = start + 300
    while stop := _STOP.search(text, position, limit):
        if stop[0] == "(" and (close := text.find(")", stop.end(), limit)) > 0:
            position = close + 1
            continue
        if stop[0] != ",":
            return stop.start()
        following = _STOP.search(text, stop.end(), limit)
        item = text[stop.end() : following.start() if following else limit]
        more = following is not None and following[0] == ","
        listed = len(item) < 60 and (more or " and " in item)
        if not listed and not re.match(r"\s(?:and|or|but)\s", item):
            return stop.start()
        position = stop.end()
    return min(limit, len(text))


_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_YEAR = r"(?:19[5-9]\d|20[0-4]\d)"
_DAY = r"(?:\d{1,2}(?:st|nd|rd|th)?)"
_DATE = (
    rf"(?:{_DAY}[\s-](?:of\s)?{_MONTH},?[\s-]{_YEAR}|{_MONTH}\s{_DAY},?\s{_YEAR}"
    rf"|{_MONTH},?[\s-]{_YEAR}|{_YEAR}[-/.]\d{{1,2}}[-/.]\d{{1,2}}"
    rf"|\d{{1,2}}[-/.]\d{{1,2}}[-/.]{_YEAR}|\d{{1,2}}[-/]{_YEAR})(?![\d/])"
)
#: What may follow a time that is cut whole.
_FREE = (
    r"(?=\s?[.,;:)]|\s?[–—]|\s-|\s?$"
    rf"|\s(?:{_SHOWS}|is|was|were|has|had|with|and|which|there|when|using|suggest\w*|note)\b)"
)
_CALENDAR = compiled(
    rf"\s?(?<!al\.\s)(?<!al\s)\((?:{_TAKEN}?(?:on|in)?\s?)?(?:{_DATE}|{_YEAR})\)"
    rf"|(?:,\s)?(?<![/\d.-]){_TAKEN}?\b(?:(?:on|in|from|of|since|until|dated)\s)?(?:the\s)?"
    rf"(?<![/.-]){_DATE}|(?:,\s)?{_TAKEN}?\b(?:in|since|from)\s{_YEAR}{_FREE}"
)
_ABOUT = (
    r"(?:(?:about|approximately|around|almost|nearly|over|only|just|the|roughly|another"
    r"|(?:more|less)\sthan)\s)?"
)
#: "3 months after surgery" -> "after surgery"; what the surgery left may be seen.
_SINCE = compiled(
    rf"(?:(?<=[A-Za-z]),\s)?\b(?:(?:at|in|on)\s)?{_ABOUT}{_SPAN}(?:\s?{{DASH}}\s?|\s)"
    r"(?=(?:after|post|following|prior\sto|before|since|from\sthe|status\spost)\b(?!\s?[.,;)]))"
)
_LATER = compiled(
    rf"(?:,\s)?{_TAKEN}?(?:\bin\s)?\b{_ABOUT}{_SPAN}\s"
    rf"(?:(?:later|earlier|ago|previously|afterwards?)\b|(?:before|prior|after)\b{_FREE})"
)
_FOLLOW = r"follow(?:ed)?\s?[-‐–]?\s?up"
_AFTER = compiled(
    rf"(?:,\s)?{_TAKEN}?\b(?:at|after)\s{_ABOUT}{_SPAN}(?:[\s-]{{1,3}}(?:of\s)?"
    rf"(?:{_FOLLOW}|post-?operative(?:ly)?|later|interval))?(?!\s(?:and|or|to)\s\d){_FREE}"
)
#: "after 6 months of treatment" -> "after treatment".
_OF = compiled(rf"(?<=\bafter\s){_ABOUT}{_SPAN}\sof\s(?!(?:life|age|gestation|pregnancy)\b)")
_AT_FOLLOW_UP = compiled(
    rf"(?:,\s)?{_TAKEN}?\b(?:at|during|on|in)\s(?:the\s|an?\s)?"
    rf"(?:{_SPAN}\s?-?\s?|final\s|last\s|latest\s|early\s|late\s)?{_FOLLOW}{_FREE}"
)
_ADJECTIVE = compiled(
    rf"\b{_SPAN}[\s-]{{1,3}}(?={_FOLLOW}|post\s?-?\s?(?:op|surg|treat|inj|proc|impl|embol))"
)
_ORDINAL = (
    r"(?:\d{1,2}(?:st|nd|rd|th)|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth"
    r"|tenth|same|next|following)"
)
_ON_DAY = compiled(
    r"(?:,\s)?\b(?:on|at)\s(?:the\s)?(?:post-?\s?operative\s)?"
    rf"(?:{_ORDINAL}\s(?:post-?\s?operative\s)?(?:day|week|month|year)s?"
    r"|(?:day|week|month|year)\s\d{1,3})\b(?:\s(?:of|after)\s(?:the\s)?"
    r"(?:hospital\s)?(?:admission|hospitali[sz]ation|stay|life|surgery)\b)?+(?!\sof\b)"
)
#: In these captions weeks tell the age of what is seen.
_UNBORN = re.compile(
    r"\b(?:fo?et(?:us|al)|gestation|pregnan|pre-?natal|ante-?natal|placenta|obstetric|amnio"
    r"|amenorr|embryo|trimester)",
    re.IGNORECASE,
)


_TIMED = re.compile(rf"day|week|month|year|hour|hr|yr|wk|mos\b|follow|{_YEAR}", re.IGNORECASE)


def without_dates(text: str) -> str:
    """Cut calendar dates and times between events; never weeks of gestation."""
    if not _TIMED.search(text):
        return text
    unborn = _UNBORN.search(text) is not None

    def cut(match: re.Match[str]) -> str:
        return match[0] if unborn and "w" in match[0].lower() else CUT

    for pattern in (_CALENDAR, _ON_DAY, _AT_FOLLOW_UP, _LATER, _SINCE, _OF, _AFTER, _ADJECTIVE):
        text = pattern.sub(cut, text)
    return text
