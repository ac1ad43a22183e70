"""Stage `compare` on a list of systems: caption, score, test and report whatever is named there.

```toml
[[system]]
name = "BLIP, zero-shot"
model = "blip-base"           # any captioner; a trained run: `run`; somebody's table: `captions`
set = ["decode.num_beams=3"]
```
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from medblip import config as configuration
from medblip.config import RunConfig
from medblip.errors import ConfigError, MedblipError, RunError, explain, nearest
from medblip.files import (
    is_younger,
    read_json,
    write_bytes,
    write_json,
    write_text,
)
from medblip.progress import console
from medblip.rundir import RunDir
from medblip.schema import Prediction, dump_jsonl
from medblip.stages.systems.listed import SystemSpec, read_list, slug
from medblip.stamps import digest, folder_stamp

__all__ = [
    "Studied",
    "caption_all",
    "compare_systems",
    "planned",
]


#: A system's folder holds one for each split: of what its captions are.
_NOTE = "system-"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Studied:
    """A comparison of systems that were captioned here.

    Args:
        report: The page; "" for a dry run.
        comparison: JSON of the paired tests.
        baseline: The first system that could be captioned.
        rows: One per system: name, kind, model, images, and its headline scores; of a dry run what
            is known of the model and whether it is here.
        tests: As `compare` gives them.
        failed: {system, reason} of those that could not be captioned.
    """

    report: str
    comparison: str
    baseline: str
    rows: tuple[dict[str, Any], ...]
    tests: tuple[dict[str, Any], ...] = ()
    failed: tuple[dict[str, str], ...] = ()


def compare_systems(
    config: Path | str,
    data: Path | str,
    out: Path | str,
    *,
    split: str = "test",
    metrics: Sequence[str] | None = None,
    test: Literal["bootstrap", "randomisation"] = "bootstrap",
    baseline: str | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    meteor: bool | None = None,
    device: str = "auto",
    allow_upload: bool = False,
    dry_run: bool = False,
    force: bool = False,
) -> Studied:
    """Caption a split with every system of a list, score them, test them against one.

    What is done stays: a repeated call goes on. A system that cannot be captioned is told and left
    out; the others are compared.

    Args:
        config: TOML with `[[system]]` tables.
        data: Prepared data set.
        out: Folder for one run directory per system, `comparison.json` and `report.html`.
        split: Of the data set.
        metrics: As `compare`.
        test: As `compare`.
        baseline: Name of a system; None: the first that could be captioned.
        resamples: As `compare`.
        seed: As `compare`.
        meteor: As `evaluate`.
        device: As `train.device`.
        allow_upload: Let images leave this machine, for remote captioners.
        dry_run: Say what would be done; caption nothing.
        force: Caption and score again what is there.

    Raises:
        ConfigError: The list is malformed, or has no such baseline.
        RunError: The baseline could not be captioned, or fewer than two systems could be captioned.
    """
    specs, root = read_list(Path(config)), Path(out)
    _require_named(baseline, [spec.name for spec in specs])
    if dry_run:
        return Studied(
            report="", comparison="", baseline="", rows=tuple(planned(spec) for spec in specs)
        )
    from medblip.stages.compare import compare
    from medblip.stages.report import report

    done, failed = caption_all(
        specs, Path(data), root, split=split, device=device, allow_upload=allow_upload,
        force=force, meteor=meteor,
    )  # fmt: skip
    if len(done) < 2 or baseline not in {None, *done}:
        raise RunError(
            explain(
                "nothing to compare",
                got="; ".join(
                    f"{one['system']}: {one['reason'].splitlines()[0]}" for one in failed
                ),
                expected="captions of two systems or more, the baseline among them",
                do="mend these, then repeat the command: what is done stays",
            )
        )
    paths = [run.path for run in done.values()]
    compared = compare(
        paths, None if baseline is None else done[baseline].path, split=split, metrics=metrics,
        test=test, out=root / "comparison.json", resamples=resamples, references=data, seed=seed,
    )  # fmt: skip
    page = report(
        paths, data=data, split=split, out=root / "report.html",
        comparison=str(compared.comparison_file), title="Comparison of captioners",
    )  # fmt: skip
    return Studied(
        report=str(page), comparison=str(compared.comparison_file),
        baseline=baseline or next(iter(done)),
        rows=tuple(_row(name, run, split) for name, run in done.items()),
        tests=tuple(compared.rows), failed=tuple(failed),
    )  # fmt: skip


def _require_named(baseline: str | None, names: Sequence[str]) -> None:
    if baseline is not None and baseline not in names:
        raise ConfigError(
            explain(
                "the list has no such system",
                got=f"--baseline {baseline}",
                expected=", ".join(names),
                do=f"did you mean {nearest(baseline, names)}?",
            )
        )


def caption_all(
    specs: Sequence[SystemSpec],
    data: Path,
    root: Path,
    *,
    split: str,
    device: str = "auto",
    allow_upload: bool = False,
    force: bool = False,
    replace: bool = False,
    meteor: bool | None = None,
) -> tuple[dict[str, RunDir], list[dict[str, str]]]:
    """Caption and score a split with every system; what is done stays.

    Args:
        specs: The systems.
        data: Prepared data set.
        root: Folder of one run directory for each.
        split: Of the data set.
        device: As `train.device`.
        allow_upload: Let images leave this machine, for remote captioners.
        force: Caption and score again what is there.
        replace: Caption again what is of another system or of other data, instead of refusing.
        meteor: As `evaluate`.

    Returns:
        Name -> run directory below `root`, and {system, reason} of those that could not be used,
        which are told and left out.
    """
    from medblip.stages.evaluate import evaluate

    done: dict[str, RunDir] = {}
    failed = []
    for spec in specs:
        console().rule(spec.name)
        run = RunDir(root / slug(spec.name))
        try:
            _captioned(
                spec, run, data, split, device, allow_upload=allow_upload, force=force,
                replace=replace,
            )  # fmt: skip
            scores = run.scores(split)
            stale = not is_younger(scores, run.predictions(split))
            if stale or (meteor and "METEOR" not in read_json(scores)["metrics"]):
                evaluate(run.path, data, split=split, meteor=meteor, device=device, force=True)
        except MedblipError as error:
            failed.append({"system": spec.name, "reason": str(error)})
            console().print(str(error), style="red", markup=False, soft_wrap=True)
            continue
        done[spec.name] = run
    return done, failed


def _captioned(
    spec: SystemSpec, run: RunDir, data: Path, split: str, device: str, *, allow_upload: bool,
    force: bool, replace: bool,
) -> None:  # fmt: skip
    """Put a system's captions into its folder, unless they are there, of the same system.

    What the folder is for is noted first: captions that are older than the note are another's.
    """
    from medblip.stages.caption import caption

    note = run.path / f"{_NOTE}{split}.json"
    settings = json.loads(json.dumps(dataclasses.asdict(spec))) | {"split": split}
    settings["data"] = digest(data / "manifest.jsonl")
    # what lies at a path may change: a table that was edited, a run that was trained again
    source = spec.captions or (f"{spec.run}/train.json" if spec.run else "")
    settings["content"] = digest(Path(source)) if source else folder_stamp(Path(str(spec.model)))
    if not _is_free(run.path):
        raise RunError(
            explain(
                f"{run.path} is taken",
                got="files that no comparison put there",
                expected=f"a new or empty folder for {spec.name}",
                do="choose another --out",
            )
        )
    before = {key: read_json(note).get(key) for key in settings} if note.exists() else {}
    place = Path(source or str(spec.model))
    if before and not place.exists() and before["content"]:  # what was taken from it stays
        settings["content"] = before["content"]
    made = run.predictions(split)
    there = is_younger(made, note) and is_younger(made.with_suffix(".json"), note)
    if there and not force and before == settings:
        return
    # an edited table is the user's own word, and costs nothing to take again
    edited = spec.captions is not None and before == settings | {"content": before.get("content")}
    if there and not force and not replace and not edited:
        raise RunError(
            explain(
                f"{run.path} holds the captions of another system",
                got=", ".join(k for k in settings if before[k] != settings[k]) + " differ",
                expected="the same system and data, or a new folder",
                do="choose another --out, or add --force to caption it again",
            )
        )
    with _noted(note, settings, anew=force or before != settings):
        if spec.captions is not None:
            _from_table(spec, Path(spec.captions), run, data, split)
        elif spec.run is not None:
            _from_run(spec, Path(spec.run), run, data, split, device)
        else:
            caption(
                run.path, data, split=split, model=spec.model, overrides=spec.set, device=device,
                force=True, allow_upload=allow_upload,
            )  # fmt: skip


def _is_free(folder: Path) -> bool:
    """Whether a folder is empty or a system's, finished or begun."""
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    ours = any(name.startswith(_NOTE) and name.endswith(".json") for name in names)
    begun = all(name == "LOCK" or name.endswith(".partial") for name in names)
    return ours or "system.json" in names or begun


@contextlib.contextmanager
def _noted(note: Path, settings: dict[str, Any], *, anew: bool) -> Iterator[None]:
    """Note what captions will be of, before they are made; one that failed leaves what was there.

    A refusal (no consent, no weights) touches no captions: they stay valid, by the older note.
    """
    before = (note.read_bytes(), note.stat()) if note.exists() else None
    if anew:
        write_json(note, settings)
    try:
        yield
    except MedblipError:
        if anew and before is not None:
            write_bytes(note, before[0])
            os.utime(note, ns=(before[1].st_atime_ns, before[1].st_mtime_ns))
        raise


def _from_table(spec: SystemSpec, table: Path, run: RunDir, data: Path, split: str) -> None:
    """Take the captions of a table; every image of the split needs one."""
    from medblip.data.captions import align, read_captions, read_references

    ids = read_references(data, split).ids
    captions = align(read_captions(table), ids)
    rows = (Prediction(id=name, caption=text) for name, text in zip(ids, captions, strict=True))
    cfg = RunConfig()
    cfg = dataclasses.replace(
        cfg, data=dataclasses.replace(cfg.data, root=str(data)),
        model=dataclasses.replace(cfg.model, name=f"file:{table}", prompt=""),
    )  # fmt: skip
    write_json(run.config, configuration.dump(cfg))
    write_text(run.predictions(split), dump_jsonl(rows))
    record = {"split": split, "data": str(data), "n": len(ids), "model": f"file:{table}"}
    write_json(run.predictions(split).with_suffix(".json"), record | {"trained": False})


def _from_run(
    spec: SystemSpec, trained: Path, run: RunDir, data: Path, split: str, device: str
) -> None:
    """Caption with a trained run, into the comparison's own folder; the run itself stays as it is.

    What the run says of its training is copied beside, for the report.
    """
    from medblip.stages.caption import caption

    source = RunDir(trained)
    if not source.completion.exists():
        raise RunError(
            explain(
                f"{trained} is no finished run",
                got="no train.json",
                expected="a run directory that `medblip train` wrote",
                do="finish it, or take it out of the list",
            )
        )
    for name in ("config.json", "trainable.json", "environment.json", "train.json"):
        if (file := trained / name).exists():
            write_text(run.path / name, file.read_text(encoding="utf-8"))
    caption(
        trained, data, split=split, overrides=spec.set, device=device, force=True,
        out=run.predictions(split),
    )  # fmt: skip
    beside = run.predictions(split)
    beside.with_name(beside.name + ".meta.json").replace(beside.with_suffix(".json"))


def planned(spec: SystemSpec) -> dict[str, Any]:
    """Return what a dry run says of a system."""
    from medblip.models.known import KNOWN
    from medblip.remote.names import remote_of
    from medblip.stages.models import is_cached

    kind = "file" if spec.captions else "run" if spec.run else "model"
    source = spec.captions or spec.run or spec.model or ""
    row: dict[str, Any] = {"system": spec.name, "kind": kind, "source": source}
    if kind != "model":
        return row | {"here": Path(source).exists()}
    if remote_of(source) is not None:
        return row | {"kind": "remote", "here": False}
    known = next((one for one in KNOWN if source in (one.name, one.hub)), None)
    if known is None:
        return row | {"here": Path(source).exists() or source == configuration.BUNDLED}
    return row | {
        "here": is_cached(known.hub), "bf16_gb": round(known.weights_gb(2), 1),
        "fp32_gb": round(known.weights_gb(4), 1),
    }  # fmt: skip


def _row(name: str, run: RunDir, split: str) -> dict[str, Any]:
    """Return a system's line of the table."""
    from medblip.stages.compare import HEADLINES

    scores = read_json(run.scores(split))
    made = read_json(run.predictions(split).with_suffix(".json"))
    return {
        "system": name, "folder": run.path.name, "model": made.get("model"), "n": scores["n"],
        "images_per_second": made.get("images_per_second"),
        "scores": {
            metric: scores["metrics"][metric] for metric in HEADLINES if metric in scores["metrics"]
        },
    }  # fmt: skip
