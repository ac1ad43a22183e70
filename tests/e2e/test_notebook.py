"""The tutorial's notebook is saved without results, uses the public functions only, and runs."""

from __future__ import annotations

import ast
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import medblip

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tutorial_phantoms.ipynb"
#: Runs the cells one after another in one namespace, as a kernel would; none has a magic command.
RUNNER = """
import json, sys
import matplotlib.pyplot as plt

figures = []
def show(*args, **kwargs):
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
        figures.append(len(plt.figure(number).axes))
    plt.close("all")
plt.show = show
names = {"__name__": "__main__"}
for index, text in enumerate(json.load(sys.stdin)):
    exec(compile(text, f"cell {index}", "exec"), names)
print("\\n" + json.dumps(figures))
"""


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    return dict(json.loads(NOTEBOOK.read_text(encoding="utf-8")))


def sources(notebook: dict[str, Any], kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_it_is_saved_without_results(notebook: dict[str, Any]) -> None:
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert NOTEBOOK.stat().st_size < 50_000


def test_every_cell_is_explained(notebook: dict[str, Any]) -> None:
    cells = notebook["cells"]
    for before, cell in itertools.pairwise(cells):
        if cell["cell_type"] == "code":
            assert before["cell_type"] == "markdown", cell["id"]
            words = "".join(before["source"]).split("\n\n")[-1]
            assert 20 < len(words) < 400, before["id"]
    assert "Not a medical device" in "".join(cells[0]["source"])


def test_it_uses_public_functions_only(notebook: dict[str, Any]) -> None:
    tree = ast.parse("\n".join(sources(notebook, "code")))
    imported = {
        name.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert imported == {"json", "os", "pathlib", "matplotlib.pyplot", "PIL", "medblip"}
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "medblip"
    }
    assert used <= set(medblip.__all__)
    assert used >= {"phantoms", "show", "train", "caption", "evaluate", "compare", "explain",
                    "report"}  # fmt: skip


@pytest.mark.timeout(600)
def test_it_runs(notebook: dict[str, Any], tmp_path: Path) -> None:
    small = {"MEDBLIP_TUTORIAL_IMAGES": "120", "MEDBLIP_TUTORIAL_EPOCHS": "1"}
    out = tmp_path / "tutorial"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUNNER],
        input=json.dumps(sources(notebook, "code")), capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | small | {"MEDBLIP_TUTORIAL_OUT": str(out), "MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    panels = json.loads(done.stdout.splitlines()[-1])
    assert panels == [1, 1, 1, 12]  # contact sheet, loss, intervals, words of one caption
    scores = json.loads((out / "decoder" / "scores" / "test.json").read_text())
    low, high = scores["metrics"]["CIDEr-D"]["ci"]
    shown = f"CIDEr-D        decoder    {scores['metrics']['CIDEr-D']['value']:6.3f}"
    assert f"{shown}  [{low:.3f}, {high:.3f}]" in done.stdout
    assert (out / "report.html").stat().st_size > 50_000
    assert (out / "decoder" / "README.md").read_text().startswith("---\n")
    assert done.stdout.count("reference:") == 4
