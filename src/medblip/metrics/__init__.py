"""Caption metrics with intervals and paired tests; imports no torch."""

from medblip.metrics.stored import StoredStatistics, load_statistics, save_statistics
from medblip.metrics.table import Table, evaluate_captions
from medblip.metrics.tokenize import tokenize

__all__ = [
    "StoredStatistics",
    "Table",
    "evaluate_captions",
    "load_statistics",
    "save_statistics",
    "tokenize",
]
