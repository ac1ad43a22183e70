"""Stage `train`: fine-tune on the training split, keep the best on the validation split."""

from medblip.stages.train.loop import Trained, train, train_step

__all__ = ["Trained", "train", "train_step"]
