"""One run of an ablation as a process of its own: `python -m medblip.stages.ablate.child ORDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from medblip import config as configuration
from medblip.errors import MedblipError
from medblip.rundir import RunDir
from medblip.stages.ablate.grid import Variant
from medblip.stages.ablate.trainings import Job, run_one

__all__ = ["main"]


def main(order: str) -> int:
    """Do what `trainings` ordered, as JSON; 2: an error that the user can mend was printed."""
    told = json.loads(order)
    cfg = configuration.parse(told["config"])
    variant = Variant(told["name"], told["set"], told["zero_shot"], cfg)
    job = Job(variant, told["seed"], cfg, RunDir(Path(told["run"])), told["data"])
    try:
        run_one(job, split=told["split"], meteor=told["meteor"], force=told["force"])
    except MedblipError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
