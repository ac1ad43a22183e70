"""Write docs/cli.md from the command line itself: `make docs`. `--check` fails if it is stale."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer.main

from medblip.cli import app

PAGE = Path(__file__).parent / "cli.md"


def page() -> str:
    """Return the reference: every command with its arguments and options."""
    lines = [
        "# Command line",
        "",
        "Made by `make docs` from the program; do not edit.",
        "",
        "Results go to standard output, progress and tables to standard error. `--json` prints one",
        "JSON object, last on standard output. Exit codes: 0 done, 2 you can mend it (the message",
        "says got, expected, do), 130 interrupted, 143 terminated.",
    ]
    for path, command in commands(typer.main.get_command(app), "medblip"):
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
        usage = [path, *(f"{p.name.upper()}{'...' if p.nargs < 0 else ''}" for p in arguments)]
        lines += ["", f"## {path}", "", (command.help or "").strip(), "", "```"]
        lines += [" ".join([*usage, "[OPTIONS]"]), "```", "", "| name | what | default |"]
        lines += ["| --- | --- | --- |"]
        for p in [*arguments, *options]:
            name = p.name.upper() if p in arguments else ", ".join([*p.opts, *p.secondary_opts])
            default = "required" if p.required else "" if p.default in (None, False) else p.default
            lines.append(f"| `{name}` | {getattr(p, 'help', None) or ''} | {default} |")
    return "\n".join(lines) + "\n"


def commands(command: Any, path: str) -> list[tuple[str, Any]]:
    """Return every command that does something, with its full name."""
    children = getattr(command, "commands", None) or {}
    itself = not children or command.invoke_without_command
    below = [one for name, child in children.items() for one in commands(child, f"{path} {name}")]
    return [(path, command)] * itself + below


if __name__ == "__main__":
    if "--check" in sys.argv:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page()
        sys.exit(0 if current else "docs/cli.md is stale: run `make docs`")
    PAGE.write_text(page(), encoding="utf-8")
