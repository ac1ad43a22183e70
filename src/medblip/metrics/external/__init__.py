"""External scorers: what they are told, what they answer, and one run of one scorer."""

from medblip.metrics.external.run import ScorerResult, ScorerRow, run_scorer
from medblip.metrics.external.specs import (
    ReadyAdapter,
    ScorerSpec,
    load_scorers,
    parse_scorer,
    preflight,
)

__all__ = [
    "ReadyAdapter",
    "ScorerResult",
    "ScorerRow",
    "ScorerSpec",
    "load_scorers",
    "parse_scorer",
    "preflight",
    "run_scorer",
]
