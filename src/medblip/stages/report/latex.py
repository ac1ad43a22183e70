"""The report's tables for LaTeX: booktabs, plain ASCII, every text escaped."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from medblip.stages.report.cells import Column, Table, cell, visible
from medblip.stages.report.contents import Contents
from medblip.stages.report.words import conclusions

__all__ = ["latex_document", "latex_table", "latex_text"]

_SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "{''}",
    "`": "{`}",  # never a ligature
    "[": "{[}", "]": "{]}", "*": "{*}",  # at the start of a row they would belong to the row before
    "\N{EN DASH}": "--", "\N{EM DASH}": "---", "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''", "\N{HORIZONTAL ELLIPSIS}": r"\dots{}",
    "\N{NO-BREAK SPACE}": "~", "\N{DEGREE SIGN}": r"\ensuremath{^\circ}", "ß": r"\ss{}",
    "\N{PLUS-MINUS SIGN}": r"\ensuremath{\pm}", "\N{MULTIPLICATION SIGN}": r"\ensuremath{\times}",
    "\N{LESS-THAN OR EQUAL TO}": r"\ensuremath{\le}", "\N{MINUS SIGN}": r"\ensuremath{-}",
    "\N{GREATER-THAN OR EQUAL TO}": r"\ensuremath{\ge}", "\N{MICRO SIGN}": r"\ensuremath{\mu}",
    "\N{SUPERSCRIPT TWO}": r"\ensuremath{^2}", "æ": r"\ae{}", "ø": r"\o{}", "å": r"\aa{}",
    "œ": r"\oe{}", "Æ": r"\AE{}", "Ø": r"\O{}", "Œ": r"\OE{}", "ł": r"\l{}", "Ł": r"\L{}",
}  # fmt: skip
_GREEK = {
    chr(0x3B1 + index): rf"\ensuremath{{\{name}}}"
    for index, name in enumerate(
        [
            "alpha",
            "beta",
            "gamma",
            "delta",
            "epsilon",
            "zeta",
            "eta",
            "theta",
            "iota",
            "kappa",
            "lambda",
            "mu",
            "nu",
            "xi",
            "o",
            "pi",
            "rho",
            "varsigma",
            "sigma",
            "tau",
            "upsilon",
            "phi",
            "chi",
            "psi",
            "omega",
        ]
    )
    if name != "o"
}
_ACCENTS = {
    0x300: "`", 0x301: "'", 0x302: "^", 0x303: "~", 0x304: "=", 0x306: "u", 0x307: ".",
    0x308: '"', 0x30A: "r", 0x30B: "H", 0x30C: "v", 0x327: "c",
}  # fmt: skip
#: Characters of one line of a table, and its rows per page.
_WIDTH, _ROWS = 100, 36
_LONG = 26


def latex_text(text: str) -> str:
    r"""Return ASCII that prints as `text` with pdflatex; what no Latin font has, by its number.

    >>> print(latex_text("5 % é_x"), latex_text("\u4e2d"))
    5 \% \'{e}\_x {[}U+4E2D{]}
    """
    return " ".join(_word(word) for word in visible(text).split())


def _word(word: str) -> str:
    signs: list[str] = []
    before = ""
    for letter in unicodedata.normalize("NFC", word):
        twice = letter == before and letter in "-,'"  # two of these would join to another sign
        signs.append("{}" * twice + _sign(letter))
        before = letter
    if len(signs) <= _LONG:
        return "".join(signs)
    return r"\allowbreak{}".join(
        "".join(signs[start : start + 8]) for start in range(0, len(signs), 4)
    )


def _sign(sign: str) -> str:
    known = _SIGNS.get(sign) or _GREEK.get(sign)
    if known or sign.isascii():
        return known or sign
    base, *marks = list(unicodedata.normalize("NFD", sign))
    if base.isascii() and len(marks) == 1 and ord(marks[0]) in _ACCENTS:
        letter = {"i": r"\i", "j": r"\j"}.get(base, base)
        return f"\\{_ACCENTS[ord(marks[0])]}{{{letter}}}"
    return f"{{[}}U+{ord(sign):04X}{{]}}"


def latex_table(table: Table) -> str:
    """Return floats of one table; wide tables are cut between columns, long ones between rows."""
    parts: list[str] = []
    for columns in _blocks(table):
        for start in range(0, len(table.rows), _ROWS):
            parts.append(_float(table, columns, start, first=not parts))
    return "% needs: booktabs, array\n" + "\n".join(parts)


def _float(table: Table, columns: Sequence[Column], start: int, *, first: bool) -> str:
    lines = [" & ".join(latex_text(column.title) for column in columns) + r" \\", r"\midrule"]
    lines += [
        " & ".join(_cell(column, row) for column in columns) + r" \\"
        for row in table.rows[start : start + _ROWS]
    ]
    caption = table.title + (f". {table.note}" if first and table.note else "")
    label = f"\\label{{tab:{table.name}}}" if first else ""
    parts = [
        r"\begin{table}[htbp]",
        *([] if first else [r"\addtocounter{table}{-1}"]),
        r"\centering\footnotesize",
        f"\\caption{{{latex_text(caption)}{'' if first else ' (continued)'}}}{label}",
        f"\\begin{{tabular}}{{{''.join(_form(table, column) for column in columns)}}}",
        r"\toprule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ]
    return "\n".join(parts)


def _cell(column: Column, row: dict[str, Any]) -> str:
    text = latex_text(cell(column, row))
    if column.numeric and row.get(column.key) is not None:
        return text.replace("-", r"\ensuremath{-}")
    return text


def _blocks(table: Table) -> Iterator[list[Column]]:
    """Yield groups of columns that fit on a line, each after the columns that name its rows."""
    heads, others = table.columns[: table.keys], table.columns[table.keys :]
    start = sum(_width(table, column) for column in heads)
    block, used = list(heads), start
    for column in others:
        width = _width(table, column)
        if used + width > _WIDTH and len(block) > len(heads):
            yield block
            block, used = list(heads), start
        block, used = [*block, column], used + width
    yield block


def _width(table: Table, column: Column) -> int:
    texts = [column.title, *(cell(column, row) for row in table.rows)]
    return min(_LONG + 8, max(map(len, texts))) + 3


def _form(table: Table, column: Column) -> str:
    if column.numeric:
        return "r"
    widest = max((len(cell(column, row)) for row in table.rows), default=0)
    return r">{\raggedright\arraybackslash}p{0.3\linewidth}" if widest > _LONG else "l"


def latex_document(contents: Contents, tables: Sequence[Table], figures: dict[str, str]) -> str:
    r"""Return a document that `\input`s the tables and includes the figures.

    Args:
        contents: For title, methods and conclusions.
        tables: Those written as tables/<name>.tex.
        figures: Name of each file in figures/ -> caption.
    """
    methods = (contents.study or {}).get("methods")
    lines = [
        r"\documentclass[10pt,a4paper]{article}",
        "% without Latin Modern the T1 fonts would be bitmaps",
        r"\IfFileExists{lmodern.sty}{\usepackage[T1]{fontenc}\usepackage{lmodern}}{}",
        r"\usepackage[margin=22mm]{geometry}",
        r"\usepackage{array,booktabs,graphicx}",
        r"\setlength{\emergencystretch}{3em}",
        r"\begin{document}",
        f"\\title{{{latex_text(contents.title)}}}",
        r"\author{}\date{}",
        r"\maketitle",
        r"\noindent\textbf{Research use only. Not a medical device.}",
        "",
    ]
    if methods:
        lines += [r"\section*{Methods}", r"\input{methods}"]
    lines += [r"\section*{Results}"]
    for table in tables:
        lines += [f"\\input{{tables/{table.name}}}", r"\clearpage" if len(table.rows) > 20 else ""]
    for name, caption in figures.items():
        lines += [
            r"\begin{figure}[htbp]\centering",
            f"\\includegraphics[width=0.72\\linewidth]{{figures/{name}}}",
            f"\\caption{{{latex_text(caption)}}}", r"\end{figure}",
        ]  # fmt: skip
    lines += [r"\clearpage", r"\section*{What may be concluded, and what not}", r"\begin{itemize}"]
    lines += [f"\\item {latex_text(sentence)}" for sentence in conclusions(contents)]
    lines += [r"\end{itemize}", r"\end{document}", ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))
