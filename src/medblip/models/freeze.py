"""Which parameters train, at which rate: an ordered list of (regex, learning rate or "frozen").

The first regex found in a parameter's name decides (as in big_vision, optax.py:158-172); a
parameter that none matches is an error, so that nothing is frozen or trained by accident.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import TYPE_CHECKING, Any

from medblip.config import AdapterConfig, LoraConfig, RunConfig
from medblip.errors import ConfigError, explain

if TYPE_CHECKING:
    from rich.table import Table
    from torch import nn

__all__ = [
    "FROZEN",
    "LAYER",
    "Match",
    "apply_rules",
    "eval_frozen",
    "match_table",
    "parameter_groups",
    "rules_for",
    "tower_of",
]

FROZEN = "frozen"
#: The image encoder of BLIP and BLIP-2, of other vision-language models, and of a
#: vision-encoder-decoder.
_VISION = r"(^|\.)(vision_model|vision_tower|visual|image_tower)\.|^(base_model\.model\.)?encoder\."
#: What stands between image encoder and language model: a Q-Former, a projector.
_CONNECTOR = (
    r"(^|\.)(qformer|query_tokens|language_projection|enc_to_dec_proj|multi_modal_projector"
    r"|connector|merger|deepstack_merger_list|aligner|mm_projector|embed_vision)(\.|$)"
)
_LORA = r"\.lora_([AB]|magnitude_vector)\."
#: Word embeddings, and the head that is tied to them: BERT's, GPT-2's, OPT's and Llama's, T5's.
_WORDS = (
    r"\.word_embeddings\.|\.cls\.predictions\.|\.wte\.|\.embed_tokens\.|\.lm_head\."
    r"|language_model\.shared\."
)
#: The paper's three regimes, what joins the two towers, and LoRA. `lr`, `vision` and `words` are
#: rates of `optim`.
_PRESETS: dict[str, tuple[tuple[str, str], ...]] = {
    "full": ((_VISION, "vision"), (_WORDS, "words"), (".", "lr")),
    "decoder": ((_VISION, FROZEN), (_WORDS, "words"), (".", "lr")),
    "encoder": ((_VISION, "vision"), (".", FROZEN)),
    "cross-attention": ((r"\.crossattention\.", "lr"), (".", FROZEN)),
    "connector": ((_CONNECTOR, "lr"), (".", FROZEN)),
    "lora": ((_LORA, "lr"), (".", FROZEN)),
    "connector-lora": ((_LORA, "lr"), (_CONNECTOR, "lr"), (".", FROZEN)),
    "adapter": ((r"\.bottleneck_(down|up)\.", "lr"), (".", FROZEN)),
    "custom": (),
}
#: A layer of a tower, with its number; transformers names them `layers.3.`, `layer.3.`, `h.3.`,
#: `block.3.` and `blocks.3.`.
LAYER = re.compile(r"\.(?:layers?|h|blocks?)\.(\d+)\.")
_EMBEDDINGS = r"\.word_embeddings\."
_MAY_BE_IDLE = {pattern for preset in _PRESETS.values() for pattern, _ in preset} | {_EMBEDDINGS}


@dataclasses.dataclass(frozen=True)
class Match:
    """What one rule caught.

    Args:
        pattern: The regex.
        rate: Learning rate, or None when frozen.
        lowest: Of the lowest layer, when rates decay from layer to layer.
        tensors: Number of parameter tensors.
        parameters: Number of scalars in them.
    """

    pattern: str
    rate: float | None
    lowest: float | None
    tensors: int
    parameters: int


def tower_of(name: str) -> str:
    """Return `vision`, `connector` or `text`: where a parameter or module of that name belongs."""
    if re.search(_CONNECTOR, name):
        return "connector"
    return "vision" if re.search(_VISION, f"{name}.") else "text"


def rules_for(cfg: RunConfig) -> list[tuple[str, float | str]]:
    """Return the user's rules followed by the preset's, the rates of `optim` filled in."""
    rates: dict[str, float | str] = {
        "lr": cfg.optim.lr,
        "vision": cfg.optim.lr * cfg.optim.vision_factor,
        "words": cfg.optim.lr * cfg.optim.words_factor,
        FROZEN: FROZEN,
    }
    rules: list[tuple[str, float | str]] = list(cfg.freeze.rules)
    small: dict[str, LoraConfig | AdapterConfig]
    small = {"lora": cfg.lora, "connector-lora": cfg.lora, "adapter": cfg.adapter}
    section = small.get(cfg.freeze.preset)
    if section is not None and section.train_embeddings:
        rules.append((_EMBEDDINGS, rates["words"]))
    rules += [(pattern, rates[rate]) for pattern, rate in _PRESETS[cfg.freeze.preset]]
    return rules


def apply_rules(
    network: nn.Module, rules: list[tuple[str, float | str]], layer_decay: float = 1.0
) -> tuple[list[Match], dict[str, float]]:
    """Set `requires_grad` on every parameter by the first rule whose regex its name contains.

    Args:
        network: The whole network, adapters included.
        rules: As `rules_for` gives them.
        layer_decay: Factor from a layer to the one below it.

    Returns:
        The match table, and the learning rate of each trainable parameter by name.

    Raises:
        ConfigError: A parameter matches no rule, a rule matches nothing, or nothing trains.
    """
    tensors = [0] * len(rules)
    scalars = [0] * len(rules)
    rates: dict[str, float] = {}
    lowest: list[float | None] = [None] * len(rules)
    factors = _layer_factors([name for name, _ in network.named_parameters()], layer_decay)
    for name, parameter in network.named_parameters():
        hit = next((i for i, (pattern, _) in enumerate(rules) if re.search(pattern, name)), None)
        if hit is None:
            raise ConfigError(
                explain(
                    "a parameter matches no freeze rule",
                    got=name,
                    expected="every parameter is named by one rule",
                    do='end freeze.rules with [".", "frozen"], or with a rate',
                )
            )
        tensors[hit] += 1
        scalars[hit] += parameter.numel()
        rate = rules[hit][1]
        parameter.requires_grad_(rate != FROZEN)
        if rate != FROZEN:
            rates[name] = float(rate) * factors[name]
            lowest[hit] = min(lowest[hit] or math.inf, rates[name])
    _refuse_idle_rules(rules, tensors, rates)
    matches = [
        Match(pattern, None if rate == FROZEN else float(rate), low, count, size)
        for (pattern, rate), low, count, size in zip(rules, lowest, tensors, scalars, strict=True)
    ]
    return matches, rates


def parameter_groups(
    network: nn.Module, rates: dict[str, float], weight_decay: float
) -> list[dict[str, Any]]:
    """Return optimizer groups by (rate, decay); vectors and scalars are never decayed."""
    groups: dict[tuple[float, float], list[Any]] = {}
    for name, parameter in network.named_parameters():
        if name in rates:
            decay = weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rates[name], decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def eval_frozen(network: nn.Module) -> None:
    """Put modules without a trainable parameter into eval mode: no dropout in what is frozen."""
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def match_table(matches: list[Match]) -> Table:
    """Return the match table for the terminal."""
    from rich.table import Table

    total = sum(match.parameters for match in matches)
    table = Table(title="Which parameters train (first match wins)")
    for column in ("rule", "learning rate", "tensors", "parameters", "share"):
        table.add_column(column, justify="left" if column == "rule" else "right")
    for match in matches:
        table.add_row(
            match.pattern,
            _rate_text(match),
            str(match.tensors),
            f"{match.parameters:,}",
            f"{match.parameters / total:.1%}",
        )
    return table


def _rate_text(match: Match) -> str:
    if match.rate is None:
        return FROZEN
    if match.lowest is None or math.isclose(match.lowest, match.rate):
        return f"{match.rate:g}"
    return f"{match.lowest:.3g} to {match.rate:g}"


def _layer_factors(names: list[str], decay: float) -> dict[str, float]:
    """Return decay ** (layers between a parameter and its tower's top), as BEiT counts them.

    Embeddings lie below the first layer; the word embeddings are tied to the head, the top
    (arXiv 2106.08254, section 3.2; arXiv 1801.06146, section 3.2).
    """
    towers = {name: bool(re.search(_VISION, name)) for name in names}
    depth = {tower: 0 for tower in towers.values()}
    for name, tower in towers.items():
        if found := LAYER.search(name):
            depth[tower] = max(depth[tower], int(found[1]) + 1)
    factors = {}
    for name, tower in towers.items():
        found = LAYER.search(name)
        below = "embeddings" in name and "word_embeddings" not in name
        place = int(found[1]) + 1 if found else 0 if below else depth[tower] + 1
        factors[name] = decay ** (depth[tower] + 1 - place)
    return factors


def _refuse_idle_rules(
    rules: list[tuple[str, float | str]], tensors: list[int], rates: dict[str, float]
) -> None:
    """A rule of the user's that catches nothing is a typo."""
    counted = zip(rules, tensors, strict=True)
    idle = [p for (p, _), count in counted if not count and p not in _MAY_BE_IDLE]
    if idle or not rates:
        raise ConfigError(
            explain(
                "freeze rules do not fit this captioner",
                got=f"no parameter matches {idle[0]!r}" if idle else "every parameter is frozen",
                expected="each rule matches a parameter and at least one parameter trains",
                do="correct freeze.rules; a trained run's trainable.json shows the table",
            )
        )
