"""Where weights go, and what a user reads when a captioner cannot be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import hub_server
import pytest
import torch
from published import cached, published
from tiny_vlm import VLMS

from medblip.config import DecodeConfig, ModelConfig
from medblip.errors import CheckpointError
from medblip.models import loading
from medblip.models.captioner import load_captioner, settled
from medblip.models.loading import place

GB = 1_000_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published("blip-base", tmp_path_factory.mktemp("published") / "blip-base")


def test_what_fits_goes_to_the_device() -> None:
    found = place("x", 4 * GB, "bf16", "cuda", 20 * GB, 60 * GB)
    assert found.device_map is None
    assert "4.00 billion weights as bf16, 8.0 GB, on cuda, where 20.0 GB are free" in found.sentence
    assert place("x", 4 * GB, "fp32", "mps", None, None).device_map is None


def test_what_does_not_fit_spills_into_main_memory() -> None:
    found = place("x", 8 * GB, "bf16", "cuda", 10 * GB, 60 * GB)
    assert found.device_map == "auto"
    assert "many times slower" in found.sentence
    with pytest.raises(CheckpointError):  # to train, main memory does not help
        place("x", 8 * GB, "bf16", "cuda", 10 * GB)


@pytest.mark.parametrize(
    ("device", "numbers", "advice"),
    [("cuda", "bf16", "int8"), ("cpu", "fp32", "bf16"), ("cuda", "int8", "int4")],
)
def test_what_fits_nowhere_is_refused(device: str, numbers: str, advice: str) -> None:
    with pytest.raises(CheckpointError, match="needs more memory than there is") as raised:
        place("big", 70 * GB, numbers, device, 24 * GB, 8 * GB)
    assert f"model.weights={advice}" in str(raised.value)
    assert "24.0 GB that are free" in str(raised.value)


def test_memory_is_looked_at_before_weights_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "free_bytes", lambda device: 1_000_000)
    weights = folder / "model.safetensors"
    away = weights.rename(folder / "away")
    (folder / "model.safetensors").write_bytes(b"never read")
    try:
        with pytest.raises(CheckpointError, match="more memory than there is"):
            load_captioner(ModelConfig(name=str(folder)))
    finally:
        away.replace(weights)


def test_the_first_numbers_that_fit_are_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = sum(
        p.numel() for p in load_captioner(ModelConfig(name=str(folder))).network.parameters()
    )
    monkeypatch.setattr(loading, "free_bytes", lambda device: 3 * size)
    monkeypatch.setattr(loading, "_SAID_FROM", 0)
    made = load_captioner(ModelConfig(name=str(folder)), numbers=("fp32", "bf16"))
    assert {p.dtype for p in made.network.parameters()} == {torch.bfloat16}
    assert "weights as bf16" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("name", ["blip-base", "blip2-opt-2.7b", "llava"])
def test_eight_bits(tmp_path: Path, name: str) -> None:
    pytest.importorskip("bitsandbytes")
    folder = published(name, tmp_path / name)
    made: Any = load_captioner(ModelConfig(name=str(folder), weights="int8"))
    assert torch.int8 in {p.dtype for p in made.network.parameters()}
    exact: Any = load_captioner(ModelConfig(name=str(folder)))
    pixels = torch.rand(2, 3, *exact.image_size)
    batch = exact.collate(exact.tokenize(["chest", "normal chest"], 8))
    with torch.inference_mode():
        said = made.generate(made.encode(pixels), DecodeConfig(max_new_tokens=4))
        losses = [float(one.token_losses(one.encode(pixels), batch, 0.0)) for one in (made, exact)]
    assert len(said) == 2
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_without_bitsandbytes_the_extra_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(CheckpointError, match="medblip\\[quant\\]"):
        load_captioner(ModelConfig(name=str(folder), weights="int4"))


@pytest.mark.parametrize("part", ["model.safetensors", "config.json", "tokenizer_config.json"])
def test_a_half_downloaded_folder(tmp_path: Path, part: str) -> None:
    half = published("vit-gpt2", tmp_path / "vit-gpt2")
    if part == "model.safetensors":
        data = (half / part).read_bytes()
        (half / part).write_bytes(data[: len(data) // 2])
    else:
        (half / part).unlink()
        (half / "tokenizer.json").unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_captioner(ModelConfig(name=str(half)))
    left = half / ".cache" / "huggingface" / "download" / "model.safetensors.abc.incomplete"
    left.parent.mkdir(parents=True)
    left.touch()  # as `hf download --local-dir` leaves it
    with pytest.raises(CheckpointError, match="download it again: a part is missing"):
        load_captioner(ModelConfig(name=str(half)))


def test_the_prompt_is_the_published_one_or_the_own(folder: Path, tmp_path: Path) -> None:
    assert settled(ModelConfig(name=str(folder))).prompt == "a picture of"
    assert settled(ModelConfig(name=str(folder), prompt="")).prompt == ""
    assert settled(ModelConfig()).prompt == ""  # the bundled one was trained without
    load_captioner(ModelConfig(name=str(folder), prompt="a chest")).save(tmp_path / "own")
    assert settled(ModelConfig(name=str(tmp_path / "own"))).prompt == "a chest"


# huggingface_hub reads its environment when it is imported: each of these is a process of its own.
LOAD = """
import json, sys
from medblip.config import ModelConfig
from medblip.errors import MedblipError
from medblip.models.captioner import load_captioner, settled
name, revision = sys.argv[1:]
try:
    model = settled(ModelConfig(name=name, revision=revision or None))
    load_captioner(model)
    print(json.dumps({"revision": model.revision}))
except MedblipError as error:
    print(json.dumps({"error": str(error)}))
"""


def load(name: str, environment: dict[str, str], revision: str = "") -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", LOAD, name, revision], capture_output=True, text=True, timeout=120,
        env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_hub(folder: Path, tmp_path: Path) -> None:
    files = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    with hub_server.running() as hub:
        commit = hub.commit("team/captioner", files)
        hub.commit("team/gated", files)
        hub.repos["team/gated"].gated = True
        environment = hub.environment(tmp_path / "home")
        assert load("team/captioner", environment) == {"revision": commit}
        gated = load("team/gated", environment)["error"]
        assert "team/gated is gated" in gated
        assert "accept" in gated
        absent = load("team/absent", environment)["error"]
        assert "is not on the hub, or is private" in absent
        other = load("team/captioner", environment, "v9")["error"]
        assert "no such revision" in other
        cut = hub.environment(tmp_path / "cut")
        hub.commit("team/half", {k: v for k, v in files.items() if k != "model.safetensors"})
        half = load("team/half", cut)["error"]
        assert "cannot be loaded" in half
    # the hub is gone: what is whole on this machine still loads, by its commit
    assert load("team/captioner", environment) == {"revision": commit}
    offline = load("team/never", environment | {"HF_HUB_OFFLINE": "1"})["error"]
    assert "the hub cannot be reached" in offline
    started = time.monotonic()
    gone = load("team/never", environment)["error"]
    assert "the hub cannot be reached" in gone
    assert time.monotonic() - started < 30  # not the client's five patient attempts per file
    assert "hf download team/never" in offline


@pytest.mark.parametrize("name", ["blip-base", "instructblip-flan-t5-xl", "vit-gpt2", *VLMS])
def test_what_was_downloaded_elsewhere_loads_without_a_network(name: str, tmp_path: Path) -> None:
    cached(name, f"team/{name}", tmp_path)
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    assert load(f"team/{name}", environment) == {"revision": "a" * 40}
