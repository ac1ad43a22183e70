"""Words and signs that the tokenizer treats apart, found by trying candidates on the reference.

Candidates: months, days, states, titles, company forms, units, Latin, every string of one to four
letters and some 60,000 words, with and without a capital, before a word, a capital and a number.
Words are separated by spaces; lists of signs are the inside of a regular expression's class.
"""

from __future__ import annotations

#: Keep their period everywhere, in any case: "CT. scan" -> "ct. scan".
ABBREVIATIONS = """
    al ala apr ariz assn aug bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est etc
    ext feb fla fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb
    nev nov oct okla penn plc rd rt sep sept seq sq sr sys tel tenn thu thurs tue tues univ va vt
    wed wis wisc wyo
"""

#: The same, and also within "vs.x", which others part: "ct.x" -> "ct." "x".
TITLES = """
    adj adm adv alex assoc asst atty attys ave brig capt cf cie cmdr col cpl dept det dr drs elec
    ens ft gen gov govs hon insp invt jos lt maj messrs mlle mme mr mrs ms msgr mt natl pfc ph pres
    prof profs pvt rep reps rev sen sens sfc sgt spc st ste supt supts vs wm
"""

#: Keep it when they start with a capital: "Miss. x" -> "miss. x", but "miss. x" -> "miss x".
ABBREVIATIONS_WITH_CAPITAL = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash"

#: Keep it unless all letters are capitals.
ABBREVIATIONS_NOT_IN_CAPITALS = "mfg mtg ppte ppty pte ptes pty ptys"

#: Keep it before a number only: "Fig. 2" -> "fig. 2", "the fig." -> "the fig".
ABBREVIATIONS_BEFORE_NUMBERS = "art ca figs? nos? op pp prop"

#: An initial before one of these is the end of a sentence: "lobe B. The" -> "lobe b the".
SENTENCE_STARTS = """
    A About According Additionally After An As At But Earlier He Her Here However If In It Last Many
    More Now Once One Other Our She Since So Some Such That The Their Then There These They This We
    What When While Yet You
"""

#: A number may come before these: "12.pdf", "2.x".
FILE_ENDINGS = """
    bat bmp c cgi class cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl
    png ppt ps py sql tar txt wav x xml zip
"""

#: What is cut off after an apostrophe: "patient's" -> "patient" "'s".
CLITICS = "s re ve ll m d"

#: Whole words that are two tokens.
CONTRACTIONS = {
    "cannot": ("can", "not"),
    "gimme": ("gim", "me"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "lemme": ("lem", "me"),
    "wanna": ("wan", "na"),
    "'tis": ("'t", "is"),
    "'twas": ("'t", "was"),
}

#: Two of these side by side are one token, written so (which is not always one of `DROPPED`).
QUOTES = {
    "`": "`", "\u2018": "`", "\u201b": "`", "\u2039": "`", "\x91": "`",
    "\u2019": "'", "\u203a": "'", "\x92": "'",
    "\u201c": "``", "\u00ab": "``", "\x93": "``",
    "\u201d": "''", "\u00bb": "''", "\x94": "''",
}  # fmt: skip

#: Signs written as words or as other signs.
NAMED_SIGNS = {
    "(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-",
    "\u00bc": "1/4", "\u00bd": "1/2", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3",
    "\u00a2": "cents", "\u00a3": "#", "\u00a4": "$", "\u20ac": "$", "\u20a0": "$", "\x80": "$",
    "&amp;": "&", "&lt;": "<", "&gt;": ">",
}  # fmt: skip

#: Tokens that the caption evaluation removes, in all the ways in which they are written.
DROPPED = frozenset(
    [
        *(".", "?", "!", ",", ":", ";", "...", "....", ".....", "-", "--", "---", "----"),
        *("'", '"', "''", "``", *QUOTES),
        *("\u2013", "\u2014", "\u2015", "\x96", "\x97", "\u2026", "\x85"),
        *("&quot;", "&apos;", "&nbsp;", "&mdash;", "&ndash;", "&md;"),
    ]
)

#: Letters and numbers to Python, but not to the reference.
NO_LETTERS = (
    r"\u00b2\u00b3\u00b9\u00bc-\u00be\u2070\u2074-\u2079\u2080-\u2089\u2150-\u2189\u2460-\u249b"
    r"\u24ea-\u24ff\u2776-\u2793\u3007\u3021-\u3029\u3192-\u3195\u3220-\u32bf"
    r"\U00010000-\U0010ffff"
)

#: Marks that belong to the letter before them.
MARKS = (
    r"\u02c2-\u02c5\u02d2-\u02df\u02e5-\u02eb\u02ed\u02ef-\u036f\u0375\u0384\u0385\u0483-\u0487"
    r"\u055a-\u055f\u0591-\u05bd\u05bf\u05c1\u05c2\u0615-\u061a\u064b-\u065e\u0670\u06d6-\u06ed"
    r"\u0900-\u0903\u093c\u093e-\u094e\u0951-\u0955"
)

#: Single signs that are tokens; whatever is neither here nor a letter only separates.
SIGNS = (
    r"#-&*+/<-@\\^_|~\u00a1\u00a5-\u00a9\u00ac\u00ae-\u00b4\u00b6-\u00b9\u00bf\u00d7\u00f7"
    r"\u037e\u0387\u0589\u2016\u2017\u201a\u201e-\u2023\u2030-\u2038\u203b\u203e-\u2042\u2044"
    r"\u2070\u2074-\u207e\u2080-\u208e\u20a4\u2100-\u214f\u2155-\u215e\u2190-\u2426\u2440-\u244a"
    r"\u2460-\u2bff\u3001\u3002\u3012\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
    r"\uffe0\uffe1\uffe5\uffe6"
)
