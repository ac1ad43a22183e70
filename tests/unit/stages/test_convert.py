"""Checkpoints of the original BLIP: files in, files out."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from original_blip import image_tokens, logits, random_checkpoint
from safetensors.torch import load_file
from transformers import BertTokenizer, BlipForConditionalGeneration, ViTConfig, ViTModel

import medblip
from medblip.cli import main
from medblip.errors import CheckpointError, RunError


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a tokenizer of BERT's size and special ids, without [DEC] and [ENC], as published."""
    folder = tmp_path_factory.mktemp("words")
    names = [f"w{i}" for i in range(30522)]
    for place, name in ((0, "[PAD]"), (100, "[UNK]"), (101, "[CLS]"), (102, "[SEP]"),
                        (103, "[MASK]")):  # fmt: skip
        names[place] = name
    BertTokenizer(vocab={name: i for i, name in enumerate(names)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("original") / "caption.pth"
    torch.save({"model": random_checkpoint()}, path)
    return path


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return set(a) == set(b) and all(
        a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a
    )


def test_an_original_becomes_a_folder_and_an_original_again(
    tmp_path: Path, original: Path, words: Path
) -> None:
    folder = tmp_path / "new" / "folder"
    result = medblip.convert_checkpoint(original, folder, tokenizer=str(words))
    tensors = torch.load(original)["model"]
    assert (result.image_size, result.layout, result.left_out) == (32, "transformers", ())
    assert result.tensors == len(tensors) - 1
    network = BlipForConditionalGeneration.from_pretrained(folder).eval()
    assert result.parameters == sum(p.numel() for p in network.parameters())
    pixels, ids = torch.randn(2, 3, 32, 32), torch.randint(0, 30524, (2, 6))
    with torch.no_grad():
        ours = network(pixel_values=pixels, input_ids=ids).logits
    theirs = logits(tensors, ids, image_tokens(tensors, pixels, heads=1))
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)
    config = json.loads((folder / "config.json").read_text())
    assert config["vision_config"]["layer_norm_eps"] == 1e-6
    assert config["text_config"]["label_smoothing"] == 0.1

    captioner = medblip.load_captioner(medblip_config(folder))
    assert captioner.tokenize(["w7"], 8)[0][-2:] == [7, 102]
    tokenizer = BertTokenizer.from_pretrained(folder)
    assert len(tokenizer) == 30524
    assert tokenizer.convert_tokens_to_ids(["[DEC]", "[ENC]"]) == [30522, 30523]

    back = medblip.convert_checkpoint(folder, tmp_path / "back.pth")
    stored = torch.load(tmp_path / "back.pth", weights_only=True)
    assert back.tensors == len(tensors)
    assert same(stored["model"], tensors)
    head = stored["model"]["text_decoder.cls.predictions.decoder.weight"]
    embeddings = stored["model"]["text_decoder.bert.embeddings.word_embeddings.weight"]
    assert head.data_ptr() == embeddings.data_ptr()  # stored once

    medblip.convert_checkpoint(tmp_path / "back.pth", tmp_path / "third")  # no tokenizer named
    assert contents(tmp_path / "third") == contents(folder)


def medblip_config(folder: Path) -> Any:
    from medblip.config import ModelConfig

    return ModelConfig(name=str(folder))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_folder_comes_back_bitwise(tmp_path: Path, tiny_folder: Path, dtype: torch.dtype) -> None:
    folder = tmp_path / "a"
    network = BlipForConditionalGeneration.from_pretrained(tiny_folder, dtype=dtype)
    folder.mkdir()
    for file in tiny_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    network.save_pretrained(folder)
    medblip.convert_checkpoint(folder, tmp_path / "b.pth")
    medblip.convert_checkpoint(tmp_path / "b.pth", tmp_path / "c")
    assert contents(tmp_path / "c") == contents(folder)
    assert load_file(tmp_path / "c" / "model.safetensors").popitem()[1].dtype == dtype


def test_a_fine_tuning_of_lavis_is_read(tmp_path: Path, original: Path, words: Path) -> None:
    state = torch.load(original)["model"]
    record = {"model": state, "optimizer": {"state": {0: {"step": torch.ones(1)}}}, "epoch": 3,
              "config": {"run": {"lr": 1e-5}}, "args": argparse.Namespace(lr=1e-5)}  # fmt: skip
    torch.save(record, tmp_path / "new.pth")
    torch.save(record, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save(state, tmp_path / "bare.pth")
    for name in ("new", "old", "bare"):
        source = tmp_path / f"{name}.pth"
        medblip.convert_checkpoint(source, tmp_path / name, tokenizer=str(words))
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("new", "old", "bare")]
    assert same(weights[0], weights[1])
    assert same(weights[0], weights[2])


def test_views_of_one_storage_are_told_apart(tmp_path: Path, original: Path, words: Path) -> None:
    state = torch.load(original)["model"]
    flat = torch.cat([t.flatten() for t in state.values() if t.is_floating_point()])
    start = 0
    for name, tensor in state.items():
        if tensor.is_floating_point():
            state[name] = flat[start : start + tensor.numel()].view(tensor.shape)
            start += tensor.numel()
    name = "visual_encoder.blocks.0.mlp.fc1.weight"
    state[name] = state[name].T.contiguous().T
    torch.save({"model": state}, tmp_path / "flat.pth")
    for source, target in ((original, "a"), (tmp_path / "flat.pth", "b")):
        medblip.convert_checkpoint(source, tmp_path / target, tokenizer=str(words))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_what_is_stored_beside_the_weights_may_be_damaged(
    tmp_path: Path, tiny_folder: Path
) -> None:
    medblip.convert_checkpoint(tiny_folder, tmp_path / "a.pth")
    record = torch.load(tmp_path / "a.pth")
    whole = record["medblip"]
    for broken in (
        {"config.json": "{"},
        {"config.json": '{"text_config": 3}'},
        {"tokenizer.json": whole["tokenizer.json"]},
        {"config.json": whole["config.json"]},
        whole | {"processor_config.json": "[]"},
        whole | {"tokenizer.json": "{}"},
        whole
        | {"config.json": whole["config.json"].replace('"hidden_size": 32', '"hidden_size": 64')},
    ):
        torch.save(record | {"medblip": broken}, tmp_path / "b.pth")
        with pytest.raises(CheckpointError):
            medblip.convert_checkpoint(tmp_path / "b.pth", tmp_path / "x")
    torch.save(record | {"medblip": whole | {"../escaped": "x"}}, tmp_path / "b.pth")
    medblip.convert_checkpoint(tmp_path / "b.pth", tmp_path / "x")
    assert "escaped" not in {p.name for p in tmp_path.rglob("*")}


class Bomb:
    """Leaves a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_not_run(
    tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # of no effect on us
    marker, source = tmp_path / "marker", tmp_path / "bad.pth"
    record = {"model": {"visual_encoder.norm.bias": torch.ones(3)}, "config": Bomb(marker)}
    torch.save(record, source, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="holds more than tensors and settings") as caught:
        medblip.convert_checkpoint(source, tmp_path / "x")
    assert "mkdir" in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.pth"]
    torch.load(source, weights_only=False)
    assert marker.exists()  # the test would have seen it


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "cannot be read"), (b"PK\x03\x04 half", "cannot be read"), (b"text", "not opened|read")],
)
def test_damaged_files_are_errors(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        medblip.convert_checkpoint(tmp_path / "a.pth", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_other_content_is_an_error(tmp_path: Path) -> None:
    for record in ([1], {"model": {"a": 1}}, {"epoch": 3}, {}):
        torch.save(record, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match="no checkpoint of BLIP or LAVIS"):
            medblip.convert_checkpoint(tmp_path / "a.pth", tmp_path / "x")


def test_tokenizers_that_are_absent_or_foreign_are_errors(
    tmp_path: Path, original: Path, tiny_folder: Path
) -> None:
    target = tmp_path / "x"
    with pytest.raises(CheckpointError, match="cannot be loaded"):  # offline, and not in the cache
        medblip.convert_checkpoint(original, target)
    with pytest.raises(CheckpointError, match=r"expected: 30524 tokens .* \[DEC\] 30522"):
        medblip.convert_checkpoint(original, target, tokenizer=str(tiny_folder))
    with pytest.raises(CheckpointError, match="tokenizer"):
        medblip.convert_checkpoint(original, target, tokenizer=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_targets_are_replaced_on_demand_only(tmp_path: Path, tiny_folder: Path) -> None:
    file, folder = tmp_path / "a.pth", tmp_path / "b"
    medblip.convert_checkpoint(tiny_folder, file)
    medblip.convert_checkpoint(file, folder)
    for source, target in ((tiny_folder, file), (file, folder)):
        with pytest.raises(RunError, match="is taken"):
            medblip.convert_checkpoint(source, target)
        medblip.convert_checkpoint(source, target, force=True)
    other = tmp_path / "home"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="is taken"):  # no captioner: not replaced, whatever is said
        medblip.convert_checkpoint(file, other, force=True)
    inside = folder / "a.pth"
    inside.write_bytes(file.read_bytes())
    with pytest.raises(RunError, match="is taken"):
        medblip.convert_checkpoint(inside, folder, force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pth", "b", "home"]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.pth"
    medblip.convert_checkpoint(tiny_folder, file)
    before = file.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunError, match="No space left"):
        medblip.convert_checkpoint(tiny_folder, file, force=True)
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]


def test_wrong_pairs_are_errors(tmp_path: Path, tiny_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="ends with"):
        medblip.convert_checkpoint(tiny_folder, tmp_path / "x")
    with pytest.raises(CheckpointError, match="not found"):
        medblip.convert_checkpoint(tmp_path / "no.pth", tmp_path / "x")
    with pytest.raises(CheckpointError, match="--tokenizer is for"):
        medblip.convert_checkpoint(tiny_folder, tmp_path / "x.pth", tokenizer="bundled")
    ViTModel(ViTConfig(hidden_size=12, num_hidden_layers=1, intermediate_size=8)).save_pretrained(
        tmp_path / "vit"
    )
    with pytest.raises(CheckpointError, match="unknown family"):
        medblip.convert_checkpoint(tmp_path / "vit", tmp_path / "x.pth")


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["bundled", f"{tmp_path}/a.pth"], [f"{tmp_path}/a.pth", f"{tmp_path}/b"]):
        with pytest.raises(SystemExit) as stop:
            main(["models", "convert", *words, "--json"])
        assert stop.value.code == 0
        record = json.loads(capsys.readouterr().out)
        assert record["image_size"] == 128
    with pytest.raises(SystemExit):
        main(["models", "--json"])
    assert json.loads(capsys.readouterr().out)["models"]
