"""The surface is what we say it is, and asking for help costs nothing."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import medblip

HEAVY = ("torch", "transformers", "matplotlib", "accelerate", "peft", "datasets", "pydantic")
OPTIONS = {
    "data prepare": {"--out", "--format", "--size", "--image-column", "--caption-column",
                     "--id-column", "--split-column", "--group-column", "--captions", "--window",
                     "--clean", "--licence", "--validation-share", "--revision", "--link",
                     "--limit", "--max-rejects", "--workers", "--dry-run", "--seed", "--force",
                     "--json"},
    "data check": {"--model", "--max-tokens", "--strict", "--json"},
    "data show": {"--split", "--image", "--limit", "--out", "--seed", "--force", "--json"},
    "data phantoms": {"--out", "--images", "--size", "--seed", "--force", "--json"},
    "train": {"--config", "--data", "--out", "--set", "--seed", "--device", "--feature-cache",
              "--resume", "--dry-run", "--force", "--json"},
    "doctor": {"--data", "--out", "--set", "--device", "--strict", "--json"},
    "caption": {"--data", "--split", "--model", "--out", "--format", "--num-captions", "--config",
                "--set", "--device", "--allow-upload", "--force", "--json"},
    "evaluate": {"--references", "--data", "--split", "--protocol", "--out",
                 "--tokenizer", "--meteor",
                 "--bertscore", "--idf", "--cosine", "--scorer", "--scorer-config", "--concepts",
                 "--fit-concepts", "--training", "--year", "--resamples", "--seed", "--device",
                 "--force", "--json"},
    "compare": {"--baseline", "--split", "--references", "--data", "--metric", "--test", "--out",
                "--resamples", "--seed", "--meteor", "--device", "--allow-upload", "--dry-run",
                "--force", "--json"},
    "ablate": {"--data", "--out", "--seed", "--split", "--metric", "--jobs", "--device", "--meteor",
               "--resamples", "--dry-run", "--force", "--json"},
    "reproduce": {"--data", "--out", "--scale", "--seed", "--images", "--explained", "--jobs",
                  "--device", "--allow-upload", "--meteor", "--dry-run", "--force", "--json"},
    "submit": {"--ids", "--data", "--split", "--out", "--year", "--check", "--force", "--json"},
    "explain": {"--data", "--split", "--image", "--limit", "--seed", "--faithfulness",
                "--view", "--layer", "--head",
                "--out", "--caption", "--set", "--device", "--force", "--json"},
    "report": {"--data", "--split", "--out", "--format", "--comparison", "--ablation", "--study",
               "--title", "--limit", "--json"},
    "card": {"--data", "--split", "--comparison", "--licence", "--out", "--force", "--json"},
    "push": {"--data", "--split", "--comparison", "--licence", "--private", "--revision",
             "--dry-run", "--force", "--json"},
    "models": {"--json"},
    "models convert": {"--tokenizer", "--force", "--json"},
    "demo": {"--out", "--images", "--epochs", "--seed", "--force", "--json"},
}  # fmt: skip


def run(code: str) -> str:
    """Run Python in a fresh process and return what it prints."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    ).stdout


def test_every_public_name_exists() -> None:
    for name in medblip.__all__:
        assert getattr(medblip, name) is not None
    assert set(dir(medblip)) == set(medblip.__all__)


def test_importing_medblip_imports_nothing_heavy() -> None:
    loaded = json.loads(run("import sys, json, medblip; print(json.dumps(list(sys.modules)))"))
    assert not set(HEAVY) & set(loaded)


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    code = (
        "import sys, json\nfrom medblip.cli import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "print('\\n' + json.dumps(list(sys.modules)))"
    )
    assert not set(HEAVY) & set(json.loads(run(code).splitlines()[-1]))
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "medblip", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5, seconds


def test_options_change_on_purpose_only() -> None:
    import typer.main

    from medblip.cli import app

    found: dict[str, set[str]] = {}

    def walk(command: object, path: str) -> None:
        children = getattr(command, "commands", None)
        for name, child in (children or {}).items():
            walk(child, f"{path} {name}".strip())
        if not children or getattr(command, "invoke_without_command", False):
            options = {o for p in command.params for o in p.opts if o.startswith("--")}  # type: ignore[attr-defined]
            found[path] = options - {"--help"}

    walk(typer.main.get_command(app), "")
    assert found == OPTIONS


def test_the_readme_names_only_commands_that_exist() -> None:
    text = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
    shell = [
        line.split("#")[0]
        for block in text.split("```sh")[1:]
        for line in block.split("```")[0].splitlines()
    ]
    called = [line.split()[1:] for line in shell if line.startswith("medblip ")]
    assert called
    for words in called:
        name = " ".join(words[:2])
        name = name if name in OPTIONS else words[0]
        assert {word for word in words if word.startswith("--")} <= OPTIONS[name]
