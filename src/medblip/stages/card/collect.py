"""What a model card is made of: the files of one run, and what its data set says. No words."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from medblip.errors import RunError, explain
from medblip.files import read_json
from medblip.markdown import escape
from medblip.rundir import RunDir
from medblip.schema import SPLITS, iter_examples
from medblip.stages.card.compared import Against, read_against

__all__ = ["Material", "Source", "collect", "read_source"]

#: A path in a message: it may begin behind a quote or a bracket, and hold blanks between slashes.
_FOLDERS = re.compile(r"(?<![\w/\\.])(?:/|[A-Za-z]:[\\/])(?:[^\\/\n\"'`]*[\\/])+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A data set, as far as it can be read; absent parts are empty.

    Args:
        name: What it calls itself; never a path of this machine.
        stats: Content of stats.json.
        checked: Content of check.json; None: not checked.
        licences: Split -> licence -> images, from the manifest.
        why_not: Why the manifest was not counted; "" where it was.
    """

    name: str
    stats: dict[str, Any]
    checked: dict[str, Any] | None
    licences: dict[str, Counter[str]]
    why_not: str = ""

    @property
    def splits(self) -> dict[str, int]:
        """Images per split."""
        return {split: counts.total() for split, counts in self.licences.items()}

    @property
    def synthetic(self) -> bool:
        """Whether these are drawn phantoms."""
        return _is_synthetic(self.stats)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Material:
    """One run; absent parts are empty, and named in `missing`.

    Args:
        name: Of the run, or the hub's `owner/name`.
        place: What plain transformers loads: the hub's name, else the folder as seen from beside
            the run.
        config: Content of config.json.
        environment: Of environment.json, else of the captions' record.
        trained: Of train.json; empty where nothing was trained, or not to its end.
        trainable: Of trainable.json.
        network: Of checkpoints/best/config.json.
        own: Of checkpoints/best/medblip.json.
        generation: Of checkpoints/best/generation_config.json.
        chats: Whether the saved processor has a template for conversations.
        split: Whose scores these are; None: there are none.
        scores: Of scores/<split>.json.
        captioned: Of predictions/<split>.json.
        against: What a comparison says of it.
        truth: Of maps/<split>.faithfulness.json: whether attention maps say anything.
        data: The data set of the training.
        scored_on: Name of the data set whose images were captioned.
        missing: What a reader might expect and does not find, in words.
    """

    name: str
    place: str
    config: dict[str, Any]
    environment: dict[str, Any]
    trained: dict[str, Any]
    trainable: dict[str, Any]
    network: dict[str, Any]
    own: dict[str, Any]
    generation: dict[str, Any]
    chats: bool
    split: str | None
    scores: dict[str, Any]
    captioned: dict[str, Any]
    against: Against
    truth: dict[str, Any]
    data: Source
    scored_on: str
    missing: list[str]

    @property
    def adapted(self) -> bool:
        """Whether bottleneck adapters lie beside the network: plain transformers ignores them."""
        return "adapter" in self.own

    @property
    def prompt(self) -> str:
        """Prompt of the captions, else of the training."""
        said = self.captioned.get("prompt")
        return str(self.own.get("prompt", "") if said is None else said)

    @property
    def decode(self) -> dict[str, Any]:
        """Settings that the captions were written with, else those of the run."""
        return dict(self.config.get("decode") or {}) | dict(self.captioned.get("decode") or {})


def collect(
    run: RunDir,
    *,
    name: str | None = None,
    data: Path | None = None,
    split: str | None = None,
    comparison: Path | None = None,
) -> Material:
    """Read everything.

    Args:
        run: The run.
        name: As the hub calls it; None: the folder's.
        data: Where its data set is now; None: where it was.
        split: Whose scores; None: the first of test, validation, train that has any.
        comparison: JSON file of `compare`; None: that of the study that the run is part of, else
            `comparison.json` beside the run, if it is there.

    Raises:
        RunError: There is no run, no such scores, or a file is damaged.
    """
    if not run.config.exists() and not run.path.joinpath("predictions").is_dir():
        raise RunError(
            explain(
                f"{run.path} is no run",
                got="no config.json and no captions",
                expected="a run directory of `medblip train` or `medblip caption`",
                do="correct the path",
            )
        )
    chosen = _split(run, split)
    config = _json(run.config)
    captioned = _json(run.predictions(chosen or "test").with_suffix(".json"))
    scores = _json(run.scores(chosen)) if chosen else {}
    truth = _json(run.maps(chosen or "test").with_suffix(".faithfulness.json"))
    root = data or _recorded_data(config, captioned)
    source = read_source(root, str(_json(run.path / "data.json").get("manifest", "")))
    called = run.path.resolve().name
    best = run.checkpoint
    found = Material(
        name=name or called, config=config,
        place=name or f"{called}/{best.relative_to(run.path).as_posix()}",
        environment=_json(run.environment) or captioned.get("environment", {}),
        trained=_json(run.completion), trainable=_json(run.trainable),
        network=_json(best / "config.json", versioned=False), own=_json(best / "medblip.json"),
        generation=_json(best / "generation_config.json", versioned=False), chats=_chats(best),
        split=chosen,
        scores=scores, captioned=captioned,
        against=read_against(run, chosen, scores, comparison), truth=truth, data=source, missing=[],
        scored_on=_scored_on(captioned, config, source),
    )  # fmt: skip
    found.missing.extend(_missing(found, run))
    return found


def read_source(root: Path | None, manifest: str = "") -> Source:
    """Read a data set; `manifest` is the SHA-256 that its manifest should have, "" for any."""
    if root is None:
        return Source(name="", stats={}, checked=None, licences={},
                      why_not="the run does not say which data set it was trained on")  # fmt: skip
    stats = _json(root / "stats.json", versioned=False)
    name = _name(root, stats)
    file = root / "manifest.jsonl"
    if not file.exists():
        return Source(name=name, stats={}, checked=None, licences={},
                      why_not="the data set is no longer where it was")  # fmt: skip
    if manifest and hashlib.sha256(file.read_bytes()).hexdigest() != manifest:
        return Source(name=name, stats={}, checked=None, licences={},
                      why_not="what lies there now is another data set")  # fmt: skip
    licences: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for example in iter_examples(file):
        licences[example.split][example.licence or "unknown"] += 1
    return Source(
        name=name, stats=stats, checked=_without_folders(_json(root / "check.json")) or None,
        licences={split: counts for split, counts in licences.items() if counts},
    )  # fmt: skip


def _without_folders(checked: dict[str, Any]) -> dict[str, Any]:
    """Return what a check found without the folders that its advice names: they are this machine's.

    From where an absolute path begins to its last separator, so that blanks in it do not matter.
    """
    found = [
        one | {key: _FOLDERS.sub("", str(one[key])) for key in ("what", "do") if key in one}
        for one in checked.get("findings", [])
    ]
    return checked | {"findings": found} if found else checked


def _split(run: RunDir, wanted: str | None) -> str | None:
    there = [split for split in reversed(SPLITS) if run.scores(split).exists()]
    if wanted is None or wanted in there:
        return wanted or (there[0] if there else None)
    raise RunError(
        explain(
            f"{run.path} has no scores of the {wanted} split",
            got=", ".join(there) or "no scores",
            expected=f"scores of the {wanted} split",
            do=f"run `medblip evaluate {run.path} --split {wanted}`, or leave --split out",
        )
    )


def _recorded_data(config: dict[str, Any], captioned: dict[str, Any]) -> Path | None:
    root = (config.get("data") or {}).get("root") or captioned.get("data")
    return Path(root) if root else None


def _chats(folder: Path) -> bool:
    """Whether a template for conversations was saved, in a file of its own or an older place."""
    older = ("processor_config.json", "chat_template.json", "tokenizer_config.json")
    return (folder / "chat_template.jinja").exists() or any(
        _json(folder / name, versioned=False).get("chat_template") for name in older
    )


def _scored_on(captioned: dict[str, Any], config: dict[str, Any], source: Source) -> str:
    """Return the name of the data set of the captions: mostly, that of the training."""
    root = captioned.get("data")
    if root is None or root == (config.get("data") or {}).get("root"):
        return source.name
    stats = _json(Path(root) / "stats.json", versioned=False)
    return _name(Path(root), stats)


def _name(root: Path, stats: dict[str, Any]) -> str:
    if _is_synthetic(stats):
        return f"medblip phantoms, seed {stats['seed']}"
    return str(stats.get("source") or root.resolve().name)


def _is_synthetic(stats: dict[str, Any]) -> bool:
    return {"seed", "modalities"} <= stats.keys()


def _missing(found: Material, run: RunDir) -> list[str]:
    lines = []
    if not found.trained:
        lines.append("training: there is no train.json, so nothing was trained here, or not to its "
                     "end")  # fmt: skip
    if not found.scores:
        lines.append("scores: the run was not evaluated")
    if found.data.why_not:
        lines.append(f"counts and licences of the training data: {found.data.why_not}")
    elif found.data.checked is None:
        lines.append("a check of the data (leaks, damage): `medblip data check` was not run")
    against = found.against
    if not against.tests:
        lines.append(f"paired tests against another system: {against.why_none}")
    if against.stale:
        lines.append(f"{against.stale} rows of the comparison: they are of other scores than these")
    if not run.maps(found.split or "test").exists():
        lines.append("attention maps: `medblip explain` was not run")
    if found.trained.get("energy_wh") is None:
        lines.append("energy: it was not measured")
    lines += [
        f"{escape(part)}: {escape(_FOLDERS.sub('', str(why).partition(chr(10))[0]))}"
        for part, why in found.scores.get("unavailable", {}).items()
    ]
    return lines


def _json(path: Path, *, versioned: bool = True) -> dict[str, Any]:
    """Return a JSON object, or {} where there is none.

    Raises:
        RunError: It is damaged.
    """
    if not path.exists():
        return {}
    if versioned:
        return read_json(path)
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise RunError(
            explain(
                f"{path}: not JSON ({error})",
                got="a damaged file",
                expected="one JSON object",
                do="prepare the data again, or copy the run again",
            )
        ) from None
