"""Stage `report`: scores, tests, costs, captions and maps of one or more runs, from their files."""

from medblip.stages.report.stage import FORMATS, report

__all__ = ["FORMATS", "report"]
