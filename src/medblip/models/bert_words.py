"""The processor of an original BLIP: its vocabulary, which no checkpoint names, is BERT's + 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import BertTokenizer, BlipImageProcessorPil, BlipProcessor

from medblip.errors import CheckpointError, explain
from medblip.models.hub import not_loadable
from medblip.models.known import hub_id

__all__ = ["DEFAULT_TOKENIZER", "processor_of"]

DEFAULT_TOKENIZER = "Salesforce/blip-image-captioning-base"
_START, _ENCODE = "[DEC]", "[ENC]"  # LAVIS blip.py adds them to bert-base-uncased, in this order


def processor_of(config: Any, tokenizer: str, image_folder: Path | None = None) -> Any:
    """Return tokenizer and image processor for a network.

    Args:
        config: The network's `BlipConfig`.
        tokenizer: Folder, short name or hub id; without [DEC] and [ENC], these are added.
        image_folder: Where an image processor is stored; None: the original's (square, bicubic,
            CLIP's mean and deviation).

    Raises:
        CheckpointError: The tokenizer is not here, or not the network's.
    """
    side = config.vision_config.image_size
    try:
        images = (
            BlipImageProcessorPil(size={"height": side, "width": side})
            if image_folder is None
            else BlipImageProcessorPil.from_pretrained(str(image_folder))
        )
    except (OSError, TypeError, ValueError) as error:
        raise not_loadable("the image processor beside the weights", error, "a BLIP") from error
    make: Any = BlipProcessor  # untyped in transformers
    return make(images, _tokenizer(config, tokenizer))


def _tokenizer(config: Any, name: str) -> Any:
    here = Path(name).is_dir()
    try:
        words: Any = BertTokenizer.from_pretrained(name if here else hub_id(name) or name)
        if len(words) <= len(words.all_special_tokens):  # transformers finds no file and goes on
            raise OSError("no vocabulary there")
    except Exception as error:  # OSError, ValueError, errors of the hub: all mean "not loadable"
        raise CheckpointError(
            explain(
                f"tokenizer {name} cannot be loaded",
                got=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
                expected="a folder with BERT's vocabulary, or a hub id (reachable or cached)",
                do=f"where there is internet: `hf download {DEFAULT_TOKENIZER}`; then "
                "--tokenizer FOLDER. Nothing was written",
            )
        ) from error
    text = config.text_config
    if _START not in words.get_vocab() and len(words) == text.vocab_size - 2:
        words.add_special_tokens({"bos_token": _START})
        words.add_tokens([_ENCODE], special_tokens=True)
    held = words.get_vocab()
    wanted = {_START: text.bos_token_id, "[SEP]": text.sep_token_id, "[PAD]": text.pad_token_id}
    got = {token: held.get(token) for token in wanted}
    if len(words) != text.vocab_size or got != wanted:
        raise CheckpointError(
            explain(
                f"tokenizer {name} is not this network's",
                got=f"{len(words)} tokens, "
                + ", ".join(f"{token} {place}" for token, place in got.items()),
                expected=f"{text.vocab_size} tokens (rows of the word embeddings), "
                + ", ".join(f"{token} {place}" for token, place in wanted.items()),
                do="name the tokenizer that it was trained with (--tokenizer); BLIP's is "
                f"{DEFAULT_TOKENIZER}. Nothing was written",
            )
        )
    return words
