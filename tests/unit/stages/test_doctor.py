"""Each fault of a training is found before it starts; a sound one passes; nothing is written."""

from __future__ import annotations

import json
import os
from importlib import metadata
from pathlib import Path

import pytest
from PIL import Image
from training_runs import make_data, set_to, settings

from medblip.config import RunConfig
from medblip.errors import RunError
from medblip.stages.doctor import Diagnosed, doctor, machine


@pytest.fixture
def cfg(tiny_folder: Path, tmp_path: Path) -> RunConfig:
    return settings(tiny_folder, make_data(tmp_path / "data", train=60, watch=60))


def levels(result: Diagnosed, words: str) -> list[str]:
    return [finding.level for finding in result.findings if words in finding.about]


def test_a_sound_training_has_no_errors_and_nothing_is_written(
    cfg: RunConfig, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = doctor(cfg, out=tmp_path / "run", strict=True)
    assert result.errors == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert sum(rule["parameters"] for rule in result.rules) == 53_559 or result.rules


def test_labels_are_shown_as_they_are_learned(cfg: RunConfig) -> None:
    cfg = set_to(cfg, "model.prompt=a picture of", "data.max_tokens=3")
    result = doctor(cfg)
    assert result.labels[0]["caption"] == "normal chest x - ray"
    assert result.labels[0]["label"] == "normal chest"
    assert result.labels[0]["masked"].startswith("4 of 7 tokens")
    (cut,) = [f for f in result.findings if "cut" in f.about]
    assert (cut.level, cut.got.split()[0]) == ("warning", "100.0%")
    assert "data.max_tokens = " in cut.do


def test_a_label_without_a_word_is_an_error(cfg: RunConfig) -> None:
    manifest = Path(cfg.data.root) / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows[5]["targets"] = [" "]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = doctor(cfg)
    assert levels(result, "labels without a word") == ["error"]
    with pytest.raises(RunError, match="labels without a word: 5"):
        doctor(cfg, strict=True)


def test_unknown_words_and_leaks_are_found(cfg: RunConfig) -> None:
    root = Path(cfg.data.root)
    manifest = root / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows[0]["captions"] = ["haemopericardium"]
    rows[1]["group"] = rows[70]["group"] = "patient 7"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "images" / "70.png").write_bytes((root / "images" / "2.png").read_bytes())
    result = doctor(cfg)
    assert levels(result, "unknown") == ["warning"]
    assert levels(result, "patients or cases in several splits") == ["error"]
    assert levels(result, "images in training and validation") == ["error"]


def test_the_test_split_stays_closed(cfg: RunConfig) -> None:
    for index in range(120, 124):
        (Path(cfg.data.root) / "images" / f"{index}.png").write_bytes(b"never opened")
    assert doctor(cfg).errors == 0
    (Path(cfg.data.root) / "images" / "3.png").write_bytes(b"broken")
    assert levels(doctor(cfg), "cannot be decoded") == ["error"]


@pytest.mark.parametrize(
    ("package", "version", "level"),
    [
        ("torch", "2.5.1", "error"), ("torch", "2.6.0+cu124", "ok"),
        ("transformers", "5.2.0", "error"), ("pydicom", "3.0.1", "error"),
        ("pydicom", "2.4.5", "ok"), ("safetensors", "0.7.9", "error"), ("fastapi", "0.9", "error"),
    ],
)  # fmt: skip
def test_versions_with_known_faults(
    monkeypatch: pytest.MonkeyPatch, package: str, version: str, level: str
) -> None:
    real = metadata.version

    def fake(name: str) -> str:
        return version if name == package else real(name)

    monkeypatch.setattr(metadata, "version", fake)
    found = [f.level for f in machine.versions() if f.about.startswith(f"{package} ")]
    assert found == (["error"] if level == "error" else [])


def test_a_disk_that_is_too_small_and_one_without_rename(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = machine.shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(machine.shutil, "disk_usage", lambda _: usage._replace(free=1000))
        result = doctor(set_to(cfg, "freeze.preset=decoder"), out=tmp_path / "run")
        for what in ("checkpoints", "pixel store", "features"):
            assert levels(result, f"disk for the {what}") == ["error"], what

    def refuses(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "replace", refuses)
    assert levels(doctor(cfg, out=tmp_path / "run"), "file system") == ["error"]
    assert not list(tmp_path.glob(".medblip-doctor-*"))


@pytest.mark.parametrize(
    ("overrides", "about", "level"),
    [
        (("optim.lr=0.01",), "learning rate", "warning"),
        (("optim.lr=0.00002", "optim.words_factor=1.0"), "learning rate", None),
        (("optim.label_smoothing=0.0",), "label smoothing", "warning"),
        (("train.precision=fp16",), "fp16 needs a GPU", "error"),
        (("train.batch_size=100",), "batch size", "warning"),
        (('freeze.rules=[["nothing like this", 1.0]]',), "freeze rules do not fit", "error"),
        (("freeze.preset=decoder",), "features of the frozen encoder", "ok"),
    ],
)
def test_settings_that_go_wrong_are_named(
    cfg: RunConfig, overrides: tuple[str, ...], about: str, level: str | None
) -> None:
    result = doctor(cfg, overrides=overrides)
    assert levels(result, about) == ([] if level is None else [level])
    assert all(f.do for f in result.findings if f.level != "ok")


def test_missing_splits_and_data(cfg: RunConfig, tmp_path: Path) -> None:
    assert doctor(cfg, data=tmp_path / "nowhere").errors >= 1
    data = make_data(tmp_path / "small", train=8, watch=0)
    assert levels(doctor(cfg, data=data), "validation split") == ["error"]
    few = make_data(tmp_path / "few", train=8, watch=4)
    Image.new("L", (8, 8)).save(few / "images" / "unused.png")
    assert levels(doctor(cfg, data=few), "validation split") == ["warning"]
