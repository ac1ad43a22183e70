"""What goes into YAML comes out of a parser as it was, whatever it is."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from medblip.markdown import code, escape, front_matter, table

SCALARS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.sampled_from(["yes", "no", "null", "~", "1e5", "0x1", "1_000", "12:30", "2020-01-01", "- a",
                     "a: b", "#x", "", " ", "n", "y", "on", "=", "<<", "!!python/object:os.system",
                     "&a", "*a", "%a", "@a", "|", ">", "---", "...", "'", '"', "\\"]),
)  # fmt: skip
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
RECORDS = st.dictionaries(
    KEYS,
    st.one_of(
        SCALARS,
        st.lists(SCALARS, min_size=1),
        st.dictionaries(KEYS, SCALARS, min_size=1),
        st.lists(st.dictionaries(KEYS, SCALARS, min_size=1), min_size=1),
    ),
    min_size=1,
)


def read(text: str) -> Any:
    assert text.startswith("---\n")
    assert text.endswith("\n---\n")
    return yaml.safe_load(text[4:-5])


@given(RECORDS)
def test_what_goes_in_comes_out(record: dict[str, Any]) -> None:
    text = front_matter(record)
    assert read(text) == record
    assert text.count("\n---\n") == 1  # nothing ends it early


def test_nothing_is_written_of_what_is_not_there() -> None:
    assert front_matter({"a": None, "b": [], "c": {}, "dd": 0, "ee": False}) == (
        "---\ndd: 0\nee: false\n---\n"
    )


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_an_escaped_text_is_one_line_without_markup(text: str) -> None:
    shown = escape(text)
    assert len(shown.splitlines()) <= 1
    assert "<" not in shown
    assert ">" not in shown
    assert "://" not in shown
    for index, letter in enumerate(shown):
        if letter in "`*_[]|~$#!":
            assert index
            assert shown[index - 1] == "\\" or shown[index - 1 : index + 1] == "&#"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_code_span_ends_where_it_should(text: str) -> None:
    shown = code(text)
    assert shown[0] == shown[-1] == "`"
    assert "`" not in shown[1:-1]
    assert len(shown.splitlines()) == 1


def test_a_table() -> None:
    assert table(("a", "b"), [(escape("x|y"), "1")]) == [
        "", "| a | b |", "| --- | --- |", r"| x\|y | 1 |",
    ]  # fmt: skip
