"""Train the captioner that ships inside medblip, from nothing, on everyday scenes.

    python tools/bundled_captioner/train.py --out src/medblip/assets/everyday-blip

A real `BlipForConditionalGeneration`, small enough for a laptop, that speaks everyday English and
knows no radiology. Seed, steps, time and held-out scores are written beside the weights.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import everyday
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
)

from medblip.data.phantoms import vocabulary as phantom_words
from medblip.metrics import evaluate_captions

HERE = Path(__file__).parent
DATA = (
    "Everyday scenes drawn by tools/bundled_captioner/everyday.py. Some backdrops are the anatomy "
    "of medblip's phantoms without findings, under everyday names (a coat with stripes); no "
    "finding is drawn and no radiological word is said. Words that no scene holds have average "
    "embeddings."
)
SIZE = 128
VOCABULARY = 1536  # the rest is [unused], as in BERT
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
PUNCTUATION = ".,;:!?()[]{}<>=+-*/%&'\"_#@|~^$"
PUNCTUATION += (
    "\u00b0\u00d7\u00b1\u2013\u2014\u2019\u201c\u201d\u03bc\u2265\u2264"  # as in captions
)


def vocabulary() -> tuple[list[str], int]:
    """Return the WordPiece vocabulary and how many of its first words the scenes use.

    Pure data, so that the order is stable.
    """
    spoken = [*SPECIAL, ",", *everyday.words()]
    text = [line for line in (HERE / "words.txt").read_text().splitlines() if line[:1] != "#"]
    characters = sorted({*"abcdefghijklmnopqrstuvwxyz0123456789", *PUNCTUATION})
    pieces = sorted(
        {
            f"##{piece}"
            for piece in [
                *(HERE / "pieces.txt").read_text().split(),
                *filter(str.isalnum, characters),
            ]
        }
    )
    numbers = [str(number) for number in range(10, 100)]
    plain = sorted({*" ".join(text).split()})
    known = list(dict.fromkeys([*spoken, *characters, *numbers, *pieces, *plain]))
    later = [w for p in sorted(phantom_words()) for w in re.findall(r"[a-z0-9]+", p.lower())]
    known = list(dict.fromkeys([*known, *later]))
    rest = [f"[unused{index}]" for index in range(VOCABULARY - len(known))]
    return known + rest, len(spoken)


def build(vocab: list[str]) -> tuple[BlipForConditionalGeneration, BlipProcessor]:
    """Return a randomly initialised captioner and its processor."""
    tokenizer = BertTokenizer(
        vocab={word: index for index, word in enumerate(vocab)},
        do_lower_case=True,
        extra_special_tokens=["[DEC]"],
    )
    tokenizer.model_max_length = 128
    processor = BlipProcessor(
        BlipImageProcessorPil(size={"height": SIZE, "width": SIZE}), tokenizer
    )
    width = 128
    config = BlipConfig(
        text_config={
            "vocab_size": len(vocab), "hidden_size": width, "encoder_hidden_size": width,
            "intermediate_size": 2 * width, "num_hidden_layers": 2, "num_attention_heads": 4,
            "max_position_embeddings": 128, "projection_dim": width, "label_smoothing": 0.0,
            "bos_token_id": vocab.index("[DEC]"), "pad_token_id": 0,
            "eos_token_id": vocab.index("[SEP]"), "sep_token_id": vocab.index("[SEP]"),
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        },
        vision_config={
            "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": 4,
            "num_attention_heads": 4, "image_size": SIZE, "patch_size": 16, "projection_dim": width,
            "initializer_range": 0.02,  # BLIP's default for this tower, 1e-10, never learns to see
        },
        projection_dim=width,
        image_text_hidden_size=width,
    )  # fmt: skip
    model = BlipForConditionalGeneration(config)
    places = model.vision_model.embeddings.position_embedding
    places.data[0, 1:] = sine_cosine(SIZE // 16, width)
    return model, processor


def sine_cosine(rows: int, width: int) -> torch.Tensor:
    """Return position embeddings (rows * rows, width) to start from, half for y and half for x.

    As in MAE (arXiv 2111.06377); from random ones an encoder learns later where things are.
    """
    frequency = 10000 ** -(torch.arange(width // 4) / (width // 4))
    angle = torch.arange(rows)[:, None] * frequency
    axis = torch.cat([angle.sin(), angle.cos()], dim=1) / 2
    return torch.cat([axis.repeat_interleave(rows, dim=0), axis.repeat(rows, 1)], dim=1)


def inputs(
    pixels: np.ndarray | torch.Tensor, captions: list[str], processor: BlipProcessor
) -> dict[str, torch.Tensor]:
    """Return what the model's forward takes: normalised pixels, ids after [DEC], labels."""
    image = processor.image_processor
    mean = torch.tensor(image.image_mean).view(1, 3, 1, 1)
    std = torch.tensor(image.image_std).view(1, 3, 1, 1)
    scaled = torch.as_tensor(pixels).permute(0, 3, 1, 2).float().div_(255)
    text = processor.tokenizer(captions, padding=True, return_tensors="pt")
    ids = text["input_ids"]
    ids[:, 0] = processor.tokenizer.convert_tokens_to_ids("[DEC]")
    labels = ids.masked_fill(text["attention_mask"] == 0, -100)
    return {
        "pixel_values": (scaled - mean) / std,
        "input_ids": ids,
        "attention_mask": text["attention_mask"],
        "labels": labels,
    }


def drop_words(ids: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Replace 15 % of the words that the decoder reads by [MASK]: then it must look at the image.

    Word dropout, as in Bowman et al. 2016 (arXiv 1511.06349, section 3.2).
    """
    drop = torch.rand(ids.shape, generator=generator) < 0.15
    drop[:, 0] = False
    return ids.masked_fill(drop, SPECIAL.index("[MASK]"))


class Batches(Dataset[everyday.Batch]):
    """The batch of every step; drawn in another process while this one trains."""

    def __init__(
        self, seed: int, steps: int, size: int, pool: tuple[np.ndarray, np.ndarray]
    ) -> None:
        self.seed, self.steps, self.size, self.pool = seed, steps, size, pool

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> everyday.Batch:
        return everyday.batch(self.seed, step, self.size, self.pool)


class Scaffold(nn.Module):
    """Heads that ask the encoder what is where; they speed up its first lessons, then are dropped.

    BLIP too is trained with more than the caption loss (image-text contrast and matching).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        backgrounds, shapes, tones = everyday.labels()
        self.background = nn.Linear(width, backgrounds)
        self.shape = nn.Linear(width, shapes)
        self.tone = nn.Linear(width, tones)

    def forward(self, embeds: torch.Tensor, told: everyday.Batch) -> torch.Tensor:
        """Return the sum of three mean cross-entropies; embeds (B, 1 + GRID * GRID, D)."""
        patches = embeds[:, 1:].flatten(0, 1)
        return (
            functional.cross_entropy(
                self.background(embeds[:, 0]), torch.as_tensor(told.background)
            )
            + functional.cross_entropy(self.shape(patches), torch.as_tensor(told.shapes).flatten())
            + functional.cross_entropy(self.tone(patches), torch.as_tensor(told.tones).flatten())
        )


def looking(cross_attention: torch.Tensor, told: everyday.Batch) -> torch.Tensor:
    """Return how far the decoder looks away from the thing it is about to name, >= 0.

    Mean of -log(attention on the patches of the thing), over the words that speak of a thing. Where
    things are is known here, so a decoder need not find out by itself (Liu et al., arXiv
    1605.09553); caption loss alone had not taught it to look after 6,000 steps.

    Args:
        cross_attention: (B, T, 1 + GRID * GRID) of the last layer, mean over heads; row t predicts
            token t + 1, which is word t of the caption.
        told: The scenes.
    """
    rows = [
        (image, word, owner)
        for image, owners in enumerate(told.owners)
        for word, owner in enumerate(owners)
        if owner >= 0
    ]
    image, word, owner = torch.tensor(rows).T
    places = torch.as_tensor(told.places).flatten(2)[image, owner]
    mass = (cross_attention[image, word, 1:] * places).sum(-1)
    return -(mass + 1e-6).log().mean()


def held_out_scores(
    model: BlipForConditionalGeneration, processor: BlipProcessor, seed: int, scenes: int = 512
) -> dict[str, float]:
    """Caption scenes that no step has drawn; returns metric values."""
    model.eval()
    hypotheses: list[str] = []
    references: list[list[str]] = []
    pool = everyday.background_pool(seed + 1_000_003, 0, scenes, SIZE)
    for part in range(scenes // 64):
        told = everyday.batch(seed + 1_000_003, part, 64, pool)
        feed = inputs(told.pixels, told.captions, processor)
        with torch.no_grad():
            ids = model.generate(pixel_values=feed["pixel_values"], num_beams=3, max_new_tokens=48)
        hypotheses += processor.tokenizer.batch_decode(ids, skip_special_tokens=True)
        references += [[c] for c in told.captions]
    for hypothesis, reference in list(zip(hypotheses, references, strict=True))[:5]:
        print("  ", hypothesis, "<-", reference[0])
    table = evaluate_captions(hypotheses, references)
    return {name: round(score.value, 4) for name, score in table.scores.items()}


def draw_backgrounds(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the backgrounds once, on all cores; what stands before them is new every time."""
    size = 1000
    with ProcessPoolExecutor() as pool:
        jobs = [
            pool.submit(everyday.background_pool, seed, first, min(size, count - first), SIZE)
            for first in range(0, count, size)
        ]
        parts = [job.result() for job in jobs]
    pixels, kinds = zip(*parts, strict=True)
    return np.concatenate(pixels), np.concatenate(kinds)


def average_unspoken(
    model: BlipForConditionalGeneration, spoken: int, generator: torch.Generator
) -> None:
    """Make every word that no scene holds an average word: never said, yet quick to learn.

    The mean of the known embeddings plus noise of their spread (Hewitt 2021, nlp.stanford.edu/
    ~johnhew/vocab-expansion.html); the bias of the least likely known word.
    """
    with torch.no_grad():
        embeddings = model.text_decoder.get_input_embeddings().weight
        known = embeddings[:spoken]
        noise = torch.randn(embeddings[spoken:].shape, generator=generator)
        embeddings[spoken:] = known.mean(0) + noise * known.std(0).mean()
        bias = model.text_decoder.cls.predictions.bias
        bias[spoken:] = bias[:spoken].min()


def save(model: BlipForConditionalGeneration, processor: BlipProcessor, folder: Path) -> None:
    """Write the folder that from_pretrained loads."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def main() -> None:
    """Parse, train, save, score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=14000)
    parser.add_argument("--pool", type=int, default=20000, help="backgrounds drawn before training")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--looking", type=float, default=0.2, help="weight of that loss")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    vocab, spoken = vocabulary()
    model, processor = build(vocab)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters", flush=True)
    scaffold = Scaffold(model.config.vision_config.hidden_size)
    trained = [*model.parameters(), *scaffold.parameters()]
    decay = [p for p in trained if p.ndim > 1]
    plain = [p for p in trained if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
        lr=options.lr, betas=(0.9, 0.98), fused=True,
    )  # fmt: skip

    def rate(step: int) -> float:
        warm = min(1.0, (step + 1) / (options.steps // 20))
        return warm * (0.01 + 0.99 * (1 + math.cos(math.pi * step / options.steps)) / 2)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    started, running = time.perf_counter(), 0.0
    pool = draw_backgrounds(options.seed, options.pool)
    batches = DataLoader(
        Batches(options.seed, options.steps, options.batch, pool),
        batch_size=None, num_workers=1, prefetch_factor=4,
    )  # fmt: skip
    for step, told in enumerate(batches, start=1):
        feed = inputs(told.pixels, told.captions, processor)
        embeds = model.vision_model(pixel_values=feed["pixel_values"]).last_hidden_state
        output = model.text_decoder(
            input_ids=drop_words(feed["input_ids"], generator),
            attention_mask=feed["attention_mask"],
            encoder_hidden_states=embeds,
            output_attentions=True,
            use_cache=False,
        )
        logits = output.logits[:, :-1, :spoken]  # words that no scene holds are not pushed away
        loss = functional.cross_entropy(logits.flatten(0, 1), feed["labels"][:, 1:].flatten())
        seen = scaffold(embeds, told)
        away = looking(output.cross_attentions[-1].mean(dim=1), told)
        (loss + seen + options.looking * away).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        running += max(0.01, 1 / step) * (loss.item() - running)
        if step % 250 == 0:
            told_at = f"step {step}, {time.perf_counter() - started:.0f} s"
            print(f"{told_at}: loss {running:.3f}, what-is-where {seen.item():.3f}, "
                  f"looking away {away.item():.3f}", flush=True)  # fmt: skip
        if step % 4000 == 0 and step < options.steps:
            average_unspoken(model, spoken, generator)
            save(model, processor, options.out)
            print(held_out_scores(model, processor, options.seed), flush=True)
            model.train()
    average_unspoken(model, spoken, generator)
    record = {
        "script": "tools/bundled_captioner/train.py",
        "data": DATA,
        "settings": {k: v for k, v in vars(options).items() if k != "out"},
        "parameters": parameters,
        "scenes_seen": options.steps * options.batch,
        "seconds": round(time.perf_counter() - started),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} CPU threads",
        "training_loss": round(running, 4),
        "held_out_512_scenes": held_out_scores(model, processor, options.seed),
    }
    save(model, processor, options.out)
    (options.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
