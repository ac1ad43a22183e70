"""Stage `reproduce`: the paper's study on the user's data, by one command."""

from medblip.stages.reproduce.steps import Reproduced, reproduce

__all__ = ["Reproduced", "reproduce"]
