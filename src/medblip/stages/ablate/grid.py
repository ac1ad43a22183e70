"""What an ablation varies, read from TOML: variants by name, a grid, seeds.

base = "blip_base.toml"               # or the sections of a training configuration, here
seeds = [0, 1, 2]
baseline = "full"                     # default: the first variant

[[variant]]
name = "full"
set = { "freeze.preset" = "full" }

[[variant]]
name = "zero-shot"                    # the captioner as it is
zero_shot = true

[grid]                                # further variants: every combination
"freeze.preset" = ["decoder", "encoder"]
"optim.lr" = [1e-4, 1e-3]
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from medblip import config as configuration
from medblip.config import RunConfig
from medblip.errors import ConfigError, explain, nearest
from medblip.settings import SECTIONS

__all__ = ["Grid", "Variant", "read_grid"]

_OWN = ("base", "seeds", "baseline", "variant", "grid")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One recipe.

    Args:
        name: In tables and folders.
        set: Dotted key -> value, on top of the base.
        zero_shot: Nothing is trained.
        cfg: Base and `set`, validated; without data set and seed.
    """

    name: str
    set: dict[str, Any]
    zero_shot: bool
    cfg: RunConfig

    @property
    def slug(self) -> str:
        """Name of its folders: `lr 1e-4` -> `lr-1e-4`."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-.") or "variant"

    def folder(self, seed: int) -> str:
        """Return the run directory of one seed, relative to the ablation's folder."""
        return self.slug if self.zero_shot else f"{self.slug}-{seed}"


@dataclasses.dataclass(frozen=True)
class Grid:
    """All of an ablation.

    Args:
        variants: At least two.
        seeds: Of training; what is not trained is captioned once.
        baseline: Name of one variant.
    """

    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    baseline: str


def read_grid(path: Path, seeds: tuple[int, ...] | None = None) -> Grid:
    """Read an ablation.

    Args:
        path: TOML file; see the module's docstring.
        seeds: Instead of the file's.

    Raises:
        ConfigError: The file is absent or malformed, a key is unknown, two variants are the same or
            have the same name, or there is nothing to compare.
    """
    found = _toml(path)
    known = [*_OWN, *SECTIONS]
    if unknown := [key for key in found if key not in known]:
        raise _refused(
            path, f"unknown key {unknown[0]}", ", ".join(known),
            f"did you mean {nearest(unknown[0], known)}?",
        )  # fmt: skip
    _require_types(path, found)
    base = {key: found[key] for key in SECTIONS if key in found}
    if "base" in found:
        below = configuration.dump(configuration.load(_file(path, found["base"])))
        base = {
            key: below[key] | base.get(key, {}) for key in below if isinstance(below[key], dict)
        }
    tables = [*_named(path, found.get("variant", [])), *_product(path, found.get("grid", {}))]
    variants = tuple(_variant(path, base, table) for table in tables)
    _require_different(path, variants)
    chosen = tuple(found.get("seeds", (0,))) if seeds is None else seeds
    if (
        not chosen
        or len(set(chosen)) != len(chosen)
        or not all(type(seed) is int and 0 <= seed < 2**32 for seed in chosen)
    ):
        raise ConfigError(
            explain(
                "seeds that cannot be used",
                got=list(chosen),
                expected="different whole numbers from 0, below 2^32",
                do="correct them",
            )
        )
    _require_folders(path, variants, chosen)
    names = [variant.name for variant in variants]
    baseline = found.get("baseline", names[0])
    if baseline not in names:
        raise _refused(
            path, f"baseline {baseline}", ", ".join(names),
            f"did you mean {nearest(str(baseline), names)}?",
        )  # fmt: skip
    return Grid(variants, chosen, baseline)


#: Key of a file -> what it must be, and in words.
_TYPES: dict[str, tuple[type, str]] = {
    "base": (str, "the name of a TOML file"),
    "seeds": (list, "a list of whole numbers"),
    "baseline": (str, "the name of a variant"),
    "variant": (list, "[[variant]] tables, with two brackets"),
    "grid": (dict, "a [grid] table"),
}


def _require_types(path: Path, found: dict[str, Any]) -> None:
    for key, value in found.items():
        kind, words = _TYPES.get(key, (dict, f"a [{key}] section"))
        if not isinstance(value, kind):
            raise _refused(path, f"{key} = {value}", words, "correct it")
    for table in found.get("variant", []):
        if not isinstance(table, dict):
            raise _refused(path, f"variant {table}", _TYPES["variant"][1], "correct it")
        for key, kind in (("name", str), ("set", dict), ("zero_shot", bool)):
            if key in table and not isinstance(table[key], kind):
                raise _refused(
                    path, f"{key} = {table[key]}",
                    {"name": "a text", "set": 'settings, { "optim.lr" = 1e-4 }',
                     "zero_shot": "true or false"}[key],
                    "correct it",
                )  # fmt: skip


def _require_folders(path: Path, variants: tuple[Variant, ...], seeds: tuple[int, ...]) -> None:
    """Refuse two runs in one folder: `decoder` with seed 0, and a zero-shot `decoder-0`."""
    folders: dict[str, str] = {"recipes": "the ablation's own notes"}
    for variant in variants:
        for folder in dict.fromkeys(variant.folder(seed) for seed in seeds):
            if folder in folders:
                raise _refused(
                    path, f"{variant.name} would lie in {folder}, as {folders[folder]}",
                    "a folder of its own for each run", f"rename {variant.name}",
                )  # fmt: skip
            folders[folder] = variant.name


def _file(path: Path, name: str) -> Path:
    below = path.parent / name
    if below.is_dir():
        raise _refused(path, f"base = {name}, a folder", "a TOML file", "correct it")
    return below


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            explain(
                f"{path} cannot be read",
                got=error,
                expected="TOML with [[variant]] tables or a [grid]",
                do="correct it; configs/ablation_phantoms.toml is one",
            )
        ) from None


def _named(path: Path, tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = ["name", "set", "zero_shot"]
    for number, table in enumerate(tables, 1):
        if unknown := [key for key in table if key not in known]:
            raise _refused(
                path, f"variant {number}: unknown key {unknown[0]}", ", ".join(known),
                f"did you mean {nearest(unknown[0], known)}?",
            )  # fmt: skip
        if not table.get("name"):
            raise _refused(path, f"variant {number} without a name", "a name", "add one")
    return tables


def _dotted(table: dict[str, Any]) -> dict[str, Any]:
    """Return `freeze.preset` for what TOML makes of the key without quotes: {freeze: {preset}}."""
    return {
        name: inner
        for key, value in table.items()
        for name, inner in (
            {f"{key}.{below}": one for below, one in value.items()}.items()
            if isinstance(value, dict) and key in SECTIONS
            else [(key, value)]
        )
    }


def _product(path: Path, grid: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a variant per combination, called by its values: `decoder, lr 0.0001`."""
    grid = _dotted(grid)
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise _refused(
                path, f"grid {key} = {values}", "a list of values", f'write "{key}" = [{values}]'
            )
    if not grid:
        return []
    return [
        {
            "name": ", ".join(
                value
                if isinstance(value, str)
                else f"{key.split('.')[-1]} {json.dumps(value, default=str)}"
                for key, value in zip(grid, values, strict=True)
            ),
            "set": dict(zip(grid, values, strict=True)),
        }
        for values in itertools.product(*grid.values())
    ]


def _variant(path: Path, base: dict[str, Any], table: dict[str, Any]) -> Variant:
    settings = copy.deepcopy(base)
    chosen = _dotted(table.get("set", {}))
    for dotted, value in chosen.items():
        section, dot, key = dotted.partition(".")
        if not dot or section not in SECTIONS or dotted in ("data.root", "train.seed"):
            raise _refused(
                path, f"variant {table['name']}: {dotted}",
                'dotted settings such as "optim.lr", but for data.root and train.seed',
                "name the data set with --data and seeds with `seeds = [...]`"
                if section in SECTIONS else f"did you mean {nearest(section, list(SECTIONS))}?",
            )  # fmt: skip
        settings.setdefault(section, {})[key] = value
    cfg = configuration.parse(settings, where=f"{path}, variant {table['name']}")
    return Variant(table["name"], chosen, bool(table.get("zero_shot")), cfg)


def _require_different(path: Path, variants: tuple[Variant, ...]) -> None:
    if len(variants) < 2:
        raise _refused(
            path, f"{len(variants)} variants", "two or more", "add [[variant]] tables or a [grid]"
        )
    slugs: dict[str, str] = {}
    recipes: dict[str, str] = {}
    for variant in variants:
        if variant.slug in slugs:
            raise _refused(
                path, f"two variants called {variant.name}", "a name of its own for each",
                "rename one of them",
            )  # fmt: skip
        recipe = json.dumps([variant.zero_shot, configuration.dump(variant.cfg)], sort_keys=True)
        if recipe in recipes:
            raise _refused(
                path, f"{recipes[recipe]} and {variant.name} are the same recipe",
                "variants that differ", "correct `set` of one of them",
            )  # fmt: skip
        slugs[variant.slug] = recipes[recipe] = variant.name


def _refused(path: Path, got: str, expected: str, do: str) -> ConfigError:
    return ConfigError(explain(f"{path} is no ablation", got=got, expected=expected, do=do))
