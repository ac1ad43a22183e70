"""Tokens of synthetic text: each expected value was written by the Java tokenizer itself."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medblip.metrics.tokenize import tokenize

# Text, and its tokens joined by a space (a no-break space is within a token).
CASES = [
    # words and joins
    ("T1-weighted FLAIR, post\u2010contrast x-ray", "t1-weighted flair post\u2010contrast x-ray"),
    ("depth.Representative slice", "depth.representative slice"),
    ("slice one.Slice two!three", "slice one.slice two!three"),
    ("(n,n-dimethyl) 3.5-cm 1,000-fold", "-lrb- n,n-dimethyl -rrb- 3.5-cm 1,000-fold"),
    ("name_of_file ab_cd-ef", "name_of_file ab_cd-ef"),
    ("12-ab.cd", "12-ab cd"),
    ("PET/CT-scan mg/kg/day 9/26", "pet/ct-scan mg/kg/day 9/26"),
    ("IL-1\u03b2/IL-6 L3-L4/L5", "il-1\u03b2 / il-6 l3-l4 / l5"),
    ("a/b/c/d", "a/b/c / d"),
    ("H&E R&D A+B a&b CD4+CD8+", "h&e r&d a+b a & b cd4 + cd8 +"),
    ("US$ 5 us$ 5", "us$ 5 us $ 5"),
    ("C# C++ anti- pro- non-", "c# c++ anti- pro- non"),
    # numbers
    ("1,000 10:30 1:1000 3.5", "1,000 10:30 1:1000 3.5"),
    ("p<.05 -3.5 +2 x=-5", "p < .05 -3.5 +2 x = -5"),
    ("1.5mm 2x 5x5 5\xd75", "1.5 mm 2x 5x5 5 \xd7 5"),
    ("12-34.5 5-7 1990s", "12-34 .5 5-7 1990s"),
    ("21 3/7 weeks", "21\xa03/7 weeks"),
    ("50 100 150 200 mm", "50\xa0100\xa0150\xa0200 mm"),
    ("(02) 9123 4567", "-lrb-02-rrb-\xa09123\xa04567"),
    ("2\xbd-year-old 1\u2044 2", "2 1/2 year-old 1 \u2044 2"),
    ("10\u207b\xb3 cm\xb2 H\u2082O", "10 \u207b\xb3 cm \xb2 h \u2082 o"),
    ("50% 40\xb0C #1 No.5", "50 % 40 \xb0 c # 1 no. 5"),
    ("2.x 12.pdf, 12.tif", "2.x 12.pdf 12 tif"),
    # periods
    ("Fig. 2 and the fig. no. 3", "fig. 2 and the fig no. 3"),
    ("vs. Dr. Who etc. CT. scan", "vs. dr. who etc. ct. scan"),
    ("by Smith et al. The end", "by smith et al. the end"),
    ("lobe B. THE lobe B. Thee", "lobe b the lobe b. thee"),
    ("lobe B. The lobe C. x", "lobe b the lobe c. x"),
    ("e.g., i.e. U.S. non-U.S. a", "e.g. i.e. u.s. non-u.s. a"),
    ("A.B.C. a.b-c", "a.b.c. a.b-c"),
    ("9.5 cm., and abc.; then", "9.5 cm. and abc. then"),
    ("one .. two ... three ..... four", "one two three four"),
    ("Miss. x miss. x MFG. x Mfg. x", "miss. x miss x mfg x mfg. x"),
    ("x.5 abc.5 T1.5 al.5", "x. 5 abc .5 t1 .5 al. 5"),
    ("ct.x ct.scan", "ct. x ct.scan"),
    ("Ph.D. B.Sc.", "ph.d. b.sc"),
    # apostrophes
    ("the patient's knee; patients' knees", "the patient 's knee patients knees"),
    ("Patient\u2019s don\u2019t didn\xb4t", "patient 's do n't didn \xb4 t"),
    ("can't cannot isn't couldn't've", "ca n't can not is n't could n't 've"),
    ("gonna 'tis rock 'n' roll", "gon na 't is rock 'n' roll"),
    ("d'un l\u2019orbite o'clock O'Brien", "d'un l\u2019orbite o'clock o'brien"),
    ("S'il Xi'an qu'il c'est", "s'il xi'an qu'il c'est"),
    ("y'all '90s '05 5'10", "y' all '90s '05 5 '10"),
    ("x-can't can't-x ain't", "x-can t ca n't x ai n't"),
    ("5'-UTR 3\u2032-UTR A'", "5 utr 3 \u2032 utr a"),
    ("the '\"quoted\" 'words' \u201cof\u201d \u2018two\u2019 ``kinds''",
     "the quoted words of two kinds"),
    ("\u201c\u2018a\u2019\u201d \xabb\xbb \u2039c\u203a", "``` a ''' b c"),
    # addresses
    ("see http://a.org/b?c=d#e, or www.x-y.org/abc.",
     "see http://a.org/b?c=d#e or www.x-y.org/abc"),
    ("(https://a.b/c) end.of ab.com/xy doi:10.1186/14",
     "-lrb- https://a.b/c -rrb- end.of ab.com/xy doi :10.1186 / 14"),
    ("me@x.org, you@y 5@6", "me@x.org, you@y 5@6"),
    ("@name #tag #1", "@name #tag # 1"),
    # mark-up and smileys
    ("<a b='(x)'>", "<a\xa0b='(x)'>"),
    ("<b>bold</b> <br /> <a href='x'>", "<b> bold </b> <br\xa0/> <a\xa0href='x'>"),
    ("a <b and c> d <5 p<q", "a <b\xa0and\xa0c> d < 5 p < q"),
    ("A&amp;B &lt;5 &nbsp; &quot;x&quot; &alpha;", "a&b < 5 x & alpha"),
    ("(a:) =( :-D A:D (->) ^_^", "-lrb- a :-rrb- =-lrb- :-d a :d -lrb-->-rrb- ^_^"),
    # signs
    ("( ) [ ] { }", "-lrb- -rrb- -lsb- -rsb- -lcb- -rcb-"),
    ("-lrb- -LRB- x -rsb-", "-lrb- -lrb- x -rsb-"),
    ("!! ?! ! ? -- --- ----- \u2013 \u2014", "!! ?! -----"),
    ("* ** *p # ## @ @@ _ __", "* ** * p # ## @ @@ _ __"),
    ("\xb1 \xd7 \u2265 \u2248 \u2192 \u2022 \u2020 \u2122 \xae \xa7",
     "\xb1 \xd7 \u2265 \u2248 \u2192 \u2022 \u2020 \u2122 \xae \xa7"),
    ("\xa3 \u20ac \xa2 \xa5 $", "# $ cents \xa5 $"),
    ("a|b a~b a^b a=b a\\b <- ->", "a | b a ~ b a ^ b a = b a \\ b < >"),
    ("\u2212 \u2032 \xb4 \u2026 \xb7", "\u2212 \u2032 \xb4 \xb7"),
    # unicode
    ("5\xb5m \u03b1-SMA 5\u03bcL 37\xbaC \u0394", "5\xb5m \u03b1-sma 5\u03bcl 37\xbac \u03b4"),
    ("caf\xe9 cafe\u0301 \ufb01brous", "caf\xe9 cafe\u0301 \ufb01brous"),
    ("soft\xadhyphen zero\u200bwidth no\xa0break\ufeffmark", "softhyphen zero width no break mark"),
    ("\uf0b0C a\ue000b \U0001d6fc-x \U0001f600", "c a b x"),
    ("\u4e2d\u6587 \uff21\uff11 \uff08x\uff09 \u2167 \u2460",
     "\u4e2d\u6587 \uff41\uff11 \uff08 x \uff09 \u2460"),
    ("ab\u2012cd ab\u2011cd \u0416\u0438", "ab cd ab\u2011cd \u0436\u0438"),
    ("tab\tand\u2003space", "tab and space"),
]  # fmt: skip
# What the property tests write with: pieces on which rules turn.
PIECES = """
    a A b The ct Fig mm cm T1 5 12 3.5 100 1,000 no vs p n IL-1 . , ; : - / ( ) ' & + % * = < > _
    [ ] " ! ? # @ $ ^ | ~ \\ { } -- ... n't 's \u2013 \u2019 \u201c \u201d \u00b0 \u00d7 \u00b1
    \u00b5 \u2010 \u2212 \u2192 \u00e9 \u00b2 \u00bd \u2122 \u2026 \u0301 \u00ad \u200b
"""


@pytest.mark.parametrize(("text", "tokens"), CASES, ids=range(len(CASES)))
def test_tokens(text: str, tokens: str) -> None:
    assert " ".join(tokenize(text)) == tokens


@pytest.mark.parametrize("text", ["", " ", "\n\t", ". , ; : ! ?", "\u2013 \u201c\u201d", "\u200b"])
def test_nothing_but_punctuation(text: str) -> None:
    expected = ["``''"] if "\u201c" in text else []
    assert tokenize(text) == expected


def test_line_breaks_only_separate() -> None:
    assert tokenize("chest\nX-ray.\r\nNo mass") == ["chest", "x-ray", "no", "mass"]
    assert tokenize("Fig.\n2") == ["fig.", "2"]


def test_a_piece_seen_before_does_not_forget_what_follows_it() -> None:
    assert tokenize("lobe B. of") == ["lobe", "b.", "of"]
    assert tokenize("lobe B. The") == ["lobe", "b", "the"]
    assert tokenize("lobe B. of") == ["lobe", "b.", "of"]
    assert tokenize("see fig. A, fig. 3") == ["see", "fig", "a", "fig.", "3"]


pieces = st.sampled_from([*PIECES.split(), " ", "\n", "\u00a0", "\t"])


@given(st.one_of(st.text(max_size=60), st.lists(pieces, max_size=12).map("".join)))
@settings(max_examples=600, deadline=None)
def test_any_text_has_tokens(text: str) -> None:
    tokens = tokenize(text)
    assert all(token and not token.isspace() for token in tokens)
    assert [token.lower() for token in tokens] == tokens
    assert not any(" " in token or "\n" in token for token in tokens)
    assert tokenize(text) == tokens
    assert tokenize(f"  {text}\n") == tokens


@given(st.lists(st.from_regex(r"[a-z]{2,9}(-[a-z]{2,6})?", fullmatch=True), max_size=20))
@settings(max_examples=200, deadline=None)
def test_plain_words_are_their_own_tokens(words: list[str]) -> None:
    words = [word for word in words if word not in ("cannot", "gonna", "gotta", "wanna")]
    assert tokenize(" ".join(words)) == words
    assert tokenize(", ".join(words).upper()) == words


@pytest.mark.parametrize("unit", ["a", ".", "a.", "a-", "a'", "a,a-", "<a ", "12 ", "(12) ", "@"])
def test_long_text_takes_no_more_than_seconds(unit: str) -> None:
    start = time.process_time()
    tokenize(unit * 3_000)
    assert time.process_time() - start < 5
