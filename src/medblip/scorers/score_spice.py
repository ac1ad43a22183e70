"""SPICE (Anderson et al. 2016): scene-graph F of objects, attributes and relations.

Starts the jar of pycocoevalcap itself: without its cache, which needs a native library and a
writable package folder. Several references are merged into one graph by SPICE. An image whose
reference has no graph has no value.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import tempfile
from typing import Any

import scorer_contract as contract

#: SPICE serialises objects of these packages; Java from 16 on forbids it unless told otherwise.
_OPEN = ("lang", "math", "util", "util.concurrent", "net", "text")


def spice_folder() -> str:
    """Return where pycocoevalcap keeps the jar."""
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("package pycocoevalcap is not installed")
    return os.path.join(next(iter(spec.submodule_search_locations)), "spice")


def java_command(java: str, memory: str, folder: str) -> list[str]:
    """Return the start of the command, with the options that this Java knows."""
    shown = subprocess.run([java, "-version"], stderr=subprocess.PIPE, check=True).stderr.decode()
    opened = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in _OPEN]
    old = '"1.' in shown  # Java 8 calls itself 1.8
    return [java, "-Xmx" + memory, *([] if old else opened), "-jar", folder + "/spice-1.0.jar"]


def main() -> None:
    """Score the rows."""
    options = contract.options(__doc__, java="java", memory="8G")
    rows = contract.read_rows(options.input)
    items = [
        {
            "image_id": i,
            "test": row["hyp"],
            "refs": list(filter(contract.says_something, row["refs"])),
        }
        for i, row in enumerate(rows)
        if all(map(contract.says_something, [row["hyp"], " ".join(row["refs"])]))
    ]
    results: list[dict[str, Any]] = []
    if items:
        with tempfile.TemporaryDirectory() as folder:
            source, target = os.path.join(folder, "in.json"), os.path.join(folder, "out.json")
            with open(source, "w", encoding="utf-8") as file:
                json.dump(items, file)
            start = java_command(options.java, options.memory, spice_folder())
            subprocess.run([*start, source, "-out", target, "-subset", "-silent"], check=True)
            with open(target, encoding="utf-8") as file:
                results = json.load(file)
    values: list[float | None] = [
        None if contract.says_something(row["hyp"]) else 0.0 for row in rows
    ]
    for item in results:
        f = item["scores"]["All"]["f"]
        values[item["image_id"]] = None if f is None or f != f else float(f)
    errors = {row["id"]: "SPICE gave no value" for i, row in enumerate(rows) if values[i] is None}
    contract.write_result(
        options.output,
        rows,
        "spice",
        "spice-1.0 of pycocoevalcap " + contract.installed("pycocoevalcap"),
        {"parser": "stanford-corenlp-3.6.0"},
        {"SPICE": values},
        errors=errors,
    )


if __name__ == "__main__":
    main()
