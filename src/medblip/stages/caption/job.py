"""What is to be done, and what came of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from medblip.config import ModelConfig, RunConfig
from medblip.rundir import RunDir

__all__ = ["Captioned", "Job"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captioned:
    """What the stage wrote, and how fast.

    Args:
        predictions: The file; "" for standard output, and of processes but the first.
        images: Captioned, in this call and before.
        rejected: Images that cannot be read.
        resumed: Of the images, those that an interrupted call had done.
        seconds: In the network and reading, by this process.
        images_per_second: Of this process.
    """

    predictions: str
    images: int = 0
    rejected: int = 0
    resumed: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0


@dataclasses.dataclass(frozen=True)
class Job:
    """What is captioned by what, and where to.

    Args:
        cfg: Data set, decoding.
        model: The captioner.
        run: Run directory that the captions belong to, or None.
        split: Of the data set.
        images: What to caption instead of a split.
        target: The file; None is standard output.
        form: `jsonl`, `csv` or `txt`.
        trained: Whether a run of `train` made the captioner.
    """

    cfg: RunConfig
    model: ModelConfig
    run: RunDir | None
    split: str
    images: tuple[str, ...]
    target: Path | None
    form: str
    trained: bool
