"""Scorers that run in another Python environment: their contract, and one run of one scorer.

The contract, version 1. A command is started with two file names as its last arguments, IN and OUT
(or wherever it says `{in}` and `{out}`); IN is also its standard input. IN has one JSON object per
line: `{"id", "hyp", "refs": [...], "image": path or null}`. The command writes to OUT one JSON
object:

| key | content |
| --- | --- |
| `scorer`, `version` | text |
| `models` | `{what: which}`, e.g. a model and its revision |
| `per_item` | `{column: [number or null, ...]}` in the order of IN; null: this image failed |
| `counts` | `{column: [[both, said, true] or null, ...]}`: items of caption and reference, for F1 |
| `corpus` | `{column: number}`: what is not a mean over images |
| `errors` | `{id: message}` of images that failed |
| `ids` | optional: the ids in order, which are then compared |
| `lower_is_better` | optional: columns |

At least one of `per_item`, `counts`, `corpus` holds a column. Exit status 0. What is printed does
not matter. Whatever a scorer does instead becomes a reason in its result, never an exception.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medblip.errors import explain
from medblip.metrics.base import Agreement, Ratio, Statistics
from medblip.metrics.external.child import Ended, run_child
from medblip.metrics.external.specs import (
    ScorerSpec,
    child_environment,
    preflight,
)

__all__ = ["ScorerResult", "ScorerRow", "run_scorer"]

_CONTRACT = "medblip-external:1"
_COLUMN = re.compile(r"[A-Za-z0-9][\w.+/@%-]{0,63}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScorerRow:
    """One image: caption, its references, and where the image lies, if anywhere."""

    id: str
    hyp: str
    refs: tuple[str, ...]
    image: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScorerResult:
    """What one run of a scorer gave.

    Args:
        name: Of the scorer; every metric begins with it.
        families: Statistics by family; an image that failed has denominator (or counts) 0.
        scored: Images that have a value, by family: the n of its values.
        corpus: Values for all images together, without any per image: no interval, no paired test.
        unavailable: Why there is nothing, and what to do; None when there is something.
        failed: Messages by id, of images without a value in some column.
        lower_is_better: Metrics of which a lower value is better.
        notes: What a reader must know, e.g. the domain that the scorer was built for.
        models: Which models, by what they do.
        version: Of the scorer.
        seconds: Wall time.
    """

    name: str
    families: dict[str, Statistics] = dataclasses.field(default_factory=dict)
    scored: dict[str, int] = dataclasses.field(default_factory=dict)
    corpus: dict[str, float] = dataclasses.field(default_factory=dict)
    unavailable: str | None = None
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    lower_is_better: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    models: dict[str, str] = dataclasses.field(default_factory=dict)
    version: str = ""
    seconds: float = 0.0


class _BreachError(Exception):
    """A result does not follow the contract; becomes a reason."""


def run_scorer(
    spec: ScorerSpec, rows: Sequence[ScorerRow], *, timeout_s: float = 3600.0
) -> ScorerResult:
    """Run a scorer over all images; what goes wrong is in the result, never raised.

    Args:
        spec: Of `parse_scorer` or `load_scorers`.
        rows: One per image.
        timeout_s: Time limit, unless the scorer has its own.
    """
    if not rows or len({row.id for row in rows}) < len(rows):
        return ScorerResult(name=spec.name, unavailable="no images, or two with one id")
    limit_s = timeout_s if spec.timeout_s is None else spec.timeout_s
    ended: Ended | None = None
    try:
        reason = preflight(spec)
        if reason is not None:
            return ScorerResult(name=spec.name, unavailable=reason)
        with tempfile.TemporaryDirectory(prefix="medblip-", ignore_cleanup_errors=True) as folder:
            ended = _run(spec, rows, Path(folder), limit_s)
            reason = _why_it_failed(ended, limit_s)
            if reason is None:
                found = _checked(spec, rows, _payload(Path(folder) / "out.json"))
                return dataclasses.replace(found, seconds=ended.seconds)
    except _BreachError as breach:
        reason = str(breach)
    except OSError as error:
        reason = f"cannot be run: {error}"
    return ScorerResult(
        name=spec.name,
        unavailable=explain(
            f"scorer {spec.name}: {reason}",
            got=_indented(ended.tail) if ended and ended.tail else "nothing on its outputs",
            expected="exit status 0 and a result as the contract says",
            do="run it alone to see more; its columns are left out, all others are there",
        ),
        seconds=ended.seconds if ended else 0.0,
    )


def _run(spec: ScorerSpec, rows: Sequence[ScorerRow], folder: Path, limit_s: float) -> Ended:
    source, target = folder / "in.jsonl", folder / "out.json"
    with source.open("w", encoding="ascii") as file:  # escapes: any locale of the child reads it
        for row in rows:
            file.write(json.dumps(dataclasses.asdict(row)) + "\n")
    places = {"{in}": str(source), "{out}": str(target)}
    start = spec.start()
    command = [places.get(word, word) for word in start]
    command += [path for place, path in places.items() if place not in start]
    scratch = folder / "tmp"  # goes with the folder, also after a kill
    scratch.mkdir()
    env = {**child_environment(spec), "TMPDIR": str(scratch), **spec.env}
    return run_child(command, env=env, stdin=source, timeout_s=limit_s)


def _why_it_failed(ended: Ended, limit_s: float) -> str | None:
    if ended.code is None:
        return f"stopped after its time limit of {limit_s:g} s; nothing of it is used"
    number = -ended.code if ended.code < 0 else ended.code - 128  # 128 + n: a shell's report
    if ended.code < 0 or number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
        memory = ", most often for want of memory" if number == signal.SIGKILL else ""
        return f"killed by signal {number}{memory}"
    return f"ended with exit status {ended.code}" if ended.code else None


def _payload(path: Path) -> dict[str, Any]:
    try:
        payload = json.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise _BreachError("wrote no result") from None
    except UnicodeDecodeError as error:
        raise _BreachError(f"its result is not UTF-8 (byte {error.start})") from None
    except (ValueError, RecursionError) as error:
        raise _BreachError(f"its result is not JSON ({error})") from None
    if not isinstance(payload, dict):
        raise _BreachError(f"its result is a {type(payload).__name__}, not an object")
    return payload


def _checked(spec: ScorerSpec, rows: Sequence[ScorerRow], payload: dict[str, Any]) -> ScorerResult:
    """Return the result that a payload holds.

    Raises:
        _BreachError: It does not follow the contract, or no image has a value.
    """
    ids = [row.id for row in rows]
    if payload.get("ids") not in (None, ids):
        raise _BreachError("its ids are not those it was given, in their order")
    messages = {key: str(text) for key, text in _table(payload, "errors").items()}
    if strange := sorted(set(messages) - set(ids)):
        raise _BreachError(f"errors for ids it was not given, e.g. {strange[0]!r}")
    models = _models(payload.get("models"))
    version = str(payload.get("version") or "unknown")
    how = "|".join([f"{spec.name}:{version}", *_sorted_models(models), _CONTRACT])
    families: dict[str, Statistics] = {}
    scored: dict[str, int] = {}
    failed: dict[str, str] = {}
    notes = [spec.ready.domain] if spec.ready else []
    for kind in ("per_item", "counts"):
        for column, values in _table(payload, kind).items():
            name = _metric_name(spec.name, column)
            family, lost = _family(kind, name, column, values, len(rows), how)
            if len(lost) == len(rows):
                notes.append(f"{name}: left out, no image has a value")
                messages.setdefault(ids[0], f"{column}: {lost[0]}")
                continue
            for i, why in lost.items():
                failed.setdefault(ids[i], messages.get(ids[i], f"{column}: {why}"))
            if set(family.metric.names) & {n for f in families.values() for n in f.metric.names}:
                raise _BreachError(f"two columns would both be called {name}")
            families[name], scored[name] = family, len(rows) - len(lost)
    corpus, more = _corpus(spec.name, _table(payload, "corpus"), families)
    if not families and not corpus:
        first = next(iter(messages.values()), "it holds no column")
        raise _BreachError(f"no image has a value; {first}")
    lower = {_metric_name(spec.name, c) for c in _names(payload, "lower_is_better")}
    return ScorerResult(
        name=spec.name,
        families=families,
        scored=scored,
        corpus=corpus,
        failed={key: failed[key] for key in ids if key in failed},
        lower_is_better=frozenset(lower & {*families, *corpus}),
        notes=(*notes, *more),
        models=models,
        version=version,
    )


def _family(
    kind: str, name: str, column: str, values: Any, images: int, how: str
) -> tuple[Statistics, dict[int, str]]:
    """Return the statistics of one column, and why by number of the images without a value."""
    if not isinstance(values, list) or len(values) != images:
        got = f"{len(values)} values" if isinstance(values, list) else type(values).__name__
        raise _BreachError(f"column {column}: {got} for {images} images")
    wide = 3 if kind == "counts" else 1
    table = np.zeros((images, 3 if kind == "counts" else 2))
    lost: dict[int, str] = {}
    for i, value in enumerate(values):
        cells = value if kind == "counts" and value is not None else [value]
        if value is None:
            lost[i] = "no value"
            continue
        if not isinstance(cells, list) or len(cells) != wide:
            raise _BreachError(f"column {column}: {str(value)[:80]!r} for image {i + 1}")
        numbers = [_number(cell, column, i) for cell in cells]
        if not all(map(math.isfinite, numbers)):
            lost[i] = f"not a finite number ({str(value)[:40]})"
        elif kind == "per_item":
            table[i] = numbers[0], 1.0
        elif not 0 <= numbers[0] <= min(numbers[1:]):
            raise _BreachError(f"column {column}: impossible counts {value} for image {i + 1}")
        else:
            table[i] = numbers
    metric = Agreement(name, how) if kind == "counts" else Ratio(name, how)
    return Statistics(metric, table), lost


def _corpus(
    scorer: str, values: dict[str, Any], families: Mapping[str, Statistics]
) -> tuple[dict[str, float], list[str]]:
    """Return what has no values per image; notes where a value is not the mean of its images."""
    corpus: dict[str, float] = {}
    notes = []
    for column, value in values.items():
        name = _metric_name(scorer, column)
        number = math.nan if value is None else _number(value, column, None)
        if not math.isfinite(number):
            notes.append(f"{name}: corpus value left out, not a finite number")
        elif name not in families:
            corpus[name] = number
        else:
            mean = float(families[name].corpus()[-1])
            if not math.isclose(mean, number, rel_tol=1e-4, abs_tol=1e-6):
                notes.append(f"{name}: {number:g} by the scorer, {mean:g} as mean of its images")
    return corpus, notes


def _number(value: Any, column: str, image: int | None) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        where = "the corpus" if image is None else f"image {image + 1}"
        raise _BreachError(f"column {column}: {str(value)[:40]!r} for {where} is no number")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _metric_name(scorer: str, column: str) -> str:
    """Return the column's name in tables: it begins with that of the scorer.

    >>> _metric_name("radgraph", "partial"), _metric_name("ratescore", "RaTEScore")
    ('radgraph-partial', 'RaTEScore')
    """
    if not _COLUMN.fullmatch(column):
        raise _BreachError(f"a column is called {column[:80]!r}")
    rest = column[len(scorer) :]
    begins = column.lower().startswith(scorer) and (not rest or not rest[0].isalnum())
    return column if begins else f"{scorer}-{column}"


def _table(payload: dict[str, Any], key: str) -> dict[str, Any]:
    value = payload.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _BreachError(f"{key} is a {type(value).__name__}, not an object")
    return value


def _names(payload: dict[str, Any], key: str) -> list[str]:
    value = payload.get(key) or []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _BreachError(f"{key} is not a list of columns")
    return value


def _models(value: Any) -> dict[str, str]:
    if isinstance(value, dict):
        return {str(key): str(text) for key, text in value.items()}
    values = value if isinstance(value, list) else [] if value is None else [value]
    return {f"model {i}": str(text) for i, text in enumerate(values, start=1)}


def _sorted_models(models: Mapping[str, str]) -> list[str]:
    return [f"{key}:{models[key]}".replace("|", "/") for key in sorted(models)]


def _indented(text: str) -> str:
    return text.replace("\n", "\n            ")
