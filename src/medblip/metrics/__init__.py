"""Caption metrics with intervals and paired tests; imports no torch."""

from medblip.metrics.table import StoredStatistics, Table, evaluate_captions, load_statistics
from medblip.metrics.tokenize import tokenize

__all__ = ["StoredStatistics", "Table", "evaluate_captions", "load_statistics", "tokenize"]
