"""Looking at the validation split: token loss, scores, what counts as best, and collapse.

The failure that users meet most is a captioner that writes one fluent caption for every image; the
loss falls and BLEU rises while it does. Three signs are watched: few distinct captions, one caption
that is everywhere, and scores that stay when each image gets another image's caption.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medblip.config import DecodeConfig, RunConfig
from medblip.errors import ConfigError, explain, nearest

if TYPE_CHECKING:
    from medblip.engine import Engine
    from medblip.models.captioner import Captioner
    from medblip.stages.train.parts import Part

__all__ = ["Collapse", "check_select", "collapse_of", "selected", "token_loss", "validate"]

#: Fewer captions than this say nothing about collapse.
_FEWEST = 16


@dataclasses.dataclass(frozen=True)
class Collapse:
    """Signs that captions do not depend on the image.

    Args:
        unique_captions: Distinct captions / captions.
        unique_references: The same of the references.
        most_frequent_share: Share of the commonest caption.
        swap_drop: (score - score with each caption given to another image) / score; 1 where
            captions fit their image alone, 0 where any image's would do.
        reasons: What is wrong, in words; empty when nothing is.
    """

    unique_captions: float
    unique_references: float
    most_frequent_share: float
    swap_drop: float
    reasons: tuple[str, ...]


def token_loss(
    captioner: Captioner, engine: Engine, part: Part, size: int, check: Callable[[], None]
) -> float:
    """Return the mean loss per token on a split, without smoothing, over all processes."""
    import torch

    captioner.network.eval()
    total, mine = 0.0, list(range(engine.rank, len(part.token_ids), engine.world))
    for start in range(0, len(mine), size):
        check()
        indices = mine[start : start + size]
        with torch.inference_mode(), engine.autocast(), _eager():
            batch = captioner.collate([part.token_ids[i] for i in indices])
            total += float(captioner.token_losses(part.embeds(captioner, indices), batch, 0.0))
    tokens = part.tokens(range(len(part.token_ids)))
    return engine.sums(total)[0] / tokens


def validate(
    cfg: RunConfig, captioner: Captioner, engine: Engine, part: Part, check: Callable[[], None]
) -> tuple[dict[str, Any], Collapse]:
    """Caption the validation images and score them; greedy, which is quick and never flatters.

    Args:
        cfg: Metrics, decoding and batch size.
        captioner: As it is now.
        engine: All processes caption a share.
        part: The validation split.
        check: Called between batches; may raise to interrupt.

    Returns:
        The record for `metrics.jsonl`, the same in every process, and the signs of collapse.
    """
    import torch

    begun = time.perf_counter()
    decode = DecodeConfig(
        num_beams=1, max_new_tokens=cfg.decode.max_new_tokens, batch_size=cfg.decode.batch_size
    )
    loss = token_loss(captioner, engine, part, decode.batch_size, check)
    written: list[tuple[int, str]] = []
    mine = list(range(engine.rank, len(part.token_ids), engine.world))
    for start in range(0, len(mine), decode.batch_size):
        check()
        indices = mine[start : start + decode.batch_size]
        with torch.inference_mode(), engine.autocast(), _eager():
            made = captioner.generate(part.embeds(captioner, indices), decode)
        written += [(i, best.text) for i, (best, *_) in zip(indices, made, strict=True)]
    captions = [caption for _, caption in sorted(engine.gathered(written))]
    names = _names(cfg.train.select)
    scores = _scores(cfg, captions, part.references, names)
    collapse = collapse_of(captions, part.references, scores["CIDEr-D"])
    record = {
        "loss": round(loss, 6),
        "images": len(captions),
        "unique_captions": collapse.unique_captions,
        "most_frequent_share": collapse.most_frequent_share,
        "swap_drop": collapse.swap_drop,
        "seconds": round(time.perf_counter() - begun, 3),
        **{name: round(score, 6) for name, score in scores.items()},
    }
    record["selected"] = round(selected(cfg.train.select, record), 6)
    return record, collapse


def collapse_of(
    captions: Sequence[str], references: Sequence[Sequence[str]], score: float
) -> Collapse:
    """Return the signs of collapse; CIDEr-D, which weighs what is rare, tells images apart best.

    References themselves repeat (`chest x-ray`), so captions are held against them: a tenth of
    their variety, or a commonest caption three times as common, counts as collapsed. Giving each
    image the caption of the image n/2 further on costs nothing: a caption depends on its image
    alone, so nothing has to be generated again.
    """
    from medblip.metrics import evaluate_captions

    unique, most = _variety(captions)
    unique_references, most_references = _variety([texts[0] for texts in references])
    half = len(captions) // 2
    swapped = [*captions[half:], *captions[:half]]
    other = evaluate_captions(swapped, references, resamples=0).scores["CIDEr-D"].value
    drop = 1 - other / score if score > 0 else 0.0
    reasons = []
    if len(captions) >= _FEWEST:
        if unique < 0.1 * unique_references:
            reasons.append(f"{unique:.1%} of the captions are distinct ({unique_references:.1%} "
                           "of the references)")  # fmt: skip
        if most > max(0.5, 3 * most_references):
            reasons.append(f"one caption is written for {most:.0%} of the images")
        if drop < 0.1 and unique_references > 0.1:
            reasons.append(f"another image's caption scores as well (CIDEr-D drops by {drop:.0%})")
    return Collapse(
        round(unique, 4), round(unique_references, 4), round(most, 4), round(drop, 4),
        tuple(reasons),
    )  # fmt: skip


def selected(select: str | dict[str, float], record: dict[str, Any]) -> float:
    """Return the value that the best checkpoint maximises."""
    weights = {select: 1.0} if isinstance(select, str) else select
    value = {**record, "loss": -record["loss"]}
    return float(sum(weight * value[name] for name, weight in weights.items()))


def check_select(cfg: RunConfig, part: Part) -> None:
    """Refuse a metric that cannot be computed before the training, not after its first hours.

    Raises:
        ConfigError: `train.select` names an unknown metric.
        MetricError: A metric needs what is not installed.
    """
    names = _names(cfg.train.select)
    first = part.references[:2]
    scores = _scores(cfg, [texts[0] for texts in first], first, names)
    for name in names:
        if name != "loss" and name not in scores:
            raise ConfigError(
                explain(
                    "train.select names an unknown metric",
                    got=name,
                    expected=f"loss, {', '.join(scores)}",
                    do=f"did you mean {nearest(name, ['loss', *scores])}?",
                )
            )


def _eager() -> contextlib.AbstractContextManager[None]:
    """Compile nothing for a look: batches of other shapes, without gradients, each a minute."""
    import torch

    eager: contextlib.AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return eager


def _names(select: str | dict[str, float]) -> list[str]:
    return [select] if isinstance(select, str) else list(select)


def _scores(
    cfg: RunConfig, captions: list[str], references: list[list[str]], names: list[str]
) -> dict[str, float]:
    """Return metric -> value: the lexical ones, and the others when one of them is asked for."""
    from medblip.metrics import evaluate_captions

    quick = evaluate_captions(captions, references, resamples=0).scores
    if all(name == "loss" or name in quick for name in names):
        return {name: score.value for name, score in quick.items()}
    from medblip.metrics.suite import Material, Suite, compute
    from medblip.metrics.table import score_families

    suite = Suite(
        meteor="METEOR" in names, bertscore=cfg.eval.bertscore, cosine=cfg.eval.cosine,
        device=cfg.train.device,
    )  # fmt: skip
    ids = [str(number) for number in np.arange(len(captions))]
    found = compute(suite, Material(ids, captions, references))
    table = score_families(found.families, resamples=0)
    return {name: score.value for name, score in table.scores.items()}


def _variety(texts: Sequence[str]) -> tuple[float, float]:
    """Return the share of distinct texts, and that of the commonest one."""
    counts = Counter(text.strip().lower() for text in texts)
    return len(counts) / len(texts), max(counts.values()) / len(texts)
