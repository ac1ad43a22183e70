"""Every setting of a run: typed, frozen, with its default. Nothing else.

`medblip.config` reads them from TOML, applies overrides and writes them as JSON.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from medblip.settings_class import config as _config
from medblip.settings_remote import RemoteConfig

__all__ = [
    "BUNDLED",
    "SECTIONS",
    "AdapterConfig",
    "DataConfig",
    "DecodeConfig",
    "EvalConfig",
    "FreezeConfig",
    "LoraConfig",
    "ModelConfig",
    "OptimConfig",
    "RemoteConfig",
    "RunConfig",
    "TrackConfig",
    "TrainConfig",
]

#: Name of the captioner that ships inside the package.
BUNDLED = "bundled"


@_config
class DataConfig:
    """Which prepared data set, and how much of it.

    Args:
        root: Folder with `manifest.jsonl`, made by `medblip data prepare` or `data phantoms`.
        max_tokens: Longer captions are cut here when they become labels, never when scored.
        captions: What training reads where the data set was prepared with cleaning rules:
            `cleaned` or `raw`. Scores are always computed on the raw ones.
    """

    root: str = "data/phantoms"
    max_tokens: int = 64
    captions: Literal["cleaned", "raw"] = "cleaned"


@_config
class ModelConfig:
    """Which captioner to start from.

    Args:
        name: `bundled`, a folder that `from_pretrained` reads, a run directory, or a hub id.
        revision: Commit of a hub id; None takes its main branch. A run records the commit.
        prompt: Words that every caption begins with, or an instruction; never trained on, cut from
            the output. None: the captioner's own, as published or as it was trained.
        weights: Numbers that weights are kept as. `auto`: `fp32`, or `bf16` where captions are
            generated in it or only adapters train and fp32 does not fit; `int8` and `int4` need
            `pip install 'medblip[quant]'`.
    """

    name: str = BUNDLED
    revision: str | None = None
    prompt: str | None = None
    weights: Literal["auto", "fp32", "bf16", "int8", "int4"] = "auto"


@_config
class FreezeConfig:
    """Which parameters train, and how fast.

    Args:
        preset: `full`, `decoder`, `encoder` (the paper's three), `cross-attention`, `connector`
            (a Q-Former or projector alone), `lora`, `connector-lora` (both), `adapter`
            (bottlenecks), or `custom` (rules only).
        rules: Ordered `[regex, rate]` pairs tried before the preset's; rate is a learning rate or
            `"frozen"`. The first regex found in a parameter's name decides; every parameter must
            match one.
    """

    preset: Literal[
        "full", "decoder", "encoder", "cross-attention", "connector", "lora", "connector-lora",
        "adapter", "custom",
    ] = "full"  # fmt: skip
    rules: tuple[tuple[str, float | Literal["frozen"]], ...] = ()

    def __post_init__(self) -> None:
        for pattern, _ in self.rules:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"freeze.rules: {pattern!r} is not a regex ({error})") from None
        if self.preset == "custom" and not self.rules:
            raise ValueError('freeze.preset = "custom" needs freeze.rules')


@_config
class LoraConfig:
    """Low-rank adapters (arXiv 2106.09685), for the presets `lora` and `connector-lora`.

    Args:
        rank: Rank of each update.
        alpha: Update is scaled by alpha / rank.
        dropout: On the adapter's input.
        dora: Also train the length of each column of the weights (arXiv 2402.09353).
        towers: Adapt the linear layers of the vision encoder, the text decoder, or both.
        train_embeddings: Also train BERT's word embeddings (tied to the output layer) in full:
            needed when the captions hold words that the captioner has never seen. Those of large
            language models stay.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    dora: bool = False
    towers: tuple[Literal["vision", "text"], ...] = ("vision", "text")
    train_embeddings: bool = True


@_config
class AdapterConfig:
    """Bottleneck adapters (arXiv 1902.00751, placed as in 2005.00247), for the preset `adapter`.

    Args:
        width: Of the bottleneck.
        towers: As `LoraConfig.towers`.
        train_embeddings: As `LoraConfig.train_embeddings`.
    """

    width: int = 64
    towers: tuple[Literal["vision", "text"], ...] = ("vision", "text")
    train_embeddings: bool = True

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"adapter.width must be at least 1; got {self.width}")


@_config
class OptimConfig:
    """AdamW with linear warm-up and cosine decay.

    The defaults are the bundled captioner's: its encoder already sees, its vocabulary is new.

    Args:
        lr: Peak rate of the preset's trainable parameters.
        vision_factor: Times `lr`: rate of the vision encoder.
        words_factor: Times `lr`: rate of the word embeddings and of the head that is tied to them.
        layer_decay: A layer's rate is the next higher one's times this (arXiv 1801.06146):
            the lowest layers, which know most that is general, move least. 1.0 is off.
        weight_decay: On matrices only; never on biases, norms or frozen parameters.
        warmup: Share of all steps.
        final_lr: Rate at the end, as a share of the peak.
        clip_norm: Largest gradient norm.
        label_smoothing: As BLIP trains (0.1).
    """

    lr: float = 1e-3
    vision_factor: float = 0.1
    words_factor: float = 10.0
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    warmup: float = 0.08
    final_lr: float = 0.02
    clip_norm: float = 1.0
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise ValueError(f"optim.warmup is a share of all steps, 0 to 1; got {self.warmup}")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"optim.layer_decay is above 0, at most 1; got {self.layer_decay}")
        for name in ("lr", "vision_factor", "words_factor"):
            if getattr(self, name) <= 0:
                raise ValueError(f"optim.{name} must be positive; got {getattr(self, name)}")


@_config
class TrainConfig:
    """How long, how often to look, and what counts as best.

    Args:
        epochs: Times that each caption is seen.
        batch_size: Captions per optimizer step, over all processes.
        micro_batch_size: Captions per forward pass of one process; None: the largest that fits.
            The objective is the same for any value, because the loss is divided by the tokens of
            the whole batch.
        validations: How many times per run the validation split is captioned and scored.
        validation_images: Captioned at each of them (the first ones); the loss takes as many.
        loss_validations: How many times per run the token loss on them is measured.
        select: The best checkpoint maximises this metric of the validation captions: any lexical or
            audit metric of `medblip evaluate`, `loss` (its negative), or a mix of weights, such as
            `{CIDEr-D = 1.0, BLEU-4 = 0.5}`.
        patience: Stop after so many validations without a better one; None: never.
        collapse: What happens when captions stop depending on the image: `warn`, `stop` or `off`.
        loss_limit: Mean loss per token at which a run counts as diverged (ln of BLIP's vocabulary,
            a blind guess, is 10.3).
        save_every: Steps between resumable checkpoints; None: 500. One is also kept at each
            validation, at the end, and when the run is interrupted.
        keep_checkpoints: How many resumable ones stay, so that a damaged one has a predecessor;
            the best is kept besides.
        seed: Of the sample order, of new parameters and of dropout.
        precision: `auto` is bf16 on a GPU that has it, else fp32; `fp16` scales its loss.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        workers: Threads that read batches ahead of the step; 0 reads within the step.
        gradient_checkpointing: Trade time for memory.
        compile: Compile the network with torch.compile.
        sharding: On several processes, keep the whole network in each (`ddp`) or a share (`fsdp`).
        feature_cache: A frozen encoder runs once per image and its output is kept on the disk:
            `auto` (beside the data set, if there is room), `off`, or a folder for it.
        feature_dtype: Of the kept output; fp16 is half the space (docs/training.md has its error).
    """

    epochs: int = 3
    batch_size: int = 8
    micro_batch_size: int | None = None
    validations: int = 2
    validation_images: int = 256
    loss_validations: int = 8
    select: str | dict[str, float] = "CIDEr-D"
    patience: int | None = None
    collapse: Literal["warn", "stop", "off"] = "warn"
    loss_limit: float = 50.0
    save_every: int | None = None
    keep_checkpoints: int = 2
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "auto"
    workers: int = 2
    gradient_checkpointing: bool = False
    compile: bool = False
    sharding: Literal["ddp", "fsdp"] = "ddp"
    feature_cache: str = "auto"
    feature_dtype: Literal["fp16", "fp32"] = "fp16"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validations", "validation_images",
                     "loss_validations", "keep_checkpoints"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1; got {getattr(self, name)}")
        for name in ("micro_batch_size", "save_every", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"train.{name}: at least 1; got {value}")
        if self.workers < 0:
            raise ValueError(f"train.workers: 0 or more; got {self.workers}")
        if isinstance(self.select, dict) and not any(self.select.values()):
            raise ValueError("train.select: a mix needs at least one weight that is not 0")


@_config
class TrackConfig:
    """Where a run is followed, besides `metrics.jsonl`; needs `pip install 'medblip[track]'`.

    Args:
        tools: `tensorboard` (files in the run directory), `wandb`, `mlflow`, `trackio`: the last
            three as their own environment variables say, offline included.
        project: Name of the project there.
    """

    tools: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ()
    project: str = "medblip"


@_config
class DecodeConfig:
    """How captions are generated; the same object reaches every layer.

    Args:
        num_beams: 1 is greedy.
        max_new_tokens: Generated tokens at most, prompt not counted.
        min_new_tokens: No end of caption before.
        length_penalty: Beam score = sum of log-probabilities / length ** penalty.
        repetition_penalty: 1.0 is none (arXiv 1909.05858).
        no_repeat_ngram_size: 0 is off.
        sample: Draw each token instead of taking the likeliest; the draws of an image are decided
            by `seed` and its id alone.
        temperature: Logits are divided by it before a draw.
        top_k: Draw among so many likeliest tokens; 0: among all.
        top_p: Draw among the likeliest tokens that have this probability together (arXiv
            1904.09751).
        close_up: Take out the blanks that a vocabulary without them (BERT's: BLIP, Q-Formers'
            prompts) leaves around hyphens, slashes and points: `x - ray` is written `x-ray`. Off:
            captions are transformers' to the letter.
        num_captions: Captions per image: the best beams, or draws. The first is the caption, the
            others are alternatives.
        seed: Of the draws.
        precision: `auto` is bf16 on a GPU that has it, else fp32; some captions then differ by a
            word (docs/captioning.md has the share).
        batch_size: Images per call; changes speed only.
    """

    num_beams: int = 3
    max_new_tokens: int = 64
    min_new_tokens: int = 0
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    close_up: bool = False
    num_captions: int = 1
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    batch_size: int = 64

    def __post_init__(self) -> None:
        for name in ("num_beams", "batch_size", "max_new_tokens", "num_captions"):
            if getattr(self, name) < 1:
                raise ValueError(f"decode.{name} must be at least 1; got {getattr(self, name)}")
        for name in ("min_new_tokens", "no_repeat_ngram_size", "top_k"):
            if getattr(self, name) < 0:
                raise ValueError(f"decode.{name}: 0 or more; got {getattr(self, name)}")
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError("decode.min_new_tokens must not exceed decode.max_new_tokens")
        if self.repetition_penalty <= 0 or self.temperature <= 0:
            raise ValueError("decode.repetition_penalty and decode.temperature must be positive")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"decode.top_p is above 0, at most 1; got {self.top_p}")
        if self.sample and self.num_beams > 1:
            raise ValueError("decode.sample draws single tokens: set decode.num_beams to 1")
        if not self.sample and self.num_captions > self.num_beams:
            raise ValueError(
                f"decode.num_captions = {self.num_captions} needs as many beams (decode.num_beams "
                f"is {self.num_beams}), or decode.sample = true"
            )
        changed = self.temperature != 1 or self.top_k or self.top_p != 1
        if changed and not self.sample:
            raise ValueError("decode.temperature, top_k and top_p need decode.sample = true")


@_config
class EvalConfig:
    """How sure the scores are.

    Args:
        resamples: Bootstrap resamples behind each 95 % interval.
        seed: Of the resampling.
        bertscore: Encoder of BERTScore where `train.select` names it.
        cosine: Encoder of sentence similarity where `train.select` names it.
    """

    resamples: int = 1000
    seed: int = 0
    bertscore: str | None = None
    cosine: str | None = None


@_config
class RunConfig:
    """One run: everything that decides its result, besides the machine."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    freeze: FreezeConfig = dataclasses.field(default_factory=FreezeConfig)
    lora: LoraConfig = dataclasses.field(default_factory=LoraConfig)
    adapter: AdapterConfig = dataclasses.field(default_factory=AdapterConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    track: TrackConfig = dataclasses.field(default_factory=TrackConfig)
    decode: DecodeConfig = dataclasses.field(default_factory=DecodeConfig)
    remote: RemoteConfig = dataclasses.field(default_factory=RemoteConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)


#: Names of the sections, in the order of a file.
SECTIONS = tuple(field.name for field in dataclasses.fields(RunConfig))
