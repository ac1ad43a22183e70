"""Every setting of a run: typed, frozen, read from TOML, written as JSON. Nothing else.

    cfg = load(Path("configs/blip_base.toml"), overrides=["optim.lr=2e-5"])

Precedence: defaults < file < overrides. An empty configuration is the demo's recipe. The resolved
`config.json` of a run is itself accepted as a file, so that any run can be replayed.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any, Literal, TypeVar, dataclass_transform

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from medblip.errors import ConfigError, explain, nearest

__all__ = [
    "BUNDLED",
    "DataConfig",
    "DecodeConfig",
    "EvalConfig",
    "FreezeConfig",
    "LoraConfig",
    "ModelConfig",
    "OptimConfig",
    "RunConfig",
    "TrainConfig",
    "apply_overrides",
    "dump",
    "load",
    "parse",
    "resolve",
]

T = TypeVar("T")
#: Name of the captioner that ships inside the package.
BUNDLED = "bundled"


@dataclass_transform(kw_only_default=True, frozen_default=True)
def _config(cls: type[T]) -> type[T]:
    """Make a frozen, keyword-only dataclass that refuses unknown keys; applied here only."""
    decorate: Any = pydantic_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
    made: type[T] = decorate(cls)
    return made


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
        revision: Commit of a hub id; None takes its main branch.
        prompt: Words that every caption begins with; never trained on, cut from the output.
    """

    name: str = BUNDLED
    revision: str | None = None
    prompt: str = ""


@_config
class FreezeConfig:
    """Which parameters train, and how fast.

    Args:
        preset: `full`, `decoder`, `encoder` (the paper's three), `lora`, or `custom` (rules only).
        rules: Ordered `[regex, rate]` pairs tried before the preset's; rate is a learning rate or
            `"frozen"`. The first regex found in a parameter's name decides; every parameter must
            match one.
    """

    preset: Literal["full", "decoder", "encoder", "lora", "custom"] = "full"
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
    """Low-rank adapters (arXiv 2106.09685), used when `freeze.preset` is `lora`.

    Args:
        rank: Rank of each update.
        alpha: Update is scaled by alpha / rank.
        dropout: On the adapter's input.
        towers: Adapt the linear layers of the vision encoder, the text decoder, or both.
        train_embeddings: Also train the word embeddings (tied to the output layer) in full: needed
            when the captions hold words that the captioner has never seen.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    towers: tuple[Literal["vision", "text"], ...] = ("vision", "text")
    train_embeddings: bool = True


@_config
class OptimConfig:
    """AdamW with linear warm-up and cosine decay.

    The defaults are the bundled captioner's: its encoder already sees, its vocabulary is new.

    Args:
        lr: Peak rate of the preset's trainable parameters.
        vision_factor: Times `lr`: rate of the vision encoder.
        words_factor: Times `lr`: rate of the word embeddings and of the head that is tied to them.
        weight_decay: On matrices only; never on biases, norms or frozen parameters.
        warmup: Share of all steps.
        final_lr: Rate at the end, as a share of the peak.
        clip_norm: Largest gradient norm.
        label_smoothing: As BLIP trains (0.1).
    """

    lr: float = 1e-3
    vision_factor: float = 0.1
    words_factor: float = 10.0
    weight_decay: float = 0.05
    warmup: float = 0.08
    final_lr: float = 0.02
    clip_norm: float = 1.0
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise ValueError(f"optim.warmup is a share of all steps, 0 to 1; got {self.warmup}")
        for name in ("lr", "vision_factor", "words_factor"):
            if getattr(self, name) <= 0:
                raise ValueError(f"optim.{name} must be positive; got {getattr(self, name)}")


@_config
class TrainConfig:
    """How long, how often to look, and what counts as best.

    Args:
        epochs: Times that each caption is seen.
        batch_size: Captions per optimizer step.
        micro_batch_size: Captions per forward pass; None: the whole batch. The objective is the
            same for any value, because the loss is divided by the tokens of the whole batch.
        validations: How many times per run the validation split is scored.
        validation_images: Captioned at each of them (the first ones); the loss takes as many.
        select: The best checkpoint maximises this metric on the validation split.
        seed: Of the sample order, of new parameters and of dropout.
        precision: `auto` is bf16 on a GPU that has it, else fp32.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        gradient_checkpointing: Trade time for memory.
        feature_cache_mb: A frozen encoder runs once per image instead of once per step, when its
            output for both splits fits into this much memory; 0 turns that off.
    """

    epochs: int = 3
    batch_size: int = 8
    micro_batch_size: int | None = None
    validations: int = 2
    validation_images: int = 256
    select: Literal["CIDEr-D", "BLEU-4", "ROUGE-L"] = "CIDEr-D"
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"
    gradient_checkpointing: bool = False
    feature_cache_mb: int = 4000

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validations", "validation_images"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1; got {getattr(self, name)}")
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise ValueError(f"train.micro_batch_size: at least 1; got {self.micro_batch_size}")


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
        batch_size: Images per call; changes speed only.
    """

    num_beams: int = 3
    max_new_tokens: int = 64
    min_new_tokens: int = 0
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.num_beams < 1 or self.batch_size < 1 or self.max_new_tokens < 1:
            raise ValueError("decode.num_beams, batch_size and max_new_tokens must be at least 1")
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError("decode.min_new_tokens must not exceed decode.max_new_tokens")


@_config
class EvalConfig:
    """How sure the scores are.

    Args:
        resamples: Bootstrap resamples behind each 95 % interval.
        seed: Of the resampling.
    """

    resamples: int = 1000
    seed: int = 0


@_config
class RunConfig:
    """One run: everything that decides its result, besides the machine."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    freeze: FreezeConfig = dataclasses.field(default_factory=FreezeConfig)
    lora: LoraConfig = dataclasses.field(default_factory=LoraConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    decode: DecodeConfig = dataclasses.field(default_factory=DecodeConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)


def load(path: Path | str | None = None, overrides: list[str] | tuple[str, ...] = ()) -> RunConfig:
    """Read a TOML file (or a run's `config.json`) and apply `section.key=value` overrides.

    Raises:
        ConfigError: The file is absent or malformed, a key is unknown, or a value does not fit.
    """
    settings: dict[str, Any] = {}
    if path is not None:
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
            settings = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except FileNotFoundError:
            raise ConfigError(
                explain(
                    "configuration file not found",
                    got=path,
                    expected="a TOML file, or the config.json of a run",
                    do="check the path; configs/ holds ready ones",
                )
            ) from None
        except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(
                explain(
                    f"{path} cannot be read",
                    got=error,
                    expected="TOML such as [train] on one line and epochs = 5 on the next",
                    do="correct that line",
                )
            ) from None
        settings.pop("schema_version", None)
    return parse(apply_overrides(settings, overrides), where=str(path or "settings"))


def apply_overrides(
    settings: dict[str, Any], overrides: list[str] | tuple[str, ...]
) -> dict[str, Any]:
    """Return `settings` with `section.key=value` strings applied; values are TOML, bare words text.

    Raises:
        ConfigError: An override has no `=` or no section.
    """
    merged = json.loads(json.dumps(settings))
    for override in overrides:
        dotted, equals, value = override.partition("=")
        section, dot, key = dotted.strip().partition(".")
        if not (equals and dot and key):
            raise ConfigError(
                explain(
                    "--set cannot be read",
                    got=override,
                    expected="section.key=value, such as train.epochs=5",
                    do="add the section and the value",
                )
            )
        try:
            parsed = tomllib.loads(f"value = {value.strip()}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value.strip()
        if not isinstance(merged.setdefault(section, {}), dict):
            raise ConfigError(
                explain(
                    f"{section} is not a section",
                    got=merged[section],
                    expected=f"[{section}] with keys below it",
                    do="correct the configuration file",
                )
            )
        merged[section][key] = parsed
    return dict(merged)


def parse(settings: dict[str, Any], where: str = "settings") -> RunConfig:
    """Validate a nested dict.

    Raises:
        ConfigError: All problems at once, each with the nearest known key.
    """
    try:
        return TypeAdapter(RunConfig).validate_python(settings)
    except ValidationError as error:
        problems = "; ".join(_describe(problem) for problem in error.errors())
        raise ConfigError(
            explain(
                f"{where}: not a valid configuration",
                got=problems,
                expected="the keys and types of medblip.config.RunConfig",
                do="correct the setting; `medblip train --help` names the sections",
            )
        ) from None


def resolve(
    config: Path | str | RunConfig | None,
    data: Path | str | None,
    overrides: list[str] | tuple[str, ...],
    seed: int | None,
    device: str | None,
) -> RunConfig:
    """Put flags over a file's (or an object's) settings; None leaves a setting alone.

    Raises:
        ConfigError: As `load`.
    """
    extra = list(overrides)
    if data is not None:
        extra.append(f"data.root={_quoted(str(data))}")
    if seed is not None:
        extra.append(f"train.seed={seed}")
    if device is not None:
        extra.append(f"train.device={_quoted(device)}")
    if isinstance(config, RunConfig):
        return parse(apply_overrides(dump(config), extra))
    return load(config, extra)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def dump(cfg: RunConfig) -> dict[str, Any]:
    """Return the nested dict that `parse` takes back to an equal object."""
    return dict(TypeAdapter(RunConfig).dump_python(cfg, mode="json"))


def _describe(problem: Any) -> str:
    path = [str(part) for part in problem["loc"]]
    dotted = ".".join(path)
    if problem["type"] == "unexpected_keyword_argument":
        section: Any = RunConfig
        for part in path[:-1]:
            section = {field.name: field.type for field in dataclasses.fields(section)}[part]
            section = globals()[section] if isinstance(section, str) else section
        known = [field.name for field in dataclasses.fields(section)]
        return f"unknown key {dotted} (did you mean {nearest(path[-1], known)}?)"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{dotted} = {problem['input']!r}: {message}" if dotted else message
