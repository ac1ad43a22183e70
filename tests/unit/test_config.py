"""Unknown keys, wrong types and contradictions are named; what is dumped loads again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medblip import config
from medblip.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


#: A list of systems is no configuration of a run (tests/e2e/test_systems.py reads it).
RUNS = sorted(
    file for file in CONFIGS.glob("*.toml") if not file.name.startswith(("ablation", "compare"))
)


@pytest.mark.parametrize("file", RUNS, ids=lambda p: p.name)
def test_every_published_file_loads(file: Path) -> None:
    assert config.load(file) != config.RunConfig() or file.stem == "phantoms_bundled"


def test_dump_and_parse_are_inverse(tmp_path: Path) -> None:
    cfg = config.load(
        None,
        ["train.epochs=7", "model.name=some/blip", 'freeze.rules=[["a.*", 1e-5], [".", "frozen"]]'],
    )
    assert cfg.train.epochs == 7
    assert cfg.freeze.rules == (("a.*", 1e-5), (".", "frozen"))
    assert config.parse(config.dump(cfg)) == cfg
    (tmp_path / "config.json").write_text(json.dumps({"schema_version": 1} | config.dump(cfg)))
    assert config.load(tmp_path / "config.json") == cfg


def test_file_wins_over_defaults_and_set_over_file(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[train]\nepochs = 9\nseed = 4\n")
    cfg = config.load(file, ["train.epochs=2"])
    assert (cfg.train.epochs, cfg.train.seed) == (2, 4)
    assert cfg.train.batch_size == config.TrainConfig().batch_size


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=2", "unknown key train.epoch .did you mean epochs"),
        ("trian.epochs=2", "unknown key trian .did you mean train"),
        ("train.epochs=soon", "train.epochs = 'soon'"),
        ("train.epochs=0", "train.epochs must be at least 1"),
        ("train.micro_batch_size=0", "at least 1"),
        ("optim.warmup=2", "share of all steps"),
        ("optim.lr=-1", "must be positive"),
        ("decode.min_new_tokens=99", "must not exceed"),
        ("decode.num_beams=0", "must be at least 1"),
        ("freeze.preset=custom", "needs freeze.rules"),
        ("freeze.preset=half", "freeze.preset = 'half'"),
        ('freeze.rules=[["(", 1.0]]', "not a regex"),
        ("epochs=2", "section.key=value"),
        ("train.epochs", "section.key=value"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load(None, [override])


@pytest.mark.parametrize(("text", "value"), [("false", False), ("true", True), ('"false"', False)])
def test_booleans_mean_what_they_say(text: str, value: bool) -> None:
    assert (
        config.load(None, [f"train.gradient_checkpointing={text}"]).train.gradient_checkpointing
        is value
    )


def test_absent_or_broken_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not found"):
        config.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[train\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path / "bad.toml")


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        config.RunConfig().train.seed = 3  # type: ignore[misc]
