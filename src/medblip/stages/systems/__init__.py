"""Stage `compare` on a list of systems: caption, score, test and report whatever is named there."""

from medblip.stages.systems.listed import SystemSpec, read_list
from medblip.stages.systems.stage import Studied, caption_all, compare_systems, planned

__all__ = ["Studied", "SystemSpec", "caption_all", "compare_systems", "planned", "read_list"]
