"""One run: its paths, how a run is replaced, and the environment that a result depends on."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from medblip.errors import RunError, explain
from medblip.files import explain_os_errors, lock, write_text
from medblip.schema import dump_jsonl, read_jsonl

__all__ = ["RunDir", "environment"]


class RunDir:
    """The paths of one run and the lock that keeps a second writer out.

    ```
    runs/<id>/
    ├── config.json  environment.json  trainable.json (which parameters train, at which rate)
    ├── metrics.jsonl                 one record per line, append-only
    ├── checkpoints/best/             loads with `from_pretrained`
    ├── checkpoints/step-000123/      the same, and what a resumed run needs (`medblip.checkpoint`)
    ├── train.json                    written last: the run is complete
    ├── predictions/<split>.jsonl     {id, caption, logprob};  <split>.json: how they were made
    ├── scores/<split>.json           value, interval, n, signature;  .npz: per-image statistics
    ├── maps/<split>.json             per-word cross-attention of a few images
    ├── maps/<split>.faithfulness.json    whether the maps are true;  .npz: per-image statistics
    ├── maps/images/                  of named images: index.html, figures, all attention
    ├── report.html
    └── README.md                     the model card
    ```

    Args:
        path: The run directory; it need not exist.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    config = property(lambda self: self.path / "config.json")
    environment = property(lambda self: self.path / "environment.json")
    trainable = property(lambda self: self.path / "trainable.json")
    metrics = property(lambda self: self.path / "metrics.jsonl")
    checkpoints = property(lambda self: self.path / "checkpoints")
    checkpoint = property(lambda self: self.path / "checkpoints" / "best")
    completion = property(lambda self: self.path / "train.json")
    report = property(lambda self: self.path / "report.html")
    #: Where the run waits that this one, not complete yet, is to replace.
    replaces = property(lambda self: self.path.with_name(self.path.name + ".old.partial"))

    def predictions(self, split: str) -> Path:
        """Return the path of the captions of one split."""
        return self.path / "predictions" / f"{split}.jsonl"

    def scores(self, split: str) -> Path:
        """Return the path of the scores of one split."""
        return self.path / "scores" / f"{split}.json"

    def maps(self, split: str) -> Path:
        """Return the path of the attention maps of one split."""
        return self.path / "maps" / f"{split}.json"

    def cut_metrics(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Forget the records that will be made again, and a line that a kill has torn."""
        if self.metrics.exists():
            rows = read_jsonl(self.metrics, tolerate_torn_tail=True)
            write_text(self.metrics, dump_jsonl(row for row in rows if keep(row)))

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Append one record to `metrics.jsonl` in a single write."""
        with explain_os_errors(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    @contextlib.contextmanager
    def replaced(self, *, force: bool) -> Iterator[None]:
        """Make room for a new run; an old one returns to its place unless the new one completes.

        Raises:
            RunError: Something is there and `force` is not given, or somebody is writing there.
        """
        retired = self.replaces
        self.bring_back()
        occupied = self.path.exists() and any(self.path.iterdir())
        if occupied and not force:
            finished = self.completion.exists()
            raise RunError(
                explain(
                    f"{self.path} is taken",
                    got="a finished run" if finished else "an unfinished run, or other files",
                    expected="a new or empty folder",
                    do="choose another --out, or add --force to replace it",
                )
            )
        if occupied:
            with self.lock():  # refuses when somebody is writing there
                pass
            shutil.rmtree(retired, ignore_errors=True)
            self.path.replace(retired)
        try:
            yield
        except BaseException as error:
            if occupied and not getattr(error, "resumable", False):
                shutil.rmtree(self.path, ignore_errors=True)
                retired.replace(self.path)
            raise
        shutil.rmtree(retired, ignore_errors=True)

    def bring_back(self) -> None:
        """Let a run return that another, killed before it was complete, was to replace.

        Raises:
            RunError: Somebody is writing there: nothing was killed.
        """
        if self.replaces.exists() and not self.completion.exists():
            with self.lock():
                pass
            shutil.rmtree(self.path, ignore_errors=True)
            self.replaces.replace(self.path)

    def forget_replaced(self) -> None:
        """Delete the run that this one, complete by now, was to replace."""
        shutil.rmtree(self.replaces, ignore_errors=True)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold `LOCK` while writing into the run; see `medblip.files.lock`."""
        return lock(self.path)


def environment(**extra: Any) -> dict[str, Any]:
    """Describe what a result depends on besides its configuration: versions, machine, threads."""
    versions = {}
    for name in ("medblip", "torch", "transformers", "accelerate", "peft", "numpy", "pillow"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "versions": versions,
        **extra,
    }
