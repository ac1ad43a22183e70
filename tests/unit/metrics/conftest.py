"""Tiny random text encoders, built here: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel

WORDS = ["chest", "x-ray", "ct", "of", "the", "left", "right", "lung", "with", "nodule", "no",
         "effusion", "normal", "liver", "mri", "knee", "."]  # fmt: skip
SIZE = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}


def _words_tokenizer() -> Any:
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "x", "-", "ray"]
    return transformers.BertTokenizer(vocab={word: i for i, word in enumerate(vocab)})


def _bytes_vocab(*specials: str) -> dict[str, int]:
    return {piece: i for i, piece in enumerate([*specials, *sorted(ByteLevel.alphabet())])}


def _build(kind: str, layers: int = 4) -> tuple[Any, Any]:
    """Return a random network and its tokenizer; wide weights, so that vectors differ."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "bert":
            tokenizer = _words_tokenizer()
            network: Any = transformers.BertForPreTraining(
                transformers.BertConfig(
                    **SIZE, num_hidden_layers=layers, vocab_size=len(tokenizer),
                    max_position_embeddings=40, initializer_range=0.3,
                )
            )  # fmt: skip
        elif kind == "roberta":
            vocab = _bytes_vocab("<s>", "<pad>", "</s>", "<unk>", "<mask>")
            tokenizer = transformers.RobertaTokenizer(vocab=vocab, merges=[])
            network = transformers.RobertaForMaskedLM(  # no pooler in the file
                transformers.RobertaConfig(
                    **SIZE, num_hidden_layers=layers, vocab_size=len(vocab),
                    max_position_embeddings=42, initializer_range=0.3,
                )
            )  # fmt: skip
        elif kind == "deberta":
            vocab = _bytes_vocab("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
            tokenizer = transformers.DebertaTokenizer(vocab=vocab, merges=[])
            network = transformers.DebertaForSequenceClassification(
                transformers.DebertaConfig(
                    **SIZE, num_hidden_layers=layers, vocab_size=len(vocab), pad_token_id=1,
                    max_position_embeddings=64, relative_attention=True, initializer_range=0.3,
                    pos_att_type=["c2p", "p2c"], position_biased_input=False, type_vocab_size=0,
                )
            )  # fmt: skip
        elif kind == "gpt2":
            vocab = _bytes_vocab("<|endoftext|>")
            tokenizer = transformers.GPT2Tokenizer(vocab=vocab, merges=[])
            network = transformers.GPT2LMHeadModel(
                transformers.GPT2Config(
                    n_embd=32, n_layer=layers, n_head=4, n_positions=64, vocab_size=len(vocab),
                    initializer_range=0.3, bos_token_id=0, eos_token_id=0,
                )
            )  # fmt: skip
        else:
            pieces = ["▁" + word for word in WORDS] + list("abcdefghijklmnopqrstuvwxyz-")
            vocab_scores = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -4.0)]
            vocab_scores += [(piece, -2.0 - (len(piece) < 2) * 4) for piece in pieces]
            tokenizer = transformers.T5Tokenizer(vocab=vocab_scores, extra_ids=0)
            network = transformers.T5ForConditionalGeneration(
                transformers.T5Config(
                    d_model=32, d_kv=8, d_ff=48, num_layers=layers, num_decoder_layers=1,
                    num_heads=4, vocab_size=len(vocab_scores), decoder_start_token_id=0,
                )
            )  # fmt: skip
    return network.eval(), tokenizer


def _save(folder: Path, kind: str, layers: int = 4) -> Path:
    network, tokenizer = _build(kind, layers)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def save_encoder() -> Callable[..., Path]:
    """Return (folder, kind, layers=4) -> folder: bert, roberta, deberta, gpt2 or t5."""
    return _save


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return kind -> folder of the tiny encoder."""
    root = tmp_path_factory.mktemp("encoders")

    def folder(kind: str) -> Path:
        path = root / f"tiny-{kind}"
        return path if path.is_dir() else _save(path, kind)

    return folder
