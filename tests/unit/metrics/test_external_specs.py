"""How scorers are named, on the command line and in a file; the files of the ready adapters."""

from __future__ import annotations

import ast
import os
import sys
from importlib import resources
from pathlib import Path

import pytest

from medblip.errors import ConfigError
from medblip.metrics.external import ScorerSpec, load_scorers, parse_scorer

FOLDER = Path(str(resources.files("medblip") / "scorers"))
ADAPTERS = sorted(FOLDER.glob("*.py"))


def test_the_grammar() -> None:
    assert parse_scorer("radgraph=~/envs/r/bin/python").python == os.path.expanduser(
        "~/envs/r/bin/python"
    )
    assert parse_scorer("own=python3 'a b.py' --x=1").command == ("python3", "a b.py", "--x=1")
    known = {"own": ScorerSpec(name="own", command=("x",), timeout_s=5)}
    assert parse_scorer("own", known).command == ("x",)
    assert parse_scorer("own=y", known) == ScorerSpec(name="own", command=("y",), timeout_s=5)


def test_an_environment_may_be_named_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    assert parse_scorer(f"radgraph={tmp_path}").python == str(tmp_path / "bin" / "python")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("radgraph", "--scorer radgraph=ENV/bin/python"),
        ("radgraf", "radgraph"),
        ("=x", "the name ''"),
        ("own=", "nothing after ="),
        ("own=  ", "nothing after ="),
        ("own='a", "balanced quotes"),
        ("Own=x", "the name 'Own'"),
        ("bleu=x", "no name that metrics of ours begin with"),
    ],
)
def test_what_does_not_follow_the_grammar_is_explained(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match="got:") as error:
        parse_scorer(text)
    assert message in str(error.value)


def test_a_file_configures_ready_adapters_and_adds_commands(tmp_path: Path) -> None:
    (tmp_path / "scorers.toml").write_text(
        '[green]\npython = "envs/green/bin/python"\nargs = ["--batch", 8]\ntimeout_s = 7200\n'
        'env = { HF_HOME = "/data/hf" }\n[own]\ncommand = "python3 my.py"\n[two]\ncommand = ["x"]\n'
    )
    specs = load_scorers(tmp_path / "scorers.toml")
    assert specs["green"].python == str(tmp_path / "envs/green/bin/python")
    assert specs["green"].args == ("--batch", "8")
    assert specs["green"].timeout_s == 7200
    assert specs["green"].env == {"HF_HOME": "/data/hf"}
    assert specs["green"].start()[1].endswith("score_green.py")
    assert (specs["own"].command, specs["two"].command) == (("python3", "my.py"), ("x",))
    assert specs["radgraph"].python is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "a table"),
        ("[green", "a TOML file"),
        ("[green]\npyhton = 'x'", "unknown key pyhton"),
        ("[green]\ncommand = 'x'", "green is a ready adapter"),
        ("[own]\npython = 'x'", "own is no ready adapter"),
        ("[own]", "own is no ready adapter"),
        ("[own]\ncommand = ''", "no word"),
        ("[own]\ncommand = []", "a list of words"),
        ("[own]\ncommand = 'x'\ntimeout_s = 0", "above 0"),
        ("[own]\ncommand = 'x'\ntimeout_s = true", "above 0"),
        ("[own]\ncommand = 'x'\nargs = 'y'", "args = [...]"),
        ("[CIDEr]\ncommand = 'x'", "the name 'CIDEr'"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_scorers(tmp_path / "s.toml")
    assert message in str(error.value)
    with pytest.raises(ConfigError):
        load_scorers(tmp_path / "absent.toml")


@pytest.mark.parametrize("file", ADAPTERS, ids=lambda file: file.name)
def test_adapters_run_on_an_old_python_and_import_nothing_of_ours(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 8))
    for node in tree.body:
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        for module in modules:  # a stand-alone script: heavy packages only inside functions
            assert module.split(".")[0] in {*sys.stdlib_module_names, "scorer_contract"}
    text = file.read_text(encoding="utf-8")
    assert "import medblip" not in text
    assert "from medblip" not in text


def test_every_adapter_is_in_the_table_and_says_its_licence_and_domain() -> None:
    rows = {name: spec.ready for name, spec in load_scorers().items() if spec.ready}
    adapters = {file.name for file in ADAPTERS} - {"scorer_contract.py"}
    assert {ready.adapter for ready in rows.values()} == adapters
    for name, ready in rows.items():
        assert ready.licence, name
        assert ready.domain.startswith("built for"), name
        assert "==" in " ".join(ready.recipe) or "@" in " ".join(ready.recipe), name


def test_a_misspelt_adapter_is_not_taken_for_a_command() -> None:
    """Captions must not be run as a program: `python captions.jsonl`."""
    with pytest.raises(ConfigError, match="did you mean radgraph"):
        parse_scorer("radgraf=/usr/bin/python3")
    assert parse_scorer("mine=python3 scorer.py").command == ("python3", "scorer.py")
