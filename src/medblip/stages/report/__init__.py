"""Stage `report`: one self-contained HTML page from the files of one or more runs."""

from medblip.stages.report.page import report

__all__ = ["report"]
