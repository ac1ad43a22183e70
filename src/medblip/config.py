"""Settings read from TOML, overridden, validated, written as JSON; `medblip.settings` has them.

    cfg = load(Path("configs/blip_base.toml"), overrides=["optim.lr=2e-5"])

Precedence: defaults < file < overrides. An empty configuration is the demo's recipe. The resolved
`config.json` of a run is itself accepted as a file, so that any run can be replayed.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from medblip import settings as sections
from medblip.errors import ConfigError, explain, nearest
from medblip.settings import (
    BUNDLED,
    AdapterConfig,
    DataConfig,
    DecodeConfig,
    EvalConfig,
    FreezeConfig,
    LoraConfig,
    ModelConfig,
    OptimConfig,
    RemoteConfig,
    RunConfig,
    TrackConfig,
    TrainConfig,
)

__all__ = [
    "BUNDLED",
    "AdapterConfig",
    "DataConfig",
    "DecodeConfig",
    "EvalConfig",
    "FreezeConfig",
    "LoraConfig",
    "ModelConfig",
    "OptimConfig",
    "RemoteConfig",
    "RunConfig",
    "TrackConfig",
    "TrainConfig",
    "apply_overrides",
    "dump",
    "load",
    "parse",
    "resolve",
]


def load(path: Path | str | None = None, overrides: list[str] | tuple[str, ...] = ()) -> RunConfig:
    """Read a TOML file (or a run's `config.json`) and apply `section.key=value` overrides.

    Raises:
        ConfigError: The file is absent or malformed, a key is unknown, or a value does not fit.
    """
    settings: dict[str, Any] = {}
    if path is not None:
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
            settings = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except FileNotFoundError:
            raise ConfigError(
                explain(
                    "configuration file not found",
                    got=path,
                    expected="a TOML file, or the config.json of a run",
                    do="check the path; configs/ holds ready ones",
                )
            ) from None
        except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(
                explain(
                    f"{path} cannot be read",
                    got=error,
                    expected="TOML such as [train] on one line and epochs = 5 on the next",
                    do="correct that line",
                )
            ) from None
        settings.pop("schema_version", None)
    return parse(apply_overrides(settings, overrides), where=str(path or "settings"))


def apply_overrides(
    settings: dict[str, Any], overrides: list[str] | tuple[str, ...]
) -> dict[str, Any]:
    """Return `settings` with `section.key=value` strings applied; values are TOML, bare words text.

    Raises:
        ConfigError: An override has no `=` or no section.
    """
    merged = json.loads(json.dumps(settings))
    for override in overrides:
        dotted, equals, value = override.partition("=")
        section, dot, key = dotted.strip().partition(".")
        if not (equals and dot and key):
            raise ConfigError(
                explain(
                    "--set cannot be read",
                    got=override,
                    expected="section.key=value, such as train.epochs=5",
                    do="add the section and the value",
                )
            )
        try:
            parsed = tomllib.loads(f"value = {value.strip()}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value.strip()
        if not isinstance(merged.setdefault(section, {}), dict):
            raise ConfigError(
                explain(
                    f"{section} is not a section",
                    got=merged[section],
                    expected=f"[{section}] with keys below it",
                    do="correct the configuration file",
                )
            )
        merged[section][key] = parsed
    return dict(merged)


def parse(settings: dict[str, Any], where: str = "settings") -> RunConfig:
    """Validate a nested dict.

    Raises:
        ConfigError: All problems at once, each with the nearest known key.
    """
    try:
        return TypeAdapter(RunConfig).validate_python(settings)
    except ValidationError as error:
        problems = "; ".join(_describe(problem) for problem in error.errors())
        raise ConfigError(
            explain(
                f"{where}: not a valid configuration",
                got=problems,
                expected="the keys and types of medblip.config.RunConfig",
                do="correct the setting; `medblip train --help` names the sections",
            )
        ) from None


def resolve(
    config: Path | str | RunConfig | None,
    data: Path | str | None,
    overrides: list[str] | tuple[str, ...],
    seed: int | None,
    device: str | None,
) -> RunConfig:
    """Put flags over a file's (or an object's) settings; None leaves a setting alone.

    Raises:
        ConfigError: As `load`.
    """
    extra = list(overrides)
    if data is not None:
        extra.append(f"data.root={_quoted(str(data))}")
    if seed is not None:
        extra.append(f"train.seed={seed}")
    if device is not None:
        extra.append(f"train.device={_quoted(device)}")
    if isinstance(config, RunConfig):
        return parse(apply_overrides(dump(config), extra))
    return load(config, extra)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def dump(cfg: RunConfig) -> dict[str, Any]:
    """Return the nested dict that `parse` takes back to an equal object."""
    return dict(TypeAdapter(RunConfig).dump_python(cfg, mode="json"))


def _describe(problem: Any) -> str:
    path = [str(part) for part in problem["loc"]]
    dotted = ".".join(path)
    if problem["type"] == "unexpected_keyword_argument":
        section: Any = RunConfig
        for part in path[:-1]:
            section = {field.name: field.type for field in dataclasses.fields(section)}[part]
            section = getattr(sections, section) if isinstance(section, str) else section
        known = [field.name for field in dataclasses.fields(section)]
        return f"unknown key {dotted} (did you mean {nearest(path[-1], known)}?)"
    message = problem["msg"].removeprefix("Value error, ")
    if isinstance(problem["input"], dict):  # of a whole section: one may hold a password in a URL
        return f"{dotted}: {message}" if dotted else message
    return f"{dotted} = {problem['input']!r}: {message}" if dotted else message
