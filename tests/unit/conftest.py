"""A tiny random BLIP with a vocabulary of its own: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
)

from medblip.files import write_json
from medblip.models.blip import BlipCaptioner
from medblip.models.loading import Loading

WORDS = [
    "a",
    "chest",
    "x",
    "-",
    "ray",
    "with",
    "left",
    "right",
    "pleural",
    "effu",
    "##sion",
    "normal",
    "of",
    "the",
    "no",
    "nodule",
    "picture",
]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save the captioner in transformers' own layout and return its folder."""
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *WORDS]
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = BlipConfig(
        text_config={
            **size, "num_attention_heads": 4, "encoder_hidden_size": 32, "vocab_size": len(vocab),
            "bos_token_id": 5, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0,
            "max_position_embeddings": 64, "projection_dim": 32,
        },
        vision_config={
            **size, "num_attention_heads": 4, "image_size": 32, "patch_size": 8,
            "initializer_range": 0.05,  # BLIP's own default, 1e-10, makes every image look alike
            "projection_dim": 32,
        },
        projection_dim=32, image_text_hidden_size=32,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = BlipForConditionalGeneration(config)
        for name, parameter in network.named_parameters():  # sharper than 0.02: images matter
            if parameter.ndim > 1:
                parameter.data.mul_(10 if "crossattention" in name else 4)
    tokenizer = BertTokenizer(
        vocab={word: i for i, word in enumerate(vocab)}, extra_special_tokens=["[DEC]"]
    )
    processor = BlipProcessor(BlipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer)
    folder = tmp_path_factory.mktemp("tiny-blip")
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_json(folder / "medblip.json", {"prompt": ""})  # trained without one
    return folder


@pytest.fixture
def captioner(tiny_folder: Path) -> BlipCaptioner:
    """Load a fresh copy."""
    return BlipCaptioner.load(Loading(source=str(tiny_folder)), "")


@pytest.fixture
def pixels() -> torch.Tensor:
    """Return five images, (5, 3, 32, 32)."""
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
