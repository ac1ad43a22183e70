"""Stage `doctor`: settings, labels, leaks, what trains, disk, memory, versions; nothing is written.

The captioner is loaded as a shape without numbers, and no test image is opened.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medblip.config import RunConfig, resolve
from medblip.errors import ConfigError, MedblipError, RunError, explain

if TYPE_CHECKING:
    from medblip.models.captioner import Captioner
    from medblip.models.freeze import Match

__all__ = ["Diagnosed", "Finding", "doctor"]


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
    from medblip.stages.doctor import machine, material

    cfg = resolve(config, data, overrides, None, device)
    findings = [*machine.versions(), *machine.devices(cfg), *_advice(cfg)]
    labels: tuple[dict[str, str], ...] = ()
    matches: list[Match] = []
    try:
        captioner, matches = _captioner(cfg)
        findings += [_trainable(matches)]
        examples = material.examples_of(cfg)
        about, labels = material.labels(cfg, captioner, examples)
        findings += [*about, *material.leaks(cfg, examples), *material.sizes(cfg, examples)]
        findings += machine.disk(cfg, Path(out), captioner, matches, examples)
        findings += machine.memory(cfg, matches)
    except MedblipError as error:
        what, *rest = str(error).splitlines()
        do = next((line.split("do:")[1].strip() for line in rest if "do:" in line), "")
        got = next((line.split("got:")[1].strip() for line in rest if "got:" in line), "")
        findings.append(Finding(level="error", about=what, got=got, do=do))
    findings += machine.file_system(Path(out))
    order = ("error", "warning", "ok")
    counts = {level: sum(f.level == level for f in findings) for level in order}
    result = Diagnosed(
        errors=counts["error"], warnings=counts["warning"],
        findings=tuple(sorted(findings, key=lambda f: order.index(f.level))),
        labels=labels, rules=tuple(dataclasses.asdict(match) for match in matches),
    )  # fmt: skip
    if strict and result.errors:
        raise RunError(
            explain(
                "this training should not be started",
                got="; ".join(f"{f.about}: {f.got}" for f in findings if f.level == "error"),
                expected="no errors (--strict)",
                do="see `medblip doctor` without --strict for what to do",
            )
        )
    return result


def _captioner(cfg: RunConfig) -> tuple[Captioner, list[Match]]:
    from medblip.models.captioner import load_captioner
    from medblip.models.freeze import apply_rules, rules_for
    from medblip.models.lora import add_adapters

    captioner = load_captioner(cfg.model, weights=False)
    if cfg.freeze.preset == "lora":
        captioner.network = add_adapters(captioner.network, cfg.lora)
    matches, _ = apply_rules(captioner.network, rules_for(cfg), cfg.optim.layer_decay)
    return captioner, matches


def _trainable(matches: list[Match]) -> Finding:
    total = sum(match.parameters for match in matches)
    moving = sum(match.parameters for match in matches if match.rate is not None)
    share = f"{moving:,} of {total:,} parameters ({moving / total:.1%})"
    return Finding(level="ok", about="what trains", got=share)


def _advice(cfg: RunConfig) -> list[Finding]:
    """Return settings that are allowed and have gone wrong for many."""
    found = []
    pretrained = cfg.model.name != "bundled"
    rate = max([cfg.optim.lr, *(float(r) for _, r in cfg.freeze.rules if r != "frozen")])
    if pretrained and cfg.freeze.preset != "lora" and rate > 1e-4:
        found.append(
            Finding(
                level="warning", about="learning rate",
                got=f"{rate:g} for a pretrained captioner",
                do="2e-5 or less: at higher rates captions collapse into one for every image",
            )
        )  # fmt: skip
    factor = cfg.optim.words_factor
    if pretrained and factor > 1 and cfg.freeze.preset in ("full", "decoder"):
        found.append(
            Finding(
                level="warning", about="rate of the word embeddings",
                got=f"{factor:g} times optim.lr, the bundled captioner's setting",
                do="optim.words_factor = 1.0 for a captioner that knows the words",
            )
        )  # fmt: skip
    if cfg.optim.label_smoothing == 0:
        found.append(
            Finding(
                level="warning", about="label smoothing", got="0",
                do="BLIP trains at 0.1 (optim.label_smoothing)",
            )
        )  # fmt: skip
    try:
        from medblip.engine import pick_device, pick_precision

        pick_precision(cfg.train.precision, pick_device(cfg.train.device))
    except ConfigError as error:
        lines = str(error).splitlines()
        found.append(
            Finding(
                level="error", about=lines[0], got=lines[1].split(":", 1)[1].strip(),
                do=lines[3].split(":", 1)[1].strip(),
            )
        )  # fmt: skip
    return found
