"""Stage `ablate`: variants times seeds, trained, scored, tested, and what each costs."""

from medblip.stages.ablate.stage import Ablated, ablate

__all__ = ["Ablated", "ablate"]
