"""The Python that a card shows captions as medblip does, for every family that can be saved."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from pathlib import Path

import pytest
from published import published
from training_runs import make_data

from medblip.config import ModelConfig
from medblip.models.captioner import load_captioner
from medblip.schema import read_predictions
from medblip.stages.caption import caption
from medblip.stages.card.collect import _chats
from medblip.stages.card.usage import snippet

NAMES = [
    "blip-base", "vit-gpt2", "blip2-opt-2.7b", "blip2-flan-t5-xl", "instructblip-flan-t5-xl",
    "instructblip-vicuna-7b", "llava", "paligemma",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # PaliGemma's
@pytest.mark.parametrize("name", NAMES)
def test_the_lines_caption_as_medblip_does(name: str, tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", 2, 2, 2)
    captioner = load_captioner(ModelConfig(name=str(published(name, tmp_path / name))))
    saved = tmp_path / "saved"
    saved.mkdir()
    captioner.save(saved)
    run = tmp_path / "run"
    short = ["decode.max_new_tokens=6", "decode.num_beams=2"]
    caption(run, data, model=str(saved), device="cpu", overrides=short)
    family = json.loads((saved / "config.json").read_text())["model_type"]
    prompt = json.loads((saved / "medblip.json").read_text())["prompt"]
    lines = snippet(
        str(saved), family, prompt, {"num_beams": 2, "max_new_tokens": 6}, chats=_chats(saved)
    )
    captions = read_predictions(run / "predictions" / "test.jsonl")
    for one in captions:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(lines.replace("image.png", str(data / "images" / f"{one.id}.png")), {})
        words = said.getvalue().strip()
        assert words.removeprefix(prompt).strip() == one.caption.strip()
    if name == "paligemma":  # six tokens of its tiny vocabulary are no letters yet
        return
    assert len({dataclasses.astuple(one)[1] for one in captions}) == 2  # the image matters


def test_what_generation_config_would_do_otherwise_is_said() -> None:
    """`generate` obeys the base model's generation_config.json; medblip has its own settings."""
    stored = {"do_sample": True, "temperature": 0.6, "repetition_penalty": 1.5, "top_p": None}
    assert "max_new_tokens=64, do_sample=False, repetition_penalty=1.0)" in snippet(
        "x", "blip", "", {}, stored=stored
    )
    assert "max_new_tokens=64)" in snippet("x", "blip", "", {})
    drawn = {"num_beams": 1, "sample": True, "temperature": 0.6}
    assert "max_new_tokens=64, repetition_penalty=1.0, top_k=0)" in snippet(
        "x", "blip", "", drawn, stored=stored
    )
