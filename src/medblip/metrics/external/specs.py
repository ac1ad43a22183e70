"""Which external scorers there are, where their environments lie and what they still need.

Reads `scorers/scorers.toml` (the ready adapters) and a user's own `scorers.toml`; runs no scorer.

Grammar of `--scorer`, which `parse_scorer` reads:

| text | meaning |
| --- | --- |
| `NAME=PYTHON` | NAME is a ready adapter; PYTHON its environment's interpreter or folder |
| `NAME=COMMAND` | any other NAME; COMMAND is split as a shell would, but no shell runs it |
| `NAME` | as the user's `scorers.toml` says |
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from medblip.errors import ConfigError, explain, nearest

__all__ = [
    "ReadyAdapter",
    "ScorerSpec",
    "child_environment",
    "load_scorers",
    "parse_scorer",
    "preflight",
]

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
#: Metrics of ours begin with these; a scorer of that name could take the place of one.
_OURS = ("bleu", "rouge", "cider", "meteor", "fact", "bertscore", "cosine", "imageclef", "roco")
_KEYS = ("python", "command", "args", "env", "timeout_s")
#: Seconds for the look into the other environment: python starts in .05, on a cold disk in several.
_LOOK_S = 20.0
#: Nobody should install a scorer into these.
_SYSTEM = {"/", "/usr", "/usr/local", "/opt/homebrew", sys.base_prefix}
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",  # else a missing file costs a minute of retries
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "PYTHONUTF8": "1",
    "PYTHONDONTWRITEBYTECODE": "1",  # the adapters lie in our package, maybe read-only
    "PYTHONFAULTHANDLER": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadyAdapter:
    """A row of the table of ready adapters; see `scorers.toml` for the fields."""

    adapter: str
    what: str
    domain: str
    licence: str
    python: str
    modules: tuple[str, ...]
    weights: tuple[dict[str, str], ...]
    recipe: tuple[str, ...]
    programs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScorerSpec:
    """One scorer and how to start it.

    Args:
        name: What its metrics begin with.
        ready: Its row in our table; None for a command of the user's.
        python: Interpreter of the other environment, for a ready adapter; None: not named yet.
        command: Program and arguments, for a command of the user's.
        args: Further arguments, before the two file names.
        env: Environment variables, e.g. where weights lie.
        timeout_s: Time limit in seconds; None: that of the caller.
    """

    name: str
    ready: ReadyAdapter | None = None
    python: str | None = None
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    timeout_s: float | None = None

    def start(self) -> list[str]:
        """Return the command without the two file names."""
        if self.ready is None:
            return [*self.command, *self.args]
        return [str(self.python), str(_folder() / self.ready.adapter), *self.args]


def load_scorers(config: Path | None = None) -> dict[str, ScorerSpec]:
    """Return the ready adapters and what the user's file says of them or adds, by name.

    Raises:
        ConfigError: The file is absent or malformed, or a key is unknown.
    """
    specs = {name: ScorerSpec(name=name, ready=ready) for name, ready in _ready().items()}
    if config is None:
        return specs
    try:
        tables = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _wrong(str(config), str(error), "a TOML file with one [name] per scorer") from error
    for name, table in tables.items():
        where = f"{config}: [{name}]"
        if not isinstance(table, dict):
            raise _wrong(where, f"{name} = {table!r}", "a table, e.g. [radgraph]")
        specs[name] = _configured(name, table, where, config.parent)
    return specs


def parse_scorer(text: str, known: Mapping[str, ScorerSpec] | None = None) -> ScorerSpec:
    """Return the scorer that `--scorer` names; see the grammar above.

    Args:
        text: `NAME`, `NAME=PYTHON` or `NAME=COMMAND`.
        known: Of `load_scorers`; without it only the ready adapters are known.

    Raises:
        ConfigError: The text does not follow the grammar.

    >>> parse_scorer("radgraph=/envs/radgraph/bin/python").python
    '/envs/radgraph/bin/python'
    >>> parse_scorer("mine=python3 'my scorer.py' --fast").command
    ('python3', 'my scorer.py', '--fast')
    """
    known = load_scorers() if known is None else known
    name, equals, value = text.partition("=")
    where = f"--scorer {text}"
    if not equals:
        if name in known and (known[name].python or known[name].command):
            return known[name]
        do = f"say which: --scorer {name}=" + ("ENV/bin/python" if name in known else "COMMAND")
        expected = "a scorer of your scorers.toml; known: " + nearest(name, known)
        raise ConfigError(explain(where, got="no environment for it", expected=expected, do=do))
    if not value.strip():
        raise _wrong(where, "nothing after =", "NAME=ENV/bin/python or NAME=COMMAND")
    if name not in known and Path(value.strip()).name.startswith("python") and " " not in value:
        do = f"did you mean {nearest(name, known)}? Of your own scorer name the script too"
        expected = "a ready adapter, or a whole command"
        raise ConfigError(explain(where, got="an interpreter alone", expected=expected, do=do))
    spec = known.get(name) or ScorerSpec(name=_fit(name, where))
    if spec.ready is not None:
        return dataclasses.replace(spec, python=_interpreter(value.strip(), Path()))
    return dataclasses.replace(spec, command=_split(value, where))


def preflight(spec: ScorerSpec) -> str | None:
    """Return why a scorer cannot run, with the lines to type; None when nothing is missing.

    Imports nothing of the other environment: it takes one start of its interpreter.
    """
    lost = _missing(spec)
    if not lost:
        return None
    if spec.ready is None:
        do = "correct the command, or give its full path"
        return explain(f"scorer {spec.name}", got="; ".join(lost), expected="a program", do=do)
    there = spec.python is not None and os.access(spec.python, os.X_OK)
    there = there and str(Path(str(spec.python)).parent.parent) not in _SYSTEM
    env = str(Path(str(spec.python)).parent.parent) if there else f"~/envs/{spec.name}"
    lines = [line.replace("ENV", env) for line in spec.ready.recipe]
    if there:
        lines = [line for line in lines if " -m venv " not in line]
    if there and not any(thing.startswith(("module ", "no answer")) for thing in lost):
        lines = [line for line in lines if "pip install" not in line]
    lines.append(f"medblip evaluate ... --scorer {spec.name}={env}/bin/python")
    return explain(
        f"scorer {spec.name} cannot run yet",
        got="missing: " + "; ".join(lost),
        expected=f"a Python {spec.ready.python} environment of its own. {spec.ready.licence}",
        do="\n            ".join(lines),
    )


def child_environment(spec: ScorerSpec) -> dict[str, str]:
    """Return the variables of the child: ours without our Python's, offline, and the scorer's."""
    own = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    return {**own, **_OFFLINE, **spec.env}


def _missing(spec: ScorerSpec) -> list[str]:
    """Return what a scorer lacks, each in a few words; empty when it can run."""
    if spec.ready is None:
        there = shutil.which(spec.command[0], path=child_environment(spec).get("PATH"))
        return [] if there else [f"program {spec.command[0]}"]
    if spec.python is None:
        return [f"environment (none named: --scorer {spec.name}=ENV/bin/python)"]
    if not (os.path.isfile(spec.python) and os.access(spec.python, os.X_OK)):
        return [f"environment (no interpreter at {spec.python})"]
    weights = [need for need in spec.ready.weights if need.get("unless") not in spec.args]
    needs = {"modules": spec.ready.modules, "programs": spec.ready.programs, "weights": weights}
    try:
        shown = subprocess.run(
            [spec.python, str(_folder() / "scorer_contract.py"), json.dumps(needs)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LOOK_S,
            env=child_environment(spec),
        )
        found = json.loads(shown.stdout.decode("utf-8", "replace").splitlines()[-1])["missing"]
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"no answer of {spec.python}: {error}"]
    except (ValueError, IndexError, KeyError, TypeError):
        last = shown.stderr.decode("utf-8", "replace").strip()[-300:]
        return [f"no answer of {spec.python}: {last or f'exit status {shown.returncode}'}"]
    at = {"module": "in", "program": "on", "weights": "at"}
    return [f"{lost['kind']} {lost['what']} ({at[lost['kind']]} {lost['where']})" for lost in found]


@functools.cache
def _ready() -> dict[str, ReadyAdapter]:
    tables = tomllib.loads((_folder() / "scorers.toml").read_text(encoding="utf-8"))
    adapters = {}
    for name, row in tables.items():
        cells: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
        adapters[name] = ReadyAdapter(**cells)
    return adapters


def _folder() -> Path:
    return Path(str(resources.files("medblip") / "scorers"))


def _configured(name: str, table: dict[str, Any], where: str, folder: Path) -> ScorerSpec:
    ready = _ready().get(name)
    for key in table:
        if key not in _KEYS:
            raise _wrong(where, f"unknown key {key}", nearest(key, _KEYS))
    own, other = ("python", "command") if ready else ("command", "python")
    if other in table or (not ready and own not in table):
        what = "a ready adapter: python =" if ready else "no ready adapter: command ="
        raise _wrong(where, ", ".join(table) or "an empty table", f"{name} is {what}")
    args, env = table.get("args", []), table.get("env", {})
    if not isinstance(args, list) or not isinstance(env, dict):
        raise _wrong(where, f"args = {args!r}, env = {env!r}", "args = [...], env = {NAME = ...}")
    limit = table.get("timeout_s")
    if isinstance(limit, bool) or not (
        limit is None or (isinstance(limit, int | float) and limit > 0)
    ):
        raise _wrong(where, f"timeout_s = {limit!r}", "seconds, above 0")
    value = table.get(own)
    if value is not None and not (isinstance(value, str) or (own == "command" and value)):
        raise _wrong(where, f"{own} = {value!r}", "text, or for command a list of words")
    words = _split(value, where) if isinstance(value, str) and not ready else tuple(value or ())
    return ScorerSpec(
        name=_fit(name, where),
        ready=ready,
        python=_interpreter(value, folder) if ready and value else None,
        command=() if ready else tuple(str(word) for word in words),
        args=tuple(str(word) for word in args),
        env={str(key): os.path.expanduser(str(text)) for key, text in env.items()},
        timeout_s=None if limit is None else float(limit),
    )


def _interpreter(text: str, folder: Path) -> str:
    """Return the interpreter that a path means: itself, or that of an environment's folder."""
    path = folder / Path(text).expanduser()
    inside = path / "bin" / "python"
    return str(inside if path.is_dir() else path)


def _split(text: str, where: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise _wrong(where, str(error), "a command with balanced quotes") from None
    if not words:
        raise _wrong(where, "no word", "a command")
    return words


def _fit(name: str, where: str) -> str:
    if not _NAME.fullmatch(name) or name.startswith(_OURS):
        expected = "small letters, digits, - and _; no name that metrics of ours begin with"
        raise _wrong(where, f"the name {name!r}", expected)
    return name


def _wrong(where: str, got: str, expected: str) -> ConfigError:
    return ConfigError(
        explain(where, got=got, expected=expected, do="correct it; docs/scorers.md shows the form")
    )
