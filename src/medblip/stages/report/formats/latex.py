r"""The report for a paper: `report.tex`, which compiles, and a file per table to `\input`."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medblip.files import write_text
from medblip.stages.report.sheets import Sheet

__all__ = ["escape", "write_latex"]

_SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "\N{EN DASH}": "--", "\N{EM DASH}": "---", "\N{MINUS SIGN}": "$-$",
    "\N{LEFT SINGLE QUOTATION MARK}": "`", "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``", "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}", "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$", "\N{DEGREE SIGN}": r"\textdegree{}",
    "\N{MICRO SIGN}": r"\textmu{}", "\N{GREEK SMALL LETTER MU}": r"\textmu{}",
    "\N{LESS-THAN OR EQUAL TO}": r"$\le$", "\N{GREATER-THAN OR EQUAL TO}": r"$\ge$",
    "\N{RIGHTWARDS ARROW}": r"$\to$", "\N{NO-BREAK SPACE}": "~",
}  # fmt: skip
#: Columns beyond which a table is turned into a smaller font.
_WIDE = 6
#: Rows beyond which a table goes over pages.
_LONG = 30
_PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{textcomp}
\usepackage{booktabs}
\usepackage{longtable}
\usepackage{graphicx}
\usepackage[margin=2cm]{geometry}
\begin{document}
"""


def write_latex(
    folder: Path,
    sheets: Sequence[Sheet],
    *,
    title: str,
    study: Mapping[str, Any] | None,
    figures: Mapping[str, str],
) -> Path:
    """Write `report.tex` and `tables/<table>.tex`; returns the folder.

    Args:
        folder: New or earlier one; figures lie in it already.
        sheets: The tables.
        title: Of the document.
        study: Content of study.json, for the methods paragraph.
        figures: File in `folder` -> caption.
    """
    body = [rf"\title{{{escape(title)}}}", r"\author{}", r"\date{}", r"\maketitle"]
    body += [r"\noindent Research use only. Not a medical device.", ""]
    if study:
        body += [r"\section*{Methods}", escape(study["methods"]), ""]
    for sheet in sheets:
        write_text(folder / "tables" / f"{sheet.name}.tex", table_tex(sheet))
        inset = rf"\input{{tables/{sheet.name}.tex}}"
        above = rf"\section*{{{escape(sheet.title)}}}", escape(sheet.note), ""
        body += [*above, inset, ""] if _is_long(sheet) else [
            r"\begin{table}[htbp]", r"\centering",
            rf"\caption{{{escape(sheet.title)}. {escape(sheet.note)}}}",
            rf"\label{{tab:{sheet.name}}}", inset, r"\end{table}",
        ]  # fmt: skip
    body.append(r"\clearpage")
    for file, caption in figures.items():
        body += [r"\begin{figure}[htbp]", r"\centering",
                 rf"\includegraphics[width=.8\linewidth]{{{file}}}",
                 rf"\caption{{{escape(caption)}}}", r"\end{figure}"]  # fmt: skip
    write_text(folder / "report.tex", _PREAMBLE + "\n".join(body) + "\n\\end{document}\n")
    return folder


def table_tex(sheet: Sheet) -> str:
    """Return a `tabular` with booktabs' rules; intervals stand in a row below their values."""
    longest = [max(len(row[i].text) for row in sheet.rows) for i in range(len(sheet.head))]
    columns = "".join(
        (r"p{.3\linewidth}" if longest[i] > 40 else "l") if sheet.texts[i] else "r"
        for i in range(len(sheet.head))
    )
    kind = "longtable" if _is_long(sheet) else "tabular"
    lines = [r"{\scriptsize" if _is_long(sheet) else r"{\small"]
    if len(sheet.head) > _WIDE and not _is_long(sheet):
        lines = [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"]
    lines += [rf"\begin{{{kind}}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(escape(name) for name in sheet.head) + r" \\", r"\midrule"]
    for row in sheet.rows:
        values = [rf"\textbf{{{escape(c.text)}}}" if c.best else escape(c.text) for c in row]
        lines.append(" & ".join(values) + r" \\")
        if any(cell.ci for cell in row):
            below = [rf"{{\scriptsize {escape(cell.interval)}}}" if cell.ci else "" for cell in row]
            lines.append(" & ".join(below) + r" \\")
    return "\n".join([*lines, r"\bottomrule", rf"\end{{{kind}}}}}"]) + "\n"


def escape(text: str) -> str:
    r"""Return text that LaTeX sets as it is, on one line.

    Latin letters with accents stay; what pdflatex's fonts lack is named by its code point.

    >>> escape("50 % of A_1 \\input{x}")
    '50 \\% of A\\_1 \\textbackslash{}input\\{x\\}'
    """
    parts = []
    for letter in " ".join(text.split()):
        if letter in _SIGNS:
            parts.append(_SIGNS[letter])
        elif (
            letter.isascii()
            or letter in "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿ"
        ):
            parts.append(letter if letter.isprintable() else "")
        else:
            plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
            parts.append(escape(plain) if plain.strip() else rf"[U+{ord(letter):04X}]")
    return "".join(parts)


def _is_long(sheet: Sheet) -> bool:
    """Whether a table needs pages of its own."""
    return len(sheet.rows) > _LONG
