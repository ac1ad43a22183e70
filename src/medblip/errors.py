"""Errors that a user can mend. Everything else keeps its traceback, because it is a bug of ours.

```
MedblipError
├── ConfigError       a setting is unknown, malformed or contradicts another one
├── DataError         a data set, table or manifest is not what it should be
│   └── ImageError    one image cannot be decoded (becomes a counted reject)
│       └── DicomError    one DICOM file cannot be read, in the words of a fixed list
├── CheckpointError   a model folder is absent, incomplete or of an unknown kind
├── HubError          the hub of models refuses what is published, or does not answer
├── MetricError       predictions and references do not belong together
└── RunError          a run directory is unfinished, finished already or cannot be written
    └── LockedError   another process is writing there
```

Every message is built by `explain`: what was got, what was expected, what to do.
The command line prints it and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DicomError",
    "HubError",
    "ImageError",
    "LockedError",
    "MedblipError",
    "MetricError",
    "RunError",
    "explain",
    "nearest",
]


class MedblipError(Exception):
    """Base of every error whose message is meant for the user."""


class ConfigError(MedblipError):
    """A setting is unknown, malformed or contradicts another one."""


class DataError(MedblipError):
    """A data set, a table or a manifest is not what it should be."""


class ImageError(DataError):
    """One image cannot be decoded; `data prepare` counts it as a reject."""


class DicomError(ImageError):
    """One DICOM file cannot be read; the reason is of a fixed list, never words of the file."""


class CheckpointError(MedblipError):
    """A model folder is absent, incomplete or of an unknown kind."""


class HubError(MedblipError):
    """The hub of models refuses what is published, or does not answer."""


class MetricError(MedblipError):
    """Predictions and references do not belong together."""


class RunError(MedblipError):
    """A run directory is unfinished, finished already or cannot be written."""


class LockedError(RunError):
    """Another process is writing there."""


def explain(what: str, *, got: object, expected: str, do: str) -> str:
    """Return the one message shape of this package: what is wrong, got, expected, do.

    >>> print(explain("unknown key", got="train.epoch", expected="train.epochs", do="rename it"))
    unknown key
      got:      train.epoch
      expected: train.epochs
      do:       rename it
    """
    return f"{what}\n  got:      {got}\n  expected: {expected}\n  do:       {do}"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that looks most like `word`, or all of them when none does.

    >>> nearest("epoch", ["epochs", "seed"])
    'epochs'
    >>> nearest("zzz", ["epochs", "seed"])
    'one of: epochs, seed'
    """
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return close[0] if close else "one of: " + ", ".join(known)
