"""The bundled captioner says what transformers' `generate` says, on phantoms and real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import medblip
from medblip.config import DecodeConfig, ModelConfig
from medblip.data.images import open_image
from medblip.data.store import Resize, normalised
from medblip.models.blip import BlipCaptioner
from medblip.models.captioner import load_captioner

SIZE = 60
pytestmark = pytest.mark.timeout(900)  # transformers takes minutes for 900 images


@pytest.fixture(scope="module")
def captioner() -> BlipCaptioner:
    loaded = load_captioner(ModelConfig())
    assert isinstance(loaded, BlipCaptioner)
    return loaded


def pixels_of(captioner: BlipCaptioner, files: list[Path]) -> torch.Tensor:
    resize = Resize(*captioner.image_size, captioner.image_resample)
    shape = (3, *captioner.image_size)
    stacked = np.stack([np.broadcast_to(resize.apply(open_image(f)), shape) for f in files])
    return normalised(stacked, captioner.image_mean, captioner.image_std)


@torch.inference_mode()
def check(captioner: BlipCaptioner, files: list[Path], beams: tuple[int, ...]) -> None:
    config = captioner.network.config.text_config
    back = captioner.processor.tokenizer.convert_tokens_to_ids
    said = set()
    for at in range(0, len(files), SIZE):
        embeds = captioner.encode(pixels_of(captioner, files[at : at + SIZE]))
        start = torch.full((len(embeds), 1), config.bos_token_id)
        for num_beams in beams:
            found = captioner.generate(embeds, DecodeConfig(num_beams=num_beams))
            stock = captioner.network.text_decoder.generate(
                input_ids=start, attention_mask=torch.ones_like(start), max_new_tokens=64,
                encoder_hidden_states=embeds, eos_token_id=config.sep_token_id,
                pad_token_id=config.pad_token_id, num_beams=num_beams, do_sample=False,
                **({"early_stopping": False} if num_beams > 1 else {}),
            )[:, 1:].tolist()  # fmt: skip
            for (best, *_), ids in zip(found, stock, strict=True):
                end = config.sep_token_id
                expected = ids[: ids.index(end) + 1] if end in ids else ids
                assert back(list(best.tokens)) == expected
                said.add(best.text)
    assert len(said) > min(20, len(files) // 4)


@pytest.mark.parametrize(
    ("images", "beams"),
    [(40, (1, 3)), pytest.param(300, (1, 3, 5), marks=pytest.mark.slow)],
)
def test_phantoms(
    captioner: BlipCaptioner, tmp_path: Path, images: int, beams: tuple[int, ...]
) -> None:
    medblip.phantoms(tmp_path / "data", images=images, seed=11)
    files = sorted((tmp_path / "data" / "images").rglob("*.png"))
    assert len(files) == images
    check(captioner, files, beams)


@pytest.mark.parametrize(
    ("step", "beams"), [(15, (1, 3)), pytest.param(1, (1, 3, 5), marks=pytest.mark.slow)]
)
def test_real_images(
    captioner: BlipCaptioner, shared_data: Path, step: int, beams: tuple[int, ...]
) -> None:
    files = sorted((shared_data / "radiology-open" / "images").iterdir())[::step]
    check(captioner, files, beams)
