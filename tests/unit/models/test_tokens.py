"""Captions as text: the blanks that a vocabulary without them leaves inside words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medblip.config import DecodeConfig, ModelConfig
from medblip.models.captioner import load_captioner
from medblip.models.tokens import closed_up


@pytest.mark.parametrize(
    ("decoded", "text"),
    [
        ("chest x - ray", "chest x-ray"),
        ("follow - up of a left - sided mass", "follow-up of a left-sided mass"),
        ("2. 5 x 3. 0 cm", "2.5 x 3.0 cm"),
        ("t2 / flair", "t2/flair"),
        ("patient ' s age", "patient's age"),
        ("levels 1, 2 and 3", "levels 1, 2 and 3"),
        ("a mass. the liver is normal.", "a mass. the liver is normal."),
        ("- chest", "- chest"),
        ("a-b-c stays", "a-b-c stays"),
        ("t1 - t2 - weighted", "t1-t2-weighted"),
        ("", ""),
    ],
)
def test_blanks_inside_words_and_numbers(decoded: str, text: str) -> None:
    assert closed_up(decoded) == text
    assert closed_up(text) == text, "once more changes nothing"


@pytest.mark.parametrize("beams", [1, 3])
def test_the_setting_changes_the_text_and_no_token(tiny_folder: Path, beams: int) -> None:
    captioner = load_captioner(ModelConfig(name=str(tiny_folder)))
    embeds = captioner.encode(torch.randn(4, 3, *captioner.image_size))
    found = []
    for close_up in (False, True):
        decode = DecodeConfig(num_beams=beams, max_new_tokens=12, close_up=close_up)
        found.append([one[0] for one in captioner.generate(embeds, decode)])
    for as_decoded, closed in zip(*found, strict=True):
        assert as_decoded.tokens == closed.tokens
        assert closed.text == closed_up(as_decoded.text)
