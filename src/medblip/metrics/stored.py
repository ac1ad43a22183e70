"""Statistics of one system as a file, so that paired tests need no captions and no model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medblip.errors import MetricError, explain
from medblip.metrics.base import Aggregation, Agreement, Means, Ratio, Statistics
from medblip.metrics.bleu import Bleu
from medblip.metrics.meteor import Meteor
from medblip.metrics.ngrams import Ints

__all__ = ["StoredStatistics", "load_statistics", "references_digest", "save_statistics"]

#: How an aggregation is made again from its class, names and signature.
_KINDS: dict[str, Callable[[Sequence[str], str], Aggregation]] = {
    "Bleu": lambda names, signature: Bleu(),
    "Meteor": lambda names, signature: Meteor(),
    "Ratio": lambda names, signature: Ratio(names[0], signature),
    "Means": lambda names, signature: Means(names, signature),
    "Agreement": lambda names, signature: Agreement(names[0].removesuffix("-P"), signature),
}


@dataclasses.dataclass(frozen=True)
class StoredStatistics:
    """What paired tests need of one system: no captions.

    Args:
        ids: Image ids.
        families: Statistics by family name.
        groups: Number of each image's group, int64 (images,), or None when each stands alone.
        references: Digest of the references, so that only scores against the same are compared.
    """

    ids: tuple[str, ...]
    families: dict[str, Statistics]
    groups: Ints | None
    references: str = ""


def references_digest(references: Sequence[Sequence[str]]) -> str:
    """Return what tells references apart, in the order of the images."""
    text = json.dumps([list(texts) for texts in references])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save_statistics(path: Path, system: StoredStatistics) -> None:
    """Write the statistics (npz, no pickle) for later paired tests.

    Raises:
        RunError: The folder cannot be written.
    """
    from medblip.files import staged_file

    arrays: dict[str, Any] = {f"family:{n}": s.values for n, s in system.families.items()}
    arrays["ids"] = np.array(json.dumps(list(system.ids)))
    arrays["references"] = np.array(system.references)
    arrays["kinds"] = np.array(json.dumps({n: _kind(s) for n, s in system.families.items()}))
    if system.groups is not None:
        arrays["groups"] = system.groups
    with staged_file(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_statistics(path: Path) -> StoredStatistics:
    """Read what `save_statistics` wrote.

    Raises:
        MetricError: The file is absent or holds something else.
    """
    from zipfile import BadZipFile

    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        ids = tuple(json.loads(str(stored["ids"])))
        families = {
            name: Statistics(
                _KINDS[kind["kind"]](kind["names"], kind["signature"]),
                stored[f"family:{name}"],
                kind["context"],
            )
            for name, kind in json.loads(str(stored["kinds"])).items()
        }
    except (OSError, ValueError, KeyError, EOFError, AttributeError, BadZipFile) as error:
        raise MetricError(
            explain(
                f"{path}: statistics cannot be read",
                got=type(error).__name__,
                expected="the .npz that `medblip evaluate` writes beside the scores",
                do="evaluate this run again with --force",
            )
        ) from error
    return StoredStatistics(ids, families, stored.get("groups"), str(stored.get("references", "")))


def _kind(family: Statistics) -> dict[str, Any]:
    """Return the nearest base that `_KINDS` can make again, with its names and signature."""
    kind = next(base.__name__ for base in type(family.metric).__mro__ if base.__name__ in _KINDS)
    return {
        "kind": kind,
        "names": list(family.metric.names),
        "signature": family.metric.signature,
        "context": family.context,
    }
