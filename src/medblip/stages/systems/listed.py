"""A list of systems: TOML with `[[system]]` tables, checked before anything is captioned."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

from medblip.errors import ConfigError, explain, nearest

__all__ = ["SystemSpec", "read_list", "slug"]


@dataclasses.dataclass(frozen=True)
class SystemSpec:
    """One system of a comparison; exactly one of model, run and captions.

    Args:
        name: What tables call it; its folder is made of it.
        model: A captioner, used as it is.
        run: Run directory of `train`.
        captions: Table `{id, caption}` of any system.
        set: `section.key=value` strings of how it captions.
    """

    name: str
    model: str | None = None
    run: str | None = None
    captions: str | None = None
    set: tuple[str, ...] = ()


def read_list(path: Path) -> list[SystemSpec]:
    """Read the `[[system]]` tables of a TOML file.

    Raises:
        ConfigError: It is absent or malformed, a key is unknown, a name is used twice, or a system
            is not exactly one of model, run and captions.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            explain(
                f"{path} cannot be read",
                got=error,
                expected="TOML with [[system]] tables",
                do="correct it; configs/compare_paper.toml is one",
            )
        ) from None
    known = [field.name for field in dataclasses.fields(SystemSpec)]
    specs = []
    if unknown := [key for key in found if key != "system"]:
        raise ConfigError(
            explain(
                f"{path} is no list of systems",
                got=f"an unknown key {unknown[0]}",
                expected="[[system]] tables alone",
                do="put settings into `set` of a system",
            )
        )
    listed = found.get("system", [])
    if not isinstance(listed, list) or not all(isinstance(table, dict) for table in listed):
        raise ConfigError(
            explain(
                f"{path} is no list of systems",
                got=f"system = {listed}",
                expected="[[system]] tables, with two brackets",
                do="correct it",
            )
        )
    for number, table in enumerate(listed, 1):
        where = f"{path}, system {number}"
        if unknown := [key for key in table if key not in known]:
            raise ConfigError(
                explain(
                    f"{where}: unknown key",
                    got=unknown[0],
                    expected=", ".join(known),
                    do=f"did you mean {nearest(unknown[0], known)}?",
                )
            )
        texts = all(isinstance(table.get(key, ""), str) for key in known if key != "set")
        settings = table.get("set", [])
        good = isinstance(settings, list) and all(isinstance(one, str) for one in settings)
        if not texts or not good:
            raise ConfigError(
                explain(
                    f"{where}: a value of the wrong type",
                    got=table,
                    expected='texts, and set = ["section.key=value", ...]',
                    do="correct that table",
                )
            )
        spec = SystemSpec(**{"name": ""} | table | {"set": tuple(table.get("set", ()))})
        kinds = [kind for kind in ("model", "run", "captions") if getattr(spec, kind)]
        if len(kinds) != 1 or not spec.name:
            raise ConfigError(
                explain(
                    f"{where} is not one system",
                    got=", ".join(kinds) or "none of model, run and captions",
                    expected="a name, and one of model, run and captions",
                    do="correct that table",
                )
            )
        if spec.captions and spec.set:
            raise ConfigError(
                explain(
                    f"{where}: captions of a file are taken as they are",
                    got=f"set = {list(spec.set)}",
                    expected="no settings",
                    do="take `set` out",
                )
            )
        specs.append(spec)
    slugs = [slug(spec.name) for spec in specs]
    twice = [spec.name for spec in specs if slugs.count(slug(spec.name)) > 1]
    if len(specs) < 2 or twice:
        raise ConfigError(
            explain(
                f"{path} is no list of systems",
                got=f"two systems called {twice[0]}" if twice else f"{len(specs)} systems",
                expected="two or more [[system]] tables, each with a name of its own",
                do="correct it; configs/compare_paper.toml is one",
            )
        )
    return specs


def slug(name: str) -> str:
    """Return a folder's name: BLIP, zero-shot -> blip-zero-shot."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "system"
