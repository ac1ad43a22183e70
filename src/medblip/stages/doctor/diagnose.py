"""Stage `doctor`: settings, labels, leaks, what trains, disk, memory, versions; nothing is written.

The captioner is loaded as a shape without numbers, and no test image is opened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from medblip.config import BUNDLED, RunConfig, resolve
from medblip.errors import MedblipError, RunError, explain

if TYPE_CHECKING:
    from medblip.models.captioner import Captioner
    from medblip.models.freeze import Match

__all__ = ["Diagnosed", "Finding", "doctor", "tried"]

T = TypeVar("T")
#: Above this rate, full fine-tuning of a pretrained captioner ends in one caption for all images.
_HIGHEST_RATE = 1e-4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Args:
        level: `error` will stop or spoil the training; `warning` deserves a look; `ok` is as it
            should be.
        about: What was looked at.
        got: What is there.
        do: What to do about it; empty when nothing.
    """

    level: Literal["error", "warning", "ok"]
    about: str
    got: str
    do: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosed:
    """All findings, errors first.

    Args:
        errors: How many of them are errors.
        warnings: How many are warnings.
        findings: All of them.
        labels: Some training captions and what is learned of them, after masking and cutting.
        rules: The match table: which parameters train.
    """

    errors: int
    warnings: int
    findings: tuple[Finding, ...]
    labels: tuple[dict[str, str], ...] = ()
    rules: tuple[dict[str, Any], ...] = ()


def doctor(
    config: Path | str | RunConfig | None = None,
    data: Path | str | None = None,
    out: Path | str = "runs/train",
    *,
    overrides: list[str] | tuple[str, ...] = (),
    device: str | None = None,
    strict: bool = False,
) -> Diagnosed:
    """Examine a training before it starts.

    Each thing is looked at on its own: a captioner that cannot be loaded does not hide a leak.

    Args:
        config: As for `train`.
        data: As for `train`.
        out: Where the run would be written.
        overrides: `section.key=value` strings.
        device: As for `train`.
        strict: Raise when there is an error.

    Raises:
        ConfigError: A setting is unknown.
        RunError: With `strict`: there are errors.
    """
    from medblip.models.captioner import load_captioner
    from medblip.stages.doctor import disk, machine, material

    cfg = resolve(config, data, overrides, None, device)
    findings = [*machine.versions(), *machine.devices(cfg)]
    examples = tried(findings, lambda: material.examples_of(cfg))
    if examples is not None:
        findings += [*material.sizes(cfg, examples), *material.leaks(cfg, examples)]
    captioner = tried(findings, lambda: load_captioner(cfg.model, weights=False))
    labels: tuple[dict[str, str], ...] = ()
    matches: list[Match] = []
    if captioner is not None:
        if examples is not None:
            about, labels = material.labels(cfg, captioner, examples)
            findings += about
        ruled = tried(findings, lambda: _rules(cfg, captioner))
        if ruled is not None:
            matches, rates = ruled
            findings += [_trainable(matches), *_rates(cfg, rates), *machine.memory(cfg, matches)]
            findings += disk.space(cfg, Path(out), captioner, matches, examples or [])
    findings += [*_smoothing(cfg), *disk.file_system(Path(out))]
    return _result(findings, labels, matches, strict=strict)


def tried(findings: list[Finding], make: Callable[[], T]) -> T | None:
    """Return what `make` returns; or None, and its error is one more finding."""
    try:
        return make()
    except MedblipError as error:
        what, *rest = str(error).splitlines()
        parts = dict(line.strip().split(":", 1) for line in rest if ":" in line)
        findings.append(Finding(level="error", about=what, got=parts.get("got", "").strip(),
                                do=parts.get("do", "").strip()))  # fmt: skip
        return None


def _result(
    findings: list[Finding], labels: tuple[dict[str, str], ...], matches: list[Match], *,
    strict: bool,
) -> Diagnosed:  # fmt: skip
    order = ("error", "warning", "ok")
    counts = {level: sum(f.level == level for f in findings) for level in order}
    if strict and counts["error"]:
        errors = [f for f in findings if f.level == "error"]
        raise RunError(
            explain(
                "this training should not be started",
                got="; ".join(f"{f.about}: {f.got}" for f in errors),
                expected="no errors (--strict)",
                do="; ".join(dict.fromkeys(f.do for f in errors)),
            )
        )
    return Diagnosed(
        errors=counts["error"], warnings=counts["warning"],
        findings=tuple(sorted(findings, key=lambda f: order.index(f.level))),
        labels=labels, rules=tuple(dataclasses.asdict(match) for match in matches),
    )  # fmt: skip


def _rules(cfg: RunConfig, captioner: Captioner) -> tuple[list[Match], dict[str, float]]:
    """Freeze and adapt the captioner as `train` does; return the match table and the rates."""
    from medblip.models.adapters import adapt
    from medblip.models.freeze import apply_rules, rules_for

    captioner.network = adapt(captioner.network, cfg)
    return apply_rules(captioner.network, rules_for(cfg), cfg.optim.layer_decay)


def _trainable(matches: list[Match]) -> Finding:
    total = sum(match.parameters for match in matches)
    moving = sum(match.parameters for match in matches if match.rate is not None)
    share = f"{moving:,} of {total:,} parameters ({moving / total:.1%})"
    return Finding(level="ok", about="what trains", got=share)


def _rates(cfg: RunConfig, rates: dict[str, float]) -> list[Finding]:
    """Return rates that have spoilt many a training; adapters stand higher ones.

    The rates that parameters get are looked at, not the settings: with rules, `optim.lr` may
    belong to none.
    """
    if cfg.model.name == BUNDLED:
        return []
    tuned = {name: rate for name, rate in rates.items() if ".lora_" not in name}
    words = {n for n in tuned if ".word_embeddings." in n or ".cls.predictions." in n}
    rate = max((tuned[name] for name in tuned if name not in words), default=0.0)
    found = []
    if rate > _HIGHEST_RATE:
        found.append(
            Finding(
                level="warning", about="learning rate",
                got=f"{rate:g} for a pretrained captioner",
                do="2e-5 or less: at higher rates captions collapse into one for every image",
            )
        )  # fmt: skip
    rate = max((tuned[name] for name in words), default=0.0)
    if rate > _HIGHEST_RATE:
        found.append(
            Finding(
                level="warning", about="rate of the word embeddings",
                got=f"{rate:g}, optim.words_factor = {cfg.optim.words_factor:g}",
                do="optim.words_factor = 1.0 for a captioner that knows the words",
            )
        )  # fmt: skip
    return found


def _smoothing(cfg: RunConfig) -> list[Finding]:
    if cfg.optim.label_smoothing:
        return []
    return [Finding(level="warning", about="label smoothing", got="0",
                    do="BLIP trains at 0.1 (optim.label_smoothing)")]  # fmt: skip
