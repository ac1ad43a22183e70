"""The import arrows point down: command line, stages, libraries, foundation."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "medblip"
FOUNDATION = {
    "errors",
    "schema",
    "config",
    "settings",
    "settings_class",
    "settings_remote",
    "files",
    "rundir",
    "progress",
    "power",
    "stamps",
    "lexicon",
    "markdown",
}
LIBRARIES = {
    "checkpoint", "engine", "flops", "models", "metrics", "data", "pictures",
    "remote", "sharded",
}  # fmt: skip
TABLES = {"tables", "tables_ablation", "tables_compare", "tables_study"}
#: What a layer may import of medblip, besides itself.
MAY = {
    **{name: FOUNDATION for name in FOUNDATION | LIBRARIES},
    "engine": FOUNDATION | {"sharded"},
    "models": FOUNDATION | {"remote"},
    "stages": FOUNDATION | LIBRARIES,
    **{name: FOUNDATION | {"stages"} for name in TABLES},
    "cli": FOUNDATION | LIBRARIES | TABLES | {"stages", ""},
    "__main__": {"cli"},
    "": set(),  # medblip/__init__.py loads names lazily
}
#: Stages, or files of stages, that stand on others.
COMPOSED = {"ablate", "demo", "explain/named", "explain/shown", "push", "reproduce", "systems"}
#: Only this file may name the package.
ONLY = {"accelerate": "engine.py", "peft": "models/adapters.py"}
HEAVY = {
    "torch", "transformers", "accelerate", "peft", "matplotlib", "jinja2", "pyarrow", "pydicom",
    "huggingface_hub",
}  # fmt: skip
#: The part of a stage that is torch itself; the rest of the stage imports it inside functions.
TORCH = {f"stages/train/{name}.py" for name in ("fit", "graphs", "state", "step")}
#: Modules whose own import must stay light; functions inside may import what they need.
LIGHT = (
    FOUNDATION
    | TABLES
    | {
        "checkpoint",
        "flops",
        "metrics",
        "data",
        "pictures",
        "remote",
        "stages",
        "cli",
        "power",
        "stamps",
        "",
        "__main__",
    }
)


def imports(file: Path) -> list[tuple[str, bool, bool]]:
    """Return (module, whether at module level, whether for types only) of every import."""
    found = []

    def walk(node: ast.AST, top: bool, typing: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((alias.name, top, typing) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                module = child.module or ""
                if module == "medblip":
                    found.extend((f"medblip.{alias.name}", top, typing) for alias in child.names)
                else:
                    found.append((module, top, typing))
            inner = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            walk(child, top and not inner, typing or types)

    walk(ast.parse(file.read_text(encoding="utf-8")), True, False)
    return found


def layer(module: str) -> str:
    """Return the first part below medblip: 'data' of 'medblip.data.loader'."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def violations(source: Path) -> list[str]:
    """Return a line per import that points the wrong way."""
    wrong = []
    for file in sorted(source.rglob("*.py")):
        path = file.relative_to(source)
        own = (
            ""
            if path.name == "__init__.py" and len(path.parts) == 1
            else path.with_suffix("").parts[0]
        )
        for module, top, typing in imports(file):
            package = module.split(".")[0]
            if package in ONLY and path.as_posix() != ONLY[package]:
                wrong.append(f"{path} imports {package}; only {ONLY[package]} may")
            light = own in LIGHT and not (package == "torch" and path.as_posix() in TORCH)
            if package in HEAVY and top and not typing and light:
                wrong.append(f"{path} imports {package} when it is loaded")
            if package != "medblip" or typing:
                continue
            target = layer(module)
            if target not in MAY[own] | {own} and not (own == "cli" and target not in FOUNDATION):
                wrong.append(f"{path} imports {module}")
            itself = path.with_suffix("").parts[1] if own == "stages" else ""
            below = path.with_suffix("").as_posix().removeprefix("stages/")
            if own == target == "stages" and not {itself, below} & COMPOSED:
                stage = module.split(".")[2] if module.count(".") > 1 else ""
                if stage != itself:
                    wrong.append(f"{path} imports another stage, {module}")
    return wrong


def test_arrows_point_down() -> None:
    assert violations(SOURCE) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("data/x.py", "from medblip.models.blip import BlipCaptioner"),
        ("metrics/x.py", "import torch"),
        ("errors.py", "from medblip.stages.train import train"),
        ("stages/caption.py", "from medblip.stages.train import train"),
        ("stages/train.py", "def f():\n    from accelerate import Accelerator"),
        ("cli/x.py", "import matplotlib.pyplot"),
    ],
)
def test_the_check_finds_what_it_is_for(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(line)
    assert len(violations(tmp_path)) == 1


def test_files_have_a_subject_and_a_size() -> None:
    for file in SOURCE.rglob("*.py"):
        assert file.stem not in {"utils", "util", "common", "misc", "helpers"}, file
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 400, file
