"""Stage `doctor`: what will go wrong with a training, before it costs a night."""

from medblip.stages.doctor.diagnose import Diagnosed, Finding, doctor

__all__ = ["Diagnosed", "Finding", "doctor"]
