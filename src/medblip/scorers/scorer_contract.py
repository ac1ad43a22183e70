"""What the ready adapters share: rows in, result out, pairs scored in batches, needs looked for.

Runs in the user's other Python environment (3.8 or newer, standard library only) and imports
nothing of medblip. Knows no scorer. `python scorer_contract.py '<needs as JSON>'` prints which
modules, weights and programs of a scorer are missing, without importing any of them.
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import importlib.util
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any


def options(description: str | None, **defaults: str) -> argparse.Namespace:
    """Return the command line: `IN OUT`, `--device`, and one option per keyword."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    for name, default in defaults.items():
        parser.add_argument("--" + name.replace("_", "-"), default=default)
    parser.add_argument("input", help="JSON lines: id, hyp, refs, image")
    parser.add_argument("output", help="where the result goes, as JSON")
    return parser.parse_args()


def on_gpu(device: str) -> bool:
    """Whether the models go to the GPU; `auto` takes one that is there."""
    import torch

    return device == "cuda" or (device == "auto" and torch.cuda.is_available())


def read_rows(path: str) -> list[dict[str, Any]]:
    """Return the rows of the input file."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def write_result(
    path: str,
    rows: Sequence[dict[str, Any]],
    scorer: str,
    version: str,
    models: dict[str, str],
    per_item: dict[str, list[float | None]] | None = None,
    counts: dict[str, list[list[float] | None]] | None = None,
    errors: dict[str, str] | None = None,
    lower_is_better: Sequence[str] = (),
) -> None:
    """Write the result in the shape of the contract."""
    result = {
        "scorer": scorer,
        "version": version,
        "models": models,
        "ids": [row["id"] for row in rows],
        "corpus": {},
        "per_item": per_item or {},
        "counts": counts or {},
        "errors": errors or {},
        "lower_is_better": list(lower_is_better),
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(result, file, allow_nan=False)


def score_rows(
    rows: Sequence[dict[str, Any]],
    score: Callable[[list[str], list[str]], dict[str, Any]],
    columns: Sequence[str],
    batch: int = 32,
    empty: float | None = 0.0,
    lower: Sequence[str] = (),
) -> tuple[dict[str, list[float | None]], dict[str, str]]:
    """Return values by column, None where an image failed, and the errors by image id.

    Every caption is paired with each of its references; an image has its best value.

    Args:
        rows: Of the input file.
        score: Called with at most `batch` pairs; once more pair by pair where it raises.
        columns: What `score` returns.
        batch: Pairs per call.
        empty: Value of an empty caption, which is never passed on; None passes it on.
        lower: Columns whose best value is the lowest.
    """
    pairs: list[tuple[int, str, str]] = []
    errors: dict[str, str] = {}
    found: list[dict[str, list[float]]] = [{name: [] for name in columns} for _ in rows]
    for number, row in enumerate(rows):
        references = [text for text in row["refs"] if says_something(text)]
        if not references:
            errors[row["id"]] = "no reference text"
        elif empty is not None and not says_something(row["hyp"]):
            found[number] = {name: [empty] for name in columns}
        else:
            pairs.extend((number, row["hyp"], text) for text in references)
    for start in range(0, len(pairs), batch):
        part = pairs[start : start + batch]
        for number, values, error in _scored(part, score, columns):
            if error:
                errors[rows[number]["id"]] = error
            for name, value in values.items():
                found[number][name].append(value)
    if pairs and not any(found[number][name] for number, _, _ in pairs for name in columns):
        raise SystemExit(
            "no image could be scored; the first error: " + next(iter(errors.values()))
        )
    return {
        name: [
            (min if name in lower else max)(values[name])
            if values[name] and row["id"] not in errors
            else None
            for row, values in zip(rows, found)  # noqa: B905 (Python 3.8)
        ]
        for name in columns
    }, errors


def _scored(
    part: Sequence[tuple[int, str, str]],
    score: Callable[[list[str], list[str]], dict[str, Any]],
    columns: Sequence[str],
) -> list[tuple[int, dict[str, float], str]]:
    """Return image number, finite values by column and error for each pair."""
    try:
        table = score([pair[1] for pair in part], [pair[2] for pair in part])
        if any(len(table[name]) != len(part) for name in columns):
            raise ValueError("the scorer returned fewer values than captions")
    except Exception as error:
        if len(part) > 1:  # one bad caption must not take the batch with it
            return [result for pair in part for result in _scored([pair], score, columns)]
        return [(part[0][0], {}, f"{type(error).__name__}: {error}")]
    results = []
    for index, pair in enumerate(part):
        raw = {name: table[name][index] for name in columns}
        values = {name: float(v) for name, v in raw.items() if v is not None}
        values = {name: v for name, v in values.items() if math.isfinite(v)}
        lost = ", ".join(name for name in columns if name not in values)
        results.append((pair[0], values, "no finite value: " + lost if lost else ""))
    return results


def count_rows(
    rows: Sequence[dict[str, Any]], items: Callable[[str], set[Any]]
) -> tuple[list[list[float] | None], dict[str, str]]:
    """Return [both, said, true] per image (None: failed), and the errors by image id.

    Args:
        rows: Of the input file.
        items: What a text names. Of several references the one that agrees best counts.
    """
    known: dict[str, set[Any]] = {}
    counts: list[list[float] | None] = []
    errors: dict[str, str] = {}

    def named(text: str) -> set[Any]:
        if text not in known:
            known[text] = items(text) if says_something(text) else set()
        return known[text]

    for row in rows:
        try:
            said = named(row["hyp"])
            options = [(said, named(text)) for text in row["refs"] if says_something(text)]
            agreed = [[float(len(a & b)), float(len(a)), float(len(b))] for a, b in options]
            if not agreed:
                raise ValueError("no reference text")
            counts.append(max(agreed, key=lambda c: 2 * c[0] / ((c[1] + c[2]) or 1)))
        except Exception as error:
            counts.append(None)
            errors[row["id"]] = f"{type(error).__name__}: {error}"
    if rows and not any(counts):
        raise SystemExit(
            "no image could be scored; the first error: " + next(iter(errors.values()))
        )
    return counts, errors


def says_something(text: str) -> bool:
    """Whether there is a letter or digit in a text; else it counts as empty."""
    return re.search(r"\w", text) is not None


def installed(distribution: str) -> str:
    """Return the version of an installed package, or `unknown`."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def fingerprint(path: str) -> str:
    """Return the first 16 hex digits of a file's SHA-256, so that a value names its weights."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return "sha256:" + digest.hexdigest()[:16]


def user_cache() -> str:
    """Return the folder in which radgraph and f1chexbert keep their weights (that of appdirs)."""
    if sys.platform == "darwin":
        return os.path.expanduser("~/Library/Caches")
    return os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")


def hub_cache() -> str:
    """Return the folder of models that Hugging Face libraries have downloaded."""
    environment = os.environ
    home = environment.get("HF_HOME") or os.path.join(
        environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"
    )
    return (
        environment.get("HF_HUB_CACHE")
        or environment.get("HUGGINGFACE_HUB_CACHE")
        or os.path.join(home, "hub")
    )


def hub_revision(model: str) -> str:
    """Return `org/name@commit` of a model in the cache; of a folder its name."""
    if os.path.isdir(model):
        return os.path.basename(os.path.abspath(model))
    path = os.path.join(hub_cache(), "models--" + model.replace("/", "--"), "refs", "main")
    try:
        with open(path, encoding="ascii") as file:
            return model + "@" + file.read().strip()
    except OSError:
        return model


def missing(needs: dict[str, Any]) -> list[dict[str, str]]:
    """Return what is not there: `{"kind", "what", "where"}` each; imports none of it."""
    lost = []
    for module in needs.get("modules", []):
        if importlib.util.find_spec(module) is None:
            lost.append({"kind": "module", "what": module, "where": sys.executable})
    for program in needs.get("programs", []):
        if shutil.which(program) is None:
            lost.append({"kind": "program", "what": program, "where": "PATH"})
    for weights in needs.get("weights", []):
        where = _not_found(weights)
        if where:
            lost.append({"kind": "weights", "what": weights["what"], "where": where})
    return lost


def _not_found(weights: dict[str, str]) -> str:
    """Return where weights were looked for in vain; empty when they are there."""
    if "hub" in weights:
        folder = os.path.join(hub_cache(), "models--" + weights["hub"].replace("/", "--"))
        pattern = os.path.join(glob.escape(folder), "snapshots", "*", weights.get("file", "*"))
        return "" if glob.glob(pattern) else pattern
    if "nltk" in weights:
        folders = _nltk_folders()
        there = any(os.path.exists(os.path.join(f, weights["nltk"])) for f in folders)
        return "" if there else weights["nltk"] + " in " + ", ".join(folders)
    path, unset = _expand(weights["file"])
    if unset:
        return unset
    return "" if os.path.exists(path) else path


def _nltk_folders() -> list[str]:
    own = os.environ.get("NLTK_DATA", "").split(os.pathsep)
    home = os.path.expanduser("~/nltk_data")
    inside = [os.path.join(sys.prefix, *p) for p in (["nltk_data"], ["share", "nltk_data"])]
    return [f for f in [*own, home, *inside, "/usr/share/nltk_data"] if f]


def _expand(template: str) -> tuple[str, str]:
    """Return a path with its {places} filled in, or what is not set.

    `{cache}`: user_cache(); `{version:P}`: of package P; `{package:P}`: folder of package P;
    `{env:V}`: environment variable V.
    """
    unset = ""

    def fill(match: re.Match[str]) -> str:
        nonlocal unset
        kind, _, name = match.group(1).partition(":")
        if kind == "cache":
            return user_cache()
        if kind == "version":
            return installed(name)
        if kind == "package":
            spec = importlib.util.find_spec(name)
            folders = list(spec.submodule_search_locations or []) if spec else []
            unset = unset or ("" if folders else "the folder of package " + name)
            return folders[0] if folders else ""
        value = os.environ.get(name, "")
        unset = unset or ("" if value else "environment variable " + name + " is not set")
        return value

    return os.path.expanduser(re.sub(r"\{([^}]+)\}", fill, template)), unset


def main() -> None:
    """Print what is missing, as JSON."""
    json.dump({"missing": missing(json.loads(sys.argv[1]))}, sys.stdout)


if __name__ == "__main__":
    main()
