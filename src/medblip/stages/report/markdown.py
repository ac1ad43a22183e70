"""The report as Markdown: tables, conclusions and, for the gallery, captions as text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medblip.markdown import escape
from medblip.stages.report.cells import Table, cell, visible
from medblip.stages.report.contents import Contents
from medblip.stages.report.words import conclusions

__all__ = ["markdown_text"]

#: At the start of a line, before a blank: a list, or the line under a heading.
_AT_START = re.compile(r"^(\d*)([-+=.)])(?=\s|$)")
#: A mail address becomes a link even where its @ is escaped or an entity, but not across a sign
#: that cannot be seen (WORD JOINER): tried with cmark-gfm, GitHub's own.
_UNLINKED_AT = "&#8288;@"
#: Letters of one text: a caption is never cut.
_WHOLE = 1_000_000


def markdown_text(contents: Contents, tables: Sequence[Table]) -> str:
    """Return the whole report; every text is escaped, so that none becomes markup or a link."""
    parts = [f"# {_escape(contents.title)}", "Research use only. Not a medical device."]
    for table in tables:
        parts += [f"## {_escape(table.title)}", _table(table)]
        parts += [_escape(table.note)] if table.note else []
    if contents.study and contents.study.get("methods"):
        parts += ["## Methods", _escape(contents.study["methods"])]
    if contents.cases:
        parts += [
            "## Images and captions",
            *(_case(contents, i) for i in range(len(contents.cases))),
        ]
    parts += ["## What may be concluded, and what not"]
    parts += ["\n".join(f"- {_escape(sentence)}" for sentence in conclusions(contents))]
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    lines = [
        [column.title for column in table.columns],
        *([cell(column, row) for column in table.columns] for row in table.rows),
    ]
    rows = ["| " + " | ".join(map(_escape, line)) + " |" for line in lines]
    rule = "| " + " | ".join("---:" if c.numeric else "---" for c in table.columns) + " |"
    return "\n".join([rows[0], rule, *rows[1:]])


def _case(contents: Contents, index: int) -> str:
    case = contents.cases[index]
    name = case.example.id
    lines = [f"### {_escape(name)} ({case.kind})"]
    lines += [f"- reference: {_escape(text)}" for text in case.example.captions]
    lines += [
        f"- {_escape(s.name)}: {_escape(s.captions.get(name, 'not captioned'))}"
        for s in contents.systems
    ]
    return "\n".join([lines[0], "", *lines[1:]])


def _escape(text: str) -> str:
    r"""Return text of one line in which no sign means anything, and no address is a link.

    >>> _escape("a_b | <i>\nc")
    'a\\_b \\| &lt;i&gt; c'
    >>> _escape("www.x.yy a@b.cd")
    'www&#46;x.yy a&#8288;@b.cd'
    """
    safe = escape(visible(text), _WHOLE).replace("@", _UNLINKED_AT)
    return _AT_START.sub(r"\1\\\2", safe)
