"""Each fault of a training is found before it starts; a sound one passes; nothing is written."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from training_runs import make_data, set_to, settings

from medblip.config import RunConfig
from medblip.errors import RunError
from medblip.models import blip_patches
from medblip.models.blip import BlipCaptioner
from medblip.models.freeze import Match, apply_rules, rules_for
from medblip.models.loading import Loading
from medblip.stages.doctor import Diagnosed, disk, doctor, machine, material
from medblip.stages.train import train


@pytest.fixture
def cfg(tiny_folder: Path, tmp_path: Path) -> RunConfig:
    return settings(tiny_folder, make_data(tmp_path / "data", train=60, watch=60))


def levels(result: Diagnosed, words: str) -> list[str]:
    return [finding.level for finding in result.findings if words in finding.about]


def told(result: Diagnosed, words: str) -> str:
    (found,) = [f for f in result.findings if words in f.about]
    return f"{found.got} -> {found.do}"


def change_rows(cfg: RunConfig, **changes: dict[str, Any]) -> None:
    """Change rows of the manifest: `_5={"targets": ["x"]}`."""
    manifest = Path(cfg.data.root) / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for number, fields in changes.items():
        rows[int(number.strip("_"))] |= fields
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_sound_training_has_no_errors_and_nothing_is_written(
    cfg: RunConfig, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = doctor(cfg, out=tmp_path / "run", strict=True)
    assert result.errors == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert json.loads(json.dumps(dataclasses.asdict(result)))["errors"] == 0
    assert [f.level for f in result.findings] == sorted(
        (f.level for f in result.findings), key=["error", "warning", "ok"].index
    )


def test_labels_are_shown_as_they_are_learned(cfg: RunConfig) -> None:
    result = doctor(set_to(cfg, "model.prompt=a picture of", "data.max_tokens=3"))
    assert result.labels[0]["caption"] == "normal chest x - ray"
    assert result.labels[0]["label"] == "normal chest"
    assert result.labels[0]["masked"] == "4 of 7 tokens (start, prompt) and 0 pads"
    assert told(result, "captions that are cut").startswith("100.0% at 3 tokens")
    # "right nodule with no effu ##sion" and the end: the prompt is not counted in max_tokens
    assert "data.max_tokens = 7 keeps 99 %" in told(result, "captions that are cut")
    whole = doctor(set_to(cfg, "model.prompt=a picture of", "data.max_tokens=7"))
    assert told(whole, "captions that are cut").startswith("0.0%")
    assert [row["masked"].partition(" and ")[2] for row in whole.labels] == [
        "1 pads", "2 pads", "0 pads",
    ]  # fmt: skip


def test_a_mask_that_teaches_the_prompt_is_an_error(
    cfg: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    collate = BlipCaptioner.collate

    def forgets(self: BlipCaptioner, token_ids: list[list[int]]) -> Any:
        prompt, self.prompt = self.prompt, ""
        batch = collate(self, token_ids)
        self.prompt = prompt
        return batch

    cfg = set_to(cfg, "model.prompt=a picture of")
    assert levels(doctor(cfg), "mask of the labels") == []
    monkeypatch.setattr(BlipCaptioner, "collate", forgets)
    assert levels(doctor(cfg), "mask of the labels") == ["error"]


def test_a_label_without_a_word_is_an_error(cfg: RunConfig) -> None:
    change_rows(cfg, _5={"targets": [" "]})
    result = doctor(cfg)
    assert levels(result, "labels without a word") == ["error"]
    with pytest.raises(RunError, match=r"labels without a word: 1 of 60, e\.g\. 5\n") as error:
        doctor(cfg, strict=True)
    assert "prepare the data again" in str(error.value)
    assert levels(doctor(set_to(cfg, "data.captions=raw")), "labels without a word") == []


def test_a_cut_that_leaves_no_word_is_an_error(cfg: RunConfig) -> None:
    result = doctor(set_to(cfg, "data.max_tokens=1"))
    assert told(result, "labels without a word").startswith("60 of 60")
    assert "data.max_tokens" in told(result, "labels without a word")


def test_a_caption_longer_than_the_decoder_is_an_error(cfg: RunConfig) -> None:
    change_rows(cfg, _0={"captions": ["normal " * 80]})
    assert levels(doctor(cfg, overrides=["data.max_tokens=63"]), "longest caption") == []
    result = doctor(cfg, overrides=["data.max_tokens=64"])
    assert told(result, "longest caption").endswith("-> data.max_tokens = 63 or less")
    captioner = BlipCaptioner.load(Loading(source=cfg.model.name), "")  # what would happen
    for most in (63, 64):
        batch = captioner.collate(captioner.tokenize(["normal " * 80], most))
        embeds = captioner.encode(torch.zeros(1, 3, 32, 32))
        if most == 63:
            assert captioner.token_losses(embeds, batch, 0.0).isfinite()
        else:
            with pytest.raises((IndexError, RuntimeError)):
                captioner.token_losses(embeds, batch, 0.0)


def test_unknown_words_and_leaks_are_found(cfg: RunConfig) -> None:
    root = Path(cfg.data.root)
    shared = {"group": "patient 7"}
    article = {"source": "PMC123 figure 2"}
    change_rows(
        cfg, _0={"captions": ["haemopericardium"]}, _1=shared, _70=shared,
        _3=article, _121=article, _4={"captions": ["only here and there"]},
        _122={"captions": ["Only here  and there"]},
    )  # fmt: skip
    images = root / "images"
    (images / "70.png").write_bytes((images / "2.png").read_bytes())
    (images / "8.png").write_bytes((images / "9.png").read_bytes())
    result = doctor(cfg)
    assert levels(result, "unknown") == ["warning"]
    assert told(result, "patients or cases in several splits").startswith("1, e.g. 1 = 70")
    assert told(result, "articles or pages in several splits").startswith("1, e.g. 3 = 121")
    # the three captions of all, and this one
    assert told(result, "captions in several splits").startswith("4, ")
    assert told(result, "images in training and validation").startswith("1, e.g. 2 = 70")
    assert told(result, "images that occur again in their split").startswith("1, e.g. 8 = 9")
    assert levels(result, "patients") == levels(result, "images in training") == ["error"]


def test_what_was_not_looked_at_is_said(cfg: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(doctor(cfg), "pixels that were compared").startswith("120 of 120 images of")
    monkeypatch.setattr(material, "LOOKED_AT", 50)
    said = told(doctor(cfg), "pixels that were compared")
    assert said.startswith("50 of 120 images of training and validation; 4 of the test split stay")


def test_the_test_split_stays_closed(cfg: RunConfig) -> None:
    for index in range(120, 124):
        (Path(cfg.data.root) / "images" / f"{index}.png").write_bytes(b"never opened")
    assert doctor(cfg).errors == 0
    (Path(cfg.data.root) / "images" / "3.png").write_bytes(b"broken")
    assert levels(doctor(cfg), "cannot be decoded") == ["error"]
    (Path(cfg.data.root) / "images" / "3.png").unlink()
    assert levels(doctor(cfg), "cannot be decoded") == ["error"]


def test_one_fault_does_not_hide_another(cfg: RunConfig, tmp_path: Path) -> None:
    shared = {"group": "patient 7"}
    change_rows(cfg, _1=shared, _70=shared)
    result = doctor(set_to(cfg, f"model.name={tmp_path / 'nowhere'}"))
    assert levels(result, "captioner not found") == ["error"]
    assert levels(result, "patients or cases in several splits") == ["error"]
    assert levels(result, "file system") == ["ok"]
    result = doctor(cfg, data=tmp_path / "nowhere")
    assert result.errors == 1
    assert levels(result, "what trains") == ["ok"]
    result = doctor(cfg, overrides=['freeze.rules=[["nothing like this", 1.0]]'])
    assert levels(result, "freeze rules do not fit") == ["error"]
    assert len(result.labels) == 3


@pytest.mark.parametrize("preset", ["full", "encoder", "decoder", "cross-attention", "lora"])
def test_what_trains_is_what_train_writes(cfg: RunConfig, tmp_path: Path, preset: str) -> None:
    cfg = set_to(
        cfg, f"freeze.preset={preset}", "train.epochs=1", "train.batch_size=60",
        "train.validations=1", "train.validation_images=2", "train.loss_validations=1",
    )  # fmt: skip
    result = doctor(cfg)
    train(cfg, out=tmp_path / "run")
    written = json.loads((tmp_path / "run" / "trainable.json").read_text())
    assert list(result.rules) == written["rules"]
    share = f"{written['trainable']:,} of {written['total']:,} parameters"
    assert told(result, "what trains").startswith(share)


@pytest.mark.parametrize(
    ("package", "version", "level"),
    [
        ("torch", "2.5.1", "error"), ("torch", "2.6.0+cu124", "ok"),
        ("transformers", "5.2.0", "error"), ("transformers", "5.10.0", "ok"),
        ("pydicom", "3.0.1", "error"), ("pydicom", "2.4.5", "ok"), ("pydicom", "2.4.4", "error"),
        ("safetensors", "0.7.9", "error"), ("fastapi", "0.9", "error"), ("fastapi", "0.165", "ok"),
    ],
)  # fmt: skip
def test_versions_with_known_faults(
    monkeypatch: pytest.MonkeyPatch, package: str, version: str, level: str
) -> None:
    real = metadata.version

    def fake(name: str) -> str:
        return version if name == package else real(name)

    monkeypatch.setattr(metadata, "version", fake)
    found = machine.versions()
    assert [f.level for f in found if f.about.startswith(f"{package} ")] == (
        ["error"] if level == "error" else []
    )
    (good,) = [f.got for f in found if f.about == "versions without known faults"]
    assert (f"{package} {version}" in good) == (level == "ok")


def test_another_transformers_has_no_fast_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [f.level for f in machine.versions() if "attention" in f.about] == ["ok"]
    monkeypatch.setattr(blip_patches, "fingerprint", lambda _: "another")
    assert [f.level for f in machine.versions() if "attention" in f.about] == ["warning"]


def with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage._replace(free=free))


def test_a_disk_that_is_too_small(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = set_to(cfg, "freeze.preset=decoder")
    with_free(monkeypatch, 1000)
    result = doctor(cfg, out=tmp_path / "run")
    # as `train`: it stops without room for checkpoints, and does without the others
    assert levels(result, "disk for the checkpoints") == ["error"]
    assert levels(result, "disk for the pixel store") == ["warning"]
    assert levels(result, "disk for the features") == ["warning"]
    result = doctor(cfg, overrides=[f"train.feature_cache={tmp_path / 'cache'}"])
    assert levels(result, "disk for the features") == ["error"]


def test_what_fits_alone_may_not_fit_together(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = set_to(cfg, "freeze.preset=decoder")
    matches, _ = _built(cfg)
    moving = sum(m.parameters for m in matches if m.rate is not None)
    checkpoints = 4 * 4 * sum(m.parameters for m in matches) + 3 * 8 * moving
    with_free(monkeypatch, 2 * checkpoints)
    assert levels(doctor(cfg, out=tmp_path / "run"), "one disk for") == []
    with_free(monkeypatch, int(1.1 * checkpoints) + 1)
    result = doctor(cfg, out=tmp_path / "run")
    assert levels(result, "disk for the checkpoints") == ["ok"]
    assert levels(result, "one disk for") == ["error"]
    result = doctor(cfg, out=tmp_path / "run", overrides=["train.feature_cache=off"])
    assert levels(result, "features") == []


def test_the_room_that_is_told_is_the_room_that_is_taken(cfg: RunConfig, tmp_path: Path) -> None:
    cfg = set_to(
        cfg, "freeze.preset=decoder", "train.epochs=1", "train.validation_images=20",
        "train.validations=1", "train.keep_checkpoints=1", "train.save_every=5",
    )  # fmt: skip
    root, run = Path(cfg.data.root), tmp_path / "run"
    matches, captioner = _built(cfg)
    examples = material.examples_of(cfg)
    needs = {
        "pixels": disk._pixels(cfg, captioner, examples).size,
        "features": disk._features(cfg, captioner, examples).size,
    }
    train(cfg, out=run)
    taken = {
        "pixels": sum(p.stat().st_size for p in root.glob("pixels/*/*") if p.suffix != ".json"),
        "features": sum(p.stat().st_size for p in root.glob("features/*/*.f16")),
    }
    assert needs == taken
    assert disk._pixels(cfg, captioner, examples).size == 0
    assert disk._features(cfg, captioner, examples).size == 0
    for index in root.glob("features/*/index.json"):
        index.write_text("damaged")
    assert disk._features(cfg, captioner, examples).size == taken["features"]
    (checkpoint,) = run.glob("checkpoints/step-*")
    total = sum(m.parameters for m in matches)
    moving = sum(m.parameters for m in matches if m.rate is not None)
    tensors = sum(p.stat().st_size for p in checkpoint.rglob("*.safetensors"))
    assert 4 * total + 8 * moving <= tensors < 1.5 * (4 * total + 8 * moving)


def _built(cfg: RunConfig) -> tuple[list[Match], BlipCaptioner]:
    captioner = BlipCaptioner.load(Loading(source=cfg.model.name, weights=False), "")
    return apply_rules(captioner.network, rules_for(cfg))[0], captioner


def test_a_data_folder_that_cannot_be_written(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, real = Path(cfg.data.root), os.access  # the tests may run as root, who may write anywhere
    monkeypatch.setattr(os, "access", lambda path, mode: path != root and real(path, mode))
    result = doctor(cfg, out=tmp_path / "run")
    assert levels(result, "pixel store") == ["warning"]
    assert "decoded at every step" in told(result, "pixel store")
    assert levels(result, "checkpoints") == ["ok"]


@pytest.mark.parametrize(
    ("name", "number", "advice"),
    [
        ("replace", errno.EOPNOTSUPP, "local disk"), ("fsync", errno.EINVAL, "local disk"),
        ("mkdir", errno.EROFS, "can be written"), ("mkdir", errno.EACCES, "can be written"),
    ],
)  # fmt: skip
def test_a_file_system_that_refuses(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, number: int, advice: str,
) -> None:  # fmt: skip
    def refuses(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, refuses)
    result = doctor(cfg, out=tmp_path / "run")
    assert levels(result, "file system") == ["error"]
    assert os.strerror(number) in told(result, "file system")
    assert advice in told(result, "file system")
    assert not list(tmp_path.glob(".medblip-doctor-*"))


@pytest.mark.parametrize("kind", [stat.S_ISDIR, stat.S_ISREG])
def test_a_flush_that_one_kind_refuses(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[[int], bool]
) -> None:
    def refuses(descriptor: int) -> None:
        if kind(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", refuses)
    assert levels(doctor(cfg, out=tmp_path / "run"), "file system") == ["error"]


def test_a_rename_that_does_nothing_is_noticed(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", lambda *_: None)
    assert levels(doctor(cfg, out=tmp_path / "run"), "file system") == ["error"]


@pytest.mark.parametrize(
    ("overrides", "about", "level"),
    [
        (("optim.lr=0.01",), "learning rate", "warning"),
        (("optim.lr=0.00002", "optim.words_factor=1.0"), "rate", None),
        (("optim.lr=0.00002", "optim.words_factor=10"), "rate of the word embeddings", "warning"),
        (("optim.lr=0.00002", "optim.words_factor=10"), "learning rate", None),
        (("optim.lr=0.001", "freeze.preset=lora", "lora.train_embeddings=false"), "rate", None),
        # what no parameter gets is not looked at, and what a rule gives is
        (("optim.lr=1", 'freeze.preset=custom', 'freeze.rules=[[".", 1e-5]]'), "rate", None),
        (("optim.lr=1e-5", 'freeze.rules=[["vision", 1e-3]]'), "learning rate", "warning"),
        (("model.name=bundled",), "rate", None),
        (("optim.label_smoothing=0.0",), "label smoothing", "warning"),
        (("train.precision=fp16",), "fp16 needs a GPU", "error"),
        (("train.device=cuda:17",), "device not available", "error"),
        (("train.batch_size=100",), "batch size", "warning"),
        (("train.batch_size=60",), "batch size", None),
        (('freeze.rules=[["nothing like this", 1.0]]',), "freeze rules do not fit", "error"),
        (("freeze.preset=decoder",), "features of the frozen encoder", "ok"),
        (("freeze.preset=full",), "features of the frozen encoder", None),
    ],
)  # fmt: skip
def test_settings_that_go_wrong_are_named(
    cfg: RunConfig, overrides: tuple[str, ...], about: str, level: str | None
) -> None:
    result = doctor(cfg, overrides=overrides)
    assert [found for found in levels(result, about) if found != "ok" or level] == (
        [] if level is None else [level]
    )
    assert all(f.do for f in result.findings if f.level != "ok")


def test_bf16_where_there_is_none(cfg: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    able = {"architecture": "x86_64", "avx512_bf16": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    bf16 = set_to(cfg, "train.precision=bf16")
    assert levels(doctor(bf16), "bf16") == []
    able["avx512_bf16"] = False
    assert levels(doctor(bf16), "bf16") == ["warning"]
    assert levels(doctor(cfg), "bf16") == []
    # a GPU that imitates it: torch says yes unless it is asked about emulation
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Old GPU")
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    monkeypatch.setattr(torch.cuda, "device", lambda _: torch.no_grad())
    for asked, level in (("bf16", ["error"]), ("auto", []), ("fp16", [])):
        old = set_to(cfg, f"train.precision={asked}", "train.device=cuda:0")
        found = machine.devices(old)
        assert [f.level for f in found if f.about == "bf16"] == level, asked
        assert found[0].got == "cuda:0: Old GPU"


def test_memory_that_is_too_small(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert levels(doctor(cfg), "weights, gradients") == ["ok"]
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "_LIMITS", (tmp_path / "absent", limit))
    limit.write_text("max\n")
    assert levels(doctor(cfg), "weights, gradients") == ["ok"]
    limit.write_text("100000\n")  # of a container
    result = doctor(cfg)
    assert levels(result, "weights, gradients") == ["error"]
    matches, _ = _built(cfg)
    total = sum(m.parameters for m in matches)  # all train: 4 bytes, gradient, two moments
    limit.write_text(f"{int(16 * total / 0.8) + 10}\n")
    assert levels(doctor(cfg), "weights, gradients") == ["ok"]
    limit.write_text(f"{int(16 * total / 0.8) - 10}\n")
    assert levels(doctor(cfg), "weights, gradients") == ["error"]


def test_missing_and_small_splits(cfg: RunConfig, tmp_path: Path) -> None:
    assert doctor(cfg, data=tmp_path / "nowhere").errors >= 1
    data = make_data(tmp_path / "small", train=8, watch=0)
    assert levels(doctor(cfg, data=data), "validation split") == ["error"]
    assert levels(doctor(cfg, data=data), "train split") == ["warning"]
    few = make_data(tmp_path / "few", train=0, watch=4)
    Image.new("L", (8, 8)).save(few / "images" / "unused.png")
    assert levels(doctor(cfg, data=few), "validation split") == ["warning"]
    assert levels(doctor(cfg, data=few), "train split") == ["error"]
