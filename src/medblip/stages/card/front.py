"""The metadata of a model card: what the hub reads between the two lines of dashes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from medblip.config import BUNDLED
from medblip.data.card import hub_data_name
from medblip.data.licences import hub_licence
from medblip.errors import ConfigError, explain
from medblip.metrics.audit.silent import FEW, images_stating, is_silent
from medblip.models.known import KNOWN
from medblip.stages.card.collect import Material

__all__ = ["Base", "base_of", "interval_of", "metadata"]

#: Beginning of one of our metrics' names -> the hub's name of it, where it has one.
_HUB_METRICS = {
    "BLEU": "bleu", "ROUGE": "rouge", "CIDEr": "cider", "METEOR": "meteor",
    "BERTScore": "bertscore",
}  # fmt: skip
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")
_FAMILIES_OF_ONE_TASK = ("blip", "blip-2", "instructblip", "vision-encoder-decoder")


@dataclasses.dataclass(frozen=True)
class Base:
    """What was fine-tuned: a hub id or "", words for a reader, and the licence as its page says."""

    hub: str
    words: str
    licence: str | None


def base_of(found: Material) -> Base:
    """Return what the run started from; a folder is called by its last part, never by its path."""
    model = found.config.get("model") or {}
    name = str(model.get("name") or found.captioned.get("model") or "")
    if name == BUNDLED:
        return Base("", "the small captioner that ships inside medblip", "Apache-2.0")
    known = next((one for one in KNOWN if name in (one.name, one.hub)), None)
    if known is not None:
        return Base(known.hub, known.hub, known.licence)
    if (
        re.fullmatch(r"[\w.-]+/[\w.-]+", name)
        and not name.startswith(".")
        and model.get("revision")
    ):
        return Base(name, name, None)  # a commit was recorded: it came from the hub
    return Base("", f"a captioner in a folder called {Path(name).name or 'nothing'}", None)


def metadata(found: Material, licence: str | None) -> dict[str, Any]:
    """Return the front matter.

    Args:
        found: The run.
        licence: Of the weights, as the hub names licences; None: the base model's.

    Raises:
        ConfigError: `licence` is no such name.
    """
    base = base_of(found)
    data = hub_data_name(found.data.stats.get("source"), found.data.stats.get("commit"))
    kinds = {kind for name in found.scores.get("metrics", {}) if (kind := _hub_metric(name))}
    family = found.network.get("model_type", "blip")
    return {
        **_licence(licence, base),
        "language": ["en"],
        "library_name": "medblip" if found.adapted else "transformers",
        "pipeline_tag": "image-to-text"
        if family in _FAMILIES_OF_ONE_TASK
        else "image-text-to-text",
        "tags": ["radiology", "medical", "image-captioning", "medblip", "arxiv:2505.14726"],
        "base_model": base.hub or None,
        "base_model_relation": "finetune" if base.hub and found.trained else None,
        "datasets": [data] if data else [],
        "metrics": sorted(kinds),
        "model-index": [_index(found, data)] if found.scores else [],
    }


def _licence(given: str | None, base: Base) -> dict[str, Any]:
    if given is not None:
        if not _LICENCE.fullmatch(given):
            raise ConfigError(
                explain(
                    "--licence",
                    got=given,
                    expected="a licence as the hub names it, such as mit or cc-by-nc-4.0",
                    do="look it up on huggingface.co/docs/hub/repositories-licenses",
                )
            )
        return {"license": given}
    name = hub_licence(base.licence)
    more = {"license_name": "see-base-model"} if name == "other" else {}
    return {"license": name} | more


def _hub_metric(name: str) -> str | None:
    return next((kind for start, kind in _HUB_METRICS.items() if name.startswith(start)), None)


def _index(found: Material, data: str | None) -> dict[str, Any]:
    """Return the results: every score but precision and recall, whose F1 is there.

    A kind that neither captions nor references state has none: the hub would show 1.0.
    """
    results = [
        {
            "type": _hub_metric(name) or name.lower(),
            "value": score["value"],
            "name": name,
            "args": _args(found.scores, name),
        }
        for name, score in found.scores["metrics"].items()
        if not name.endswith(("-P", "-R")) and not is_silent(found.scores, name)
    ]
    same = found.scored_on == found.data.name
    return {
        "name": found.name,
        "results": [
            {
                "task": {"type": "image-to-text", "name": "Radiology image captioning"},
                "dataset": {
                    "type": data if data and same else "medblip-prepared",
                    "name": found.scored_on or "not recorded",
                    "split": str(found.split),
                },
                "metrics": results,
            }
        ],
    }


def interval_of(score: dict[str, Any]) -> list[float] | None:
    """Return the interval of a score; None where none was computed, whatever stands there."""
    return None if "|ci:none" in f"|{score['signature']}" else list(score["ci"])


def _args(scores: dict[str, Any], name: str) -> dict[str, Any]:
    """Return interval, images that count and signature; no interval of a handful of statements."""
    score, stating = scores["metrics"][name], images_stating(scores, name)
    few, interval = stating is not None and stating < FEW, interval_of(score)
    return {
        **({} if few or interval is None else {"interval_95": interval}),
        "images": score["n"] if stating is None else stating,
        "signature": score["signature"],
    }
