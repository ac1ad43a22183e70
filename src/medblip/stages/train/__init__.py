"""Stage `train`: fine-tune on the training split, keep the best on the validation split."""

from medblip.stages.train.loop import train
from medblip.stages.train.session import Trained

__all__ = ["Trained", "train"]
