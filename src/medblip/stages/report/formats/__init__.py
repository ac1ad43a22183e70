"""The report for other programs: Markdown, LaTeX, CSV; the same tables as on the page."""

from medblip.stages.report.formats.csvs import write_csv
from medblip.stages.report.formats.latex import write_latex
from medblip.stages.report.formats.md import write_markdown

__all__ = ["write_csv", "write_latex", "write_markdown"]
