"""Fine-tune vision-language captioners for radiology images, compare them honestly, explain them.

Every command of the command line is also a function of the same name here:

    >>> import medblip
    >>> medblip.prepare("images/", out="data/x")                      # doctest: +SKIP
    >>> medblip.train("configs/blip_base.toml", data="data/x", out="runs/a")  # doctest: +SKIP
    >>> medblip.caption("runs/a", split="test")                       # doctest: +SKIP
    >>> medblip.evaluate("runs/a", split="test")                      # doctest: +SKIP
    >>> medblip.report("runs/a")                                      # doctest: +SKIP

Importing this package imports no torch: names are loaded when they are first used.
Not a medical device.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "ablate": "medblip.stages.ablate",
    "caption": "medblip.stages.caption",
    "card": "medblip.stages.card",
    "check": "medblip.stages.check",
    "compare": "medblip.stages.compare",
    "compare_systems": "medblip.stages.systems",
    "convert_checkpoint": "medblip.stages.convert",
    "demo": "medblip.stages.demo",
    "doctor": "medblip.stages.doctor",
    "evaluate": "medblip.stages.evaluate",
    "explain": "medblip.stages.explain",
    "faithfulness": "medblip.stages.explain.faithfulness",
    "load_captioner": "medblip.models.captioner",
    "list_models": "medblip.stages.models",
    "plan": "medblip.stages.train.plan",
    "phantoms": "medblip.data.phantoms.generate",
    "prepare": "medblip.stages.prepare",
    "push": "medblip.stages.push",
    "reproduce": "medblip.stages.reproduce",
    "report": "medblip.stages.report",
    "show": "medblip.stages.show",
    "submit": "medblip.stages.submit",
    "train": "medblip.stages.train",
    "validate_submission": "medblip.stages.submit",
    "MedblipError": "medblip.errors",
}
_NAMES_THERE = {"phantoms": "generate"}

__all__ = [
    "MedblipError",
    "__version__",
    "ablate",
    "caption",
    "card",
    "check",
    "compare",
    "compare_systems",
    "convert_checkpoint",
    "demo",
    "doctor",
    "evaluate",
    "explain",
    "faithfulness",
    "list_models",
    "load_captioner",
    "phantoms",
    "plan",
    "prepare",
    "push",
    "report",
    "reproduce",
    "show",
    "submit",
    "train",
    "validate_submission",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medblip' has no attribute {name!r}")
    module = importlib.import_module(_HOMES[name])
    return getattr(module, _NAMES_THERE.get(name, name))


def __dir__() -> list[str]:
    return sorted(__all__)
