"""Stage `compare`: is a difference more than chance, and what does a mean hide?"""

from medblip.stages.compare.stage import HEADLINES, Compared, compare

__all__ = ["HEADLINES", "Compared", "compare"]
