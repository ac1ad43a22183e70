"""README.md of a run or a data set, as the hub wants it; every number comes from their files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from medblip.data.card import MARK
from medblip.data.card import card as prepared_card
from medblip.data.phantoms.card import card as phantom_card
from medblip.errors import DataError, RunError, explain
from medblip.files import write_text
from medblip.markdown import front_matter
from medblip.rundir import RunDir
from medblip.stages.card.collect import collect, read_source
from medblip.stages.card.front import metadata
from medblip.stages.card.sections import SECTIONS, introduction

__all__ = ["Carded", "card", "data_card", "model_card"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Carded:
    """Where the card is.

    Args:
        card: The file.
        kind: `model` or `data`.
        missing: What the card says is missing.
    """

    card: str
    kind: str
    missing: list[str]


def card(
    source: Path | str,
    *,
    data: Path | str | None = None,
    split: str | None = None,
    comparison: Path | str | None = None,
    licence: str | None = None,
    out: Path | str | None = None,
    force: bool = False,
) -> Carded:
    """Write the model card of a run, or the data card of a prepared data set.

    Args:
        source: Run directory, or prepared data set.
        data: Where the data set of the run is now; None: where it was.
        split: Whose scores a model card shows; None: the first of test, validation, train that has
            any.
        comparison: JSON file of `compare`; None: that of the run's study, else `comparison.json`
            beside the run.
        licence: Of the weights, as the hub names licences; None: the base model's.
        out: File; None: `README.md` in the run or the data set.
        force: Replace a file that is no card of ours.

    Raises:
        RunError: There is neither, a file is damaged, or the card's place is taken.
        ConfigError: `licence` is no licence's name.
    """
    root = Path(source)
    target = Path(out) if out is not None else root / "README.md"
    missing: list[str] = []
    if (root / "manifest.jsonl").exists():
        kind, text = "data", data_card(root)
    else:
        kind = "model"
        text, missing = _model_card(RunDir(root), None, data, split, comparison, licence)
    if target.exists() and not force and not _is_ours(target):
        raise RunError(
            explain(
                f"{target} is taken",
                got="a file that `medblip card` did not write",
                expected="no file, or an earlier card",
                do="choose another --out, or add --force to replace it",
            )
        )
    write_text(target, text)
    return Carded(card=str(target), kind=kind, missing=missing)


def model_card(
    run: Path | str,
    *,
    name: str | None = None,
    data: Path | str | None = None,
    split: str | None = None,
    comparison: Path | str | None = None,
    licence: str | None = None,
) -> str:
    """Return the model card of a run; `name` is what the hub calls it. Else as `card`."""
    return _model_card(RunDir(run), name, data, split, comparison, licence)[0]


def data_card(data: Path | str) -> str:
    """Return the data card of a prepared data set, from stats.json, check.json and its manifest.

    Raises:
        DataError: It is no prepared data set.
    """
    root = Path(data)
    found = read_source(root)
    if found.why_not or not found.stats:
        raise DataError(
            explain(
                f"{root} is not a prepared data set",
                got="no manifest.jsonl or no stats.json there",
                expected="a folder that `medblip data prepare` or `data phantoms` wrote",
                do="prepare the data, or correct the path",
            )
        )
    if "licences" not in found.stats:
        return phantom_card(found.stats, found.checked)
    return prepared_card(found.name, found.stats, found.checked)


def _model_card(
    run: RunDir, name: str | None, data: Any, split: str | None, comparison: Any,
    licence: str | None,
) -> tuple[str, list[str]]:  # fmt: skip
    found = collect(
        run, name=name, split=split, data=Path(data) if data is not None else None,
        comparison=Path(comparison) if comparison is not None else None,
    )  # fmt: skip
    blocks = [introduction(found), *(section(found) for section in SECTIONS)]
    text = "\n\n".join("\n".join(block) for block in blocks if block)
    return f"{front_matter(metadata(found, licence))}\n{text}\n\n{MARK}\n", found.missing


def _is_ours(file: Path) -> bool:
    return MARK in file.read_text(encoding="utf-8", errors="replace")
