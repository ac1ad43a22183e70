"""Text to canonical tokens: spelling, plurals, abbreviations, measurements and vertebrae folded.

Two captions that differ in case, hyphens, British or American spelling, plural or units give the
same tokens here. Knows words and numbers only; what they mean is `terms.py`.
"""

from __future__ import annotations

import functools
import re
import unicodedata

__all__ = ["PUNCTUATION", "lemma", "tokens"]

#: Tokens that end clauses.
PUNCTUATION = frozenset(".,;:")

_NUMBER = r"\d+(?:[.,]\d+)?"
_WORDED = "one two three four five six seven eight nine ten eleven twelve".split()

#: Unit -> (dimension, factor to mm, mm2, ml, days ...).
_UNITS: dict[str, tuple[str, float]] = {
    **dict.fromkeys(("mm", "millimeter", "millimetre"), ("length", 1.0)),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), ("length", 10.0)),
    **dict.fromkeys(("um", "μm", "micron", "micrometer", "micrometre"), ("length", 1e-3)),
    **dict.fromkeys(("inch", "inches"), ("length", 25.4)),
    **dict.fromkeys(("mm2", "sq mm"), ("area", 1.0)),
    **dict.fromkeys(("cm2", "sq cm"), ("area", 100.0)),
    **dict.fromkeys(("ml", "cc", "cm3", "milliliter", "millilitre"), ("volume", 1.0)),
    **dict.fromkeys(("mm3",), ("volume", 1e-3)),
    **dict.fromkeys(("liter", "litre"), ("volume", 1000.0)),
    **dict.fromkeys(("hu", "hounsfield unit"), ("density", 1.0)),
    **dict.fromkeys(("%", "percent", "per cent"), ("percent", 1.0)),
    **dict.fromkeys(("°", "degree"), ("angle", 1.0)),
    **dict.fromkeys(("mmhg", "mm hg"), ("pressure", 1.0)),
    **dict.fromkeys(("cm/s", "cm/sec"), ("velocity", 1.0)),
    **dict.fromkeys(("m/s", "m/sec"), ("velocity", 100.0)),
    **dict.fromkeys(("mhz", "khz", "hz", "kv", "ma", "gy", "cgy", "mci", "mbq"), ("physics", 1.0)),
    **dict.fromkeys(("kg", "g", "mg"), ("weight", 1.0)),
    **dict.fromkeys(("ms", "msec", "second", "sec"), ("duration", 1.0)),
    **dict.fromkeys(("minute", "min"), ("duration", 1 / 1440)),
    **dict.fromkeys(("hour", "hr", "h"), ("duration", 1 / 24)),
    **dict.fromkeys(("day",), ("duration", 1.0)),
    **dict.fromkeys(("week", "wk"), ("duration", 7.0)),
    **dict.fromkeys(("month", "mo"), ("duration", 30.4)),
    **dict.fromkeys(("year", "yr"), ("duration", 365.0)),
}
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))
_COUNT = rf"(?:{_NUMBER}|{'|'.join(_WORDED)})"
_LEVEL = r"(?:th|[ctdls])"

_TOKEN = re.compile(
    rf"""
    (?P<measure>(?<![\w.]){_COUNT}
        (?:[\s-]*(?:{_UNIT})?s?\s*(?:[x*×\-–/]|by\b|to\b|and\b)\s*{_COUNT})*
        [\s\-]*(?:{_UNIT})s?(?![^\W\d_]|\d)(?P<old>[\s-]*old\b)?)
    |(?P<vertebra>(?<![^\W_]){_LEVEL}-?\d{{1,2}}(?:\s?[-–—/&]\s?{_LEVEL}?\s?\d{{1,2}}\b)*(?![^\W_]))
    |(?P<ordinal>\d+(?:st|nd|rd|th)\b)
    |(?P<number>{_NUMBER})
    |(?P<word>[^\W\d_]+)
    |(?P<stop>[.,;:?!])
    """,
    re.VERBOSE,
)
_PART = re.compile(rf"({_COUNT})|({_UNIT})")
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

_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
)
_TIMES = frozenset("day week month year time case patient visit hour trimester".split())

_EXPAND: dict[str, list[str]] = {
    short: phrase.split()
    for short, phrase in {
        "rll": "right lower lobe", "rul": "right upper lobe", "rml": "right middle lobe",
        "lll": "left lower lobe", "lul": "left upper lobe", "rlq": "right lower quadrant",
        "ruq": "right upper quadrant", "llq": "left lower quadrant", "luq": "left upper quadrant",
        "lv": "left ventricle", "rv": "right ventricle", "lvot": "left ventricle outflow tract",
        "rvot": "right ventricle outflow tract", "rca": "right coronary artery",
        "lca": "left coronary artery", "lad": "left anterior descending",
        "lcx": "left circumflex", "lmca": "left main coronary artery",
        "svc": "superior vena cava", "ivc": "inferior vena cava",
        "sma": "superior mesenteric artery", "smv": "superior mesenteric vein",
        "ima": "inferior mesenteric artery", "ica": "internal carotid artery",
        "eca": "external carotid artery", "cca": "common carotid artery", "rt": "right",
        "lt": "left", "lvh": "left ventricle hypertrophy", "mca": "middle cerebral artery",
        "aca": "anterior cerebral artery", "pca": "posterior cerebral artery",
        "cbd": "common bile duct", "cta": "ct angiography", "ctpa": "ct lung angiography",
        "mra": "mri angiography", "mrv": "mri venography", "mrcp": "mri cholangiography",
        "mrcholangiography": "mri cholangiography", "petct": "pet ct", "spectct": "spect ct",
        "cardiomediastinal": "heart mediastinum", "bibasilar": "bilateral lower",
        "bibasal": "bilateral lower", "biapical": "bilateral upper",
        "bihilar": "bilateral hilar", "dextroscoliosis": "right scoliosis",
        "levoscoliosis": "left scoliosis", "hemicolon": "colon",
        "frontoparietal": "frontal parietal", "frontotemporal": "frontal temporal",
        "temporoparietal": "temporal parietal", "parietooccipital": "parietal occipital",
        "isn": "is not", "aren": "are not", "wasn": "was not", "weren": "were not",
        "doesn": "does not", "didn": "did not", "hasn": "has not", "couldn": "could not",
        "hepatosplenomegaly": "hepatomegaly splenomegaly", "bronchogram": "bronchogram",
        "dextro": "right", "levo": "left", "seropneumothorax": "effusion pneumothorax",
        "hydropneumothorax": "effusion pneumothorax",
    }.items()
}  # fmt: skip

_COMPOUND = re.compile(r"(antero|postero|infero|supero|medio|latero)(\w{6,})")
_ARTICLES = frozenset(("a", "an", "the"))
_FIRST = {"antero": "anterior", "postero": "posterior", "infero": "inferior", "supero": "superior",
          "medio": "medial", "latero": "lateral"}  # fmt: skip
_SECOND = frozenset("lateral medial superior inferior anterior posterior laterally medially".split())

_IRREGULAR = {
    "vertebrae": "vertebra", "feet": "foot", "teeth": "tooth", "phalanges": "phalanx",
    "foci": "focus", "thrombi": "thrombus", "emboli": "embolus", "calculi": "calculus",
    "bullae": "bulla", "fistulae": "fistula", "diverticula": "diverticulum", "nuclei": "nucleus",
    "septa": "septum", "bronchi": "bronchus", "hila": "hilum", "cortices": "cortex",
    "apices": "apex", "children": "child", "men": "man", "women": "woman", "testes": "testis",
    "ossa": "os", "atria": "atrium", "ova": "ovum", "lumina": "lumen", "foramina": "foramen",
    "stigmata": "stigma", "metastases": "metastasis", "indices": "index", "halves": "half",
    "crania": "cranium", "maxillae": "maxilla", "scapulae": "scapula", "pleurae": "pleura",
    "disks": "disc", "disk": "disc", "opacities": "opacity", "discrete": "discrete",
    "axes": "axis", "alveoli": "alveolus", "meninges": "meninges", "menisci": "meniscus",
}  # fmt: skip
_KEEP = frozenset("has was is this its thus pus lens series previous versus gas various".split())
_SINGULAR_SE = frozenset(
    "case phase base disease increase decrease dose nose purpose release cause course pulse "
    "response sense house relapse collapse use rise".split()
)


@functools.cache
def lemma(word: str) -> str:
    """Return the canonical spelling of a lower-case word: American, singular.

    >>> lemma("haemorrhages"), lemma("stenoses"), lemma("masses")
    ('hemorrhage', 'stenosis', 'mass')
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _KEEP or len(word) < 4:
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
    if word.endswith(("ases", "oses", "eses", "yses", "ises")) and word[:-1] not in _SINGULAR_SE:
        return word[:-2] + "is"
    return word[:-1]


def tokens(text: str) -> list[str]:
    """Split text into canonical tokens.

    Measurements become `#length:35` (mm), vertebrae `#vertebra:L4`, ordinals `#ordinal:2`; the
    punctuation that ends clauses stays; brackets, hyphens and articles go.

    >>> tokens("A 3.5-cm tumour at L4/5, RLL.")
    ['#length:35', 'tumor', 'at', '#vertebra:L4', '#vertebra:L5', ',', 'right', 'lower', \
'lobe', '.']
    """
    text = text.casefold()
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text).casefold()
        text = "".join(char for char in text if not unicodedata.combining(char))
    out: list[str] = []
    for match in _TOKEN.finditer(text):
        group = match.lastgroup
        if group == "word":
            word = match.group()
            if not (word in ("head", "heads") and out and out[-1] == "arrow"):
                out.extend(_word(word))
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
    if word in _ARTICLES:
        return ()
    if word in _EXPAND:
        return tuple(_EXPAND[word])
    compound = _COMPOUND.fullmatch(word)
    if compound and compound.group(2) in _SECOND:
        return _FIRST[compound.group(1)], compound.group(2)
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
    if region == "d" and int(out[0].rpartition("T")[2]) < 4:  # coronary branches, days
        return []
    return out


def _measures(text: str, old: bool) -> list[str]:
    """Return `#dimension:value` for every number of a measurement; a unit serves those before."""
    values: list[float] = []
    out: list[str] = []
    for count, unit in _PART.findall(text):
        if count:
            values.append(_value(count))
            continue
        dimension, factor = _UNITS[unit]
        out.extend(f"#{'age' if old else dimension}:{value * factor:.4g}" for value in values)
        values = []
    return out


def _value(count: str) -> float:
    if count in _WORDED:
        return float(_WORDED.index(count) + 1)
    if re.fullmatch(r"\d{1,3},\d{3}", count):  # 1,200 ml
        return float(count.replace(",", ""))
    return float(count.replace(",", "."))


def _ordinals(found: list[str]) -> list[str]:
    """Turn `second` into `#ordinal:2` unless it counts time; `fourth lumbar` into a vertebra."""
    for i, token in enumerate(found):
        if token in _ORDINALS:
            token = f"#ordinal:{_ORDINALS.index(token) + 1}"
        elif not token.startswith("#ordinal"):
            continue
        after = found[i + 1] if i + 1 < len(found) else ""
        if after in _TIMES:
            found[i] = "nth"
            continue
        region = {"cervical": "C", "thoracic": "T", "dorsal": "T", "lumbar": "L"}.get(after)
        found[i] = f"#vertebra:{region}{token[9:]}" if region else token
    return found
