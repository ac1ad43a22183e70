"""What lies behind a mean: image by image, metric against metric, group by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medblip.data.captions import References, read_references
from medblip.errors import MedblipError
from medblip.files import read_json
from medblip.metrics.agreement import kendall_matrix
from medblip.metrics.base import Agreement, Floats
from medblip.metrics.stored import StoredStatistics, references_digest
from medblip.metrics.strata import counted, levels, stratified
from medblip.rundir import RunDir

__all__ = ["details"]

#: Values per image that differ by less are equal.
_TIE = 1e-9
#: Behind the interval of each group; the tests have more.
_RESAMPLES = 1000


def details(
    systems: Mapping[str, StoredStatistics],
    baseline: str,
    metrics: Sequence[str],
    *,
    paths: Sequence[Path],
    split: str,
    references: Path | str | None,
    seed: int,
) -> dict[str, Any]:
    """Return `outcomes`, `agreement`, `strata`, `weakest` and `notes` of a comparison.

    Args:
        systems: Name -> statistics, all of the same images.
        baseline: One of the names.
        metrics: Those that are tested.
        paths: Of the systems; the first run directory says which data set it was.
        split: Of it.
        references: Data set or table instead.
        seed: Of the resampling.
    """
    values = {name: _per_image(system, metrics) for name, system in systems.items()}
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    try:
        strata = _strata(paths, split, references, systems[baseline])
    except MedblipError as error:
        strata, notes = {}, [f"no groups: {str(error).splitlines()[0]}"]
    if strata:
        for name, system in systems.items():
            found = stratified(
                list(system.families.values()), metrics, strata, resamples=_RESAMPLES, seed=seed,
                groups=system.groups,
            )  # fmt: skip
            rows += [{"system": name} | row for row in found]
    return {
        "outcomes": _outcomes(values, baseline, metrics),
        "agreement": {
            "metrics": list(metrics),
            "kendall": {name: kendall_matrix(table) for name, table in values.items()},
        },
        "strata": rows,
        "weakest": _weakest(rows, systems),
        "notes": notes,
    }


def _per_image(system: StoredStatistics, metrics: Sequence[str]) -> Floats:
    """Return (images, metrics); NaN where an image has no value.

    To say nothing where nothing is to be said has one: another system may invent something there.
    """
    columns = {
        name: values[:, index]
        for family in system.families.values()
        if not set(family.metric.names).isdisjoint(metrics)
        for there in [counted(family) | isinstance(family.metric, Agreement)]
        for values in [np.where(there[:, None], family.per_image(), np.nan)]
        for index, name in enumerate(family.metric.names)
    }
    return np.stack([columns[name] for name in metrics], axis=1)


def _outcomes(
    values: Mapping[str, Floats], baseline: str, metrics: Sequence[str]
) -> list[dict[str, Any]]:
    rows = []
    for name, table in values.items():
        if name == baseline:
            continue
        difference = table - values[baseline]
        for index, metric in enumerate(metrics):
            known = difference[~np.isnan(difference[:, index]), index]
            wins, losses = int((known > _TIE).sum()), int((known < -_TIE).sum())
            rows.append(
                {"system": name, "baseline": baseline, "metric": metric, "wins": wins,
                 "ties": len(known) - wins - losses, "losses": losses, "n": len(known)}
            )  # fmt: skip
    return rows


def _strata(
    paths: Sequence[Path], split: str, references: Path | str | None, scored: StoredStatistics
) -> dict[str, list[str]]:
    """Return the groups of the images, in the order in which they were scored.

    Raises:
        MedblipError: The references are not to be had, or are of other images.
    """
    from medblip.errors import RunError, explain

    source = Path(references) if references is not None else _data_of(paths, split)
    if source is None:
        raise RunError(
            explain(
                "nothing says which data set this is",
                got="scores alone",
                expected="a run directory, or --references",
                do="name the references",
            )
        )
    ids, known = scored.ids, read_references(source, split)
    place = {name: index for index, name in enumerate(known.ids)}
    if set(place) != set(ids):
        raise RunError(
            explain(
                f"{source} holds other images",
                got=f"{len(place)} images",
                expected=f"the {len(ids)} that were scored",
                do="name the right references",
            )
        )
    order = [place[name] for name in ids]
    if scored.references not in (
        "",
        references_digest([]),
        references_digest([known.captions[index] for index in order]),
    ):
        raise RunError(
            explain(
                f"{source} holds other captions than were scored against",
                got="the same images, other references",
                expected="the references of the scores",
                do="name the right references, or evaluate again",
            )
        )
    learned = _training(source)
    return levels(
        [known.captions[index] for index in order],
        None if known.facts is None else [known.facts[index] for index in order],
        () if learned is None else learned.captions,
        None if learned is None else learned.facts,
    )


def _data_of(paths: Sequence[Path], split: str) -> Path | None:
    for path in paths:
        note = RunDir(path).predictions(split).with_suffix(".json")
        if path.is_dir() and note.exists() and (data := read_json(note).get("data")):
            return Path(data)
    return None


def _training(source: Path) -> References | None:
    """Return the training split, where there is one: what is rare is rare there."""
    if not source.is_dir():
        return None
    try:
        return read_references(source, "train")
    except MedblipError:
        return None


def _weakest(
    rows: Sequence[Mapping[str, Any]], systems: Mapping[str, StoredStatistics]
) -> list[dict[str, Any]]:
    """Return the groups whose interval lies wholly below the system's value on all images.

    Those of few images or few patients have none (`stratified`), and are not called weak.
    """
    overall = {
        (name, metric): float(value)
        for name, system in systems.items()
        for family in system.families.values()
        for metric, value in zip(family.metric.names, family.corpus(), strict=True)
    }
    found = [
        {key: row[key] for key in ("system", "metric", "stratum", "level", "n", "value", "ci")}
        | {"overall": overall[row["system"], row["metric"]]}
        for row in rows
        if row["ci"] is not None and row["ci"][1] < overall[row["system"], row["metric"]]
    ]
    return sorted(found, key=lambda row: (row["system"], row["metric"], row["value"]))
