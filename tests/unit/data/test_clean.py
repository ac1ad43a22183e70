from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medblip.data.clean import RULES, clean, parse_rules
from medblip.data.clean_cut import CUT, mend
from medblip.errors import DataError

#: What the rules look for, to be put together at random.
PIECES = [
    "(arrow)", "(arrows, 3 cm)", "White arrow: stent.", "as shown by the arrow", "(*)", "(A)",
    "(a, b)", "A.", "B)", "Figure 2B.", "(see Fig. 3)", "[12]", "[3-5, 7]", "(Smith et al., 2010)",
    "Reproduced with permission from J. Doe.", "courtesy of", "©", "A 45-year-old woman", "in a",
    "67 year old male", "with a history of", "who presented with", "aged 9 years", "patient",
    "3 months after", "on 12 March 2015", "at 6-month follow-up", "(2009)", "later", "32 weeks",
    "left", "right", "no", "effusion", "2.5 cm", "shows", "and", "of", "the", ",", ".", ";", ":",
    "(", ")", "[", "]", "-", "–", "  ", "\t", "\u00a0", "&amp;", "<b>", "https://a.org/b",
    "doi:10.1000/x", CUT, "é", "\u200b", "\x00",
]  # fmt: skip
captions = st.one_of(
    st.text(max_size=80), st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join)
)
some_rules = st.lists(st.sampled_from(list(RULES)), unique=True)


@pytest.mark.parametrize("name", RULES)
def test_each_rule_does_what_its_example_says(name: str) -> None:
    rule = RULES[name]
    assert rule.apply(rule.before) == rule.after
    assert rule.apply(rule.after) == rule.after
    assert clean(rule.before, [name]).fired == (name,)


@pytest.mark.parametrize(
    ("rule", "before", "after"),
    [
        ("arrows", "Right effusion (white arrow), no shift.", "Right effusion, no shift."),
        ("arrows", "A cyst (black arrowheads, 2.5 cm).", "A cyst (2.5 cm)."),
        ("arrows", "Two nodules (small, thin arrows) are seen.", "Two nodules are seen."),
        ("arrows", "CT scan. The arrow points to the tear.", "CT scan. The tear."),
        ("arrows", "The abscess is marked with an arrow.", "The abscess."),
        ("arrows", "Arrow: nidus, asterisk = cyst", "Nidus, cyst"),
        ("arrows", "Aorta (*) and vein (#).", "Aorta and vein."),
        ("arrows", "Tooth (#48) near the marrow, narrow canal.", None),
        ("arrows", "Normal bone marrow and a starry sky.", None),
        ("figure-letters", "A: chest film. B: CT scan.", "Chest film. CT scan."),
        ("figure-letters", "A. CT scan. B. MRI of a knee.", "CT scan. MRI of a knee."),
        ("figure-letters", "Views before (a) and after (b).", "Views before and after."),
        ("figure-letters", "A chest film of C. difficile colitis, grade (B).", None),
        ("figure-letters", "Index = (A + B) / C at the atlas (C1), as in (b).", None),
        ("citations", "Grade 3 [5] tear (adapted from Doe [7]).", "Grade 3 tear."),
        ("citations", "Tear. Courtesy of Dr. A. Smith, Paris.", "Tear."),
        ("citations", "A [18F]FDG scan, along = [110], in OsiriX©: 3 cm.", None),
        ("citations", "Stress left (RM and RD), right (Left and Right).", None),
        ("history", "A 67-year-old male with gout. Left foot.", "Gout. Left foot."),
        ("history", "A 67 year old male presented with pain. CT shows gas.", "CT shows gas."),
        ("history", "MRI of a 9-week-old boy showing a left cyst.", "MRI showing a left cyst."),
        ("history", "A 63-year-old diabetic man.", "A diabetic man."),
        ("history", "Film at the age of 9 months: normal.", "Film: normal."),
        ("history", "A 5-year-old cat, a male dog, the mandible of a donor.", "A cat, a male dog, "
         "the mandible of a donor."),
        ("history", "Fetus, gestational age 21 weeks, manual views of the manubrium.", None),
        ("dates", "CT 3 months after left hip surgery.", "CT after left hip surgery."),
        ("dates", "CT scan on 5 March 2007 shows cysts.", "CT scan shows cysts."),
        ("dates", "Film (dated May 2013) after 6 months of therapy.", "Film after therapy."),
        ("dates", "One-year follow-up film of the hand.", "Follow-up film of the hand."),
        ("dates", "Fetus at 32 weeks' gestation, 3 weeks later.", None),
        ("dates", "A matrix of 2048 lines, after 5 minutes.", None),
        ("links", "Film, see www.example.org/a_(b).", "Film)."),
        ("spaces", "a\u00a0b\u200b\u2009c\x07 ﬂ “x” −3", 'a b c fl "x" -3'),
        ("spaces", "café 5–10 mm², α → β", None),
        ("markup", "a < b and b > c & d &unknown;", None),
    ],
)  # fmt: skip
def test_cases_from_real_captions(rule: str, before: str, after: str | None) -> None:
    assert RULES[rule].apply(before) == (before if after is None else after)


def test_what_is_left_is_never_less_than_two_words() -> None:
    result = clean("Fracture (arrow).", ["arrows"])
    assert result.kept
    assert (result.text, result.fired) == ("Fracture (arrow).", ())
    assert not clean("Fracture.", ["arrows"]).kept


def test_rules_are_applied_in_their_own_order_whatever_the_callers() -> None:
    text = "Figure 1. CT  of a 45-year-old man (arrow) shows gas [3]."
    forth, back = clean(text, list(RULES)), clean(text, list(reversed(RULES)))
    assert forth == back
    assert forth.text == "CT shows gas."
    assert forth.fired == ("spaces", "citations", "history", "figure-letters", "arrows")


def test_rounds_go_on_until_nothing_changes() -> None:
    nested = "A large mass " + "[arrow (" * 3 + "arrow" + ")]" * 3 + "."
    assert clean(nested, ["arrows"]).text == "A large mass."
    endless = "A large mass " + "[arrow (" * 30 + "arrow" + ")]" * 30 + "."
    assert clean(endless, ["arrows"]).kept


@given(captions, some_rules)
@settings(max_examples=300, deadline=None)
def test_cleaning_twice_is_cleaning_once(caption: str, rules: list[str]) -> None:
    once = clean(caption, rules)
    assert clean(once.text, rules).text == once.text
    assert once.kept or (once.text == caption) == (once.fired == ())


@given(captions)
@settings(max_examples=200, deadline=None)
def test_mending_leaves_text_without_marks_alone(caption: str) -> None:
    plain = caption.replace(CUT, "")
    assert mend(plain) == plain
    assert CUT not in mend(caption)


@pytest.mark.parametrize(
    "piece",
    ["a ", "(", "[", "((arrow", "(arrow) ", "1 ", "12 months ",
     "A 45-year-old man with a history of ",
     "the white ", "and ", ", ", "..", "(a) ", "A, ", "Fig. 1", "[1, ", "et al. ", "courtesy (",
     "<p ", "&amp;", "http://", " \t", "the patient ", "history of ", CUT, "aA", "- ", "one ",
     "January ", "2010-", "after 6 months of ", "was ", "of of "],
)  # fmt: skip
def test_time_grows_with_the_text_and_no_faster(piece: str) -> None:
    # Measured: at most 0.15 s for 20 kB. A pattern that backtracks needs minutes.
    text = (piece * 20_000)[:20_000]
    for name, rule in RULES.items():
        start = time.perf_counter()
        rule.apply(text)
        assert time.perf_counter() - start < 5, name


def test_names_are_read_and_typos_named() -> None:
    assert parse_rules("") == ()
    assert parse_rules("all") == tuple(RULES)
    assert parse_rules(" dates , arrows,") == ("dates", "arrows")
    with pytest.raises(DataError, match="expected: arrows"):
        parse_rules("dates,arows")


def test_sides_and_measurements_of_real_captions_survive(shared_data: Path) -> None:
    path = shared_data / "roco-v1" / "validation" / "radiology" / "captions.txt"
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if "\t" in line][::8]
    texts = [clean(line.split("\t", 1)[1].strip(), ["spaces"]).text for line in lines]
    rules = ["links", "citations", "dates", "figure-letters"]
    words = ("left", "right", "bilateral", "no", "without", "mm", "cm", "MRI", "CT")
    changed = 0
    for text in texts:
        after = clean(text, rules).text
        changed += after != text
        for word in words:
            assert after.split().count(word) >= text.split().count(word), text
    assert changed > 50
