"""The wheel holds all of the package, and what is installed from it works on its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)  # an installation and a demo, on a machine that may be busy

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "medblip"
#: What is no Python and easily left out: said one by one, so that deleting it is noticed too.
DATA = {
    "medblip/py.typed",
    "medblip/lexicon.toml",
    "medblip/assets/everyday-blip/config.json",
    "medblip/assets/everyday-blip/generation_config.json",
    "medblip/assets/everyday-blip/model.safetensors",
    "medblip/assets/everyday-blip/processor_config.json",
    "medblip/assets/everyday-blip/tokenizer.json",
    "medblip/assets/everyday-blip/tokenizer_config.json",
    "medblip/assets/everyday-blip/training.json",
    "medblip/stages/report/report.js",
    "medblip/stages/report/style.css",
    "medblip/stages/report/template.html",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with what is installed here; nothing is downloaded."""
    for tool in ("build", "hatchling"):
        if importlib.util.find_spec(tool) is None:
            pytest.skip(f"needs {tool}, which is not installed: pip install -e '.[dev]'")
    folder = tmp_path_factory.mktemp("dist")
    options = ["--wheel", "--no-isolation", "--outdir", folder]
    done = subprocess.run(
        [sys.executable, "-m", "build", *options, ROOT], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        weights = archive.read("medblip/assets/everyday-blip/model.safetensors")
    assert names >= DATA
    held = {name for name in names if ".dist-info/" not in name}
    assert held == {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert weights == (PACKAGE / "assets/everyday-blip/model.safetensors").read_bytes()


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" in name]
        text = {name.split("/", 1)[1]: archive.read(name).decode() for name in names}
    assert "medblip = medblip.cli:main" in text["entry_points.txt"]
    assert "License-Expression: Apache-2.0" in text["METADATA"]
    assert text["licenses/LICENSE"] == (ROOT / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_installed_wheel_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own that borrows this one's dependencies, but not this checkout."""
    fresh, empty = tmp_path / "fresh", tmp_path / "empty"
    empty.mkdir()
    venv.create(fresh, with_pip=False)
    python = fresh / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    paths = {"base": str(fresh), "platbase": str(fresh)}
    own = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    # a path in a .pth file comes after the environment's own, and the .pth files there, such as
    # that of the editable installation, are not read
    borrowed = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (own / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}

    def run(*arguments: object) -> str:
        return subprocess.run(
            list(map(str, arguments)),
            cwd=empty, env=environment, check=True, stdout=subprocess.PIPE, text=True,
        ).stdout  # fmt: skip

    where = Path(run(python, "-c", "import medblip; print(medblip.__file__)").strip())
    assert where.is_relative_to(fresh)
    out = run(
        fresh / "bin" / "medblip", "demo", "--images", 40, "--epochs", 1, "--out", "demo", "--json"
    )
    result = json.loads(out.splitlines()[-1])
    assert (empty / result["report"]).stat().st_size > 100_000
    assert (empty / "demo" / "report.html").samefile(empty / result["report"])
    compared = json.loads((empty / "demo" / "comparison.json").read_text())
    assert {row["system"] for row in compared["rows"]} == {"encoder", "decoder", "full", "lora"}
    assert [path.name for path in empty.iterdir()] == ["demo"]
