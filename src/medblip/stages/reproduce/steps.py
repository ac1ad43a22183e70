"""Stage `reproduce`: the paper's study on the user's data, by one command.

data -> ablation (zero-shot, full, decoder, encoder; seeds) -> other captioners as they are ->
comparison -> attention maps and whether they are true -> claims and methods -> report, tables, card

A step whose result is there, and younger than what it was made of, is not done again.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medblip.errors import ConfigError, MedblipError, RunError, explain, nearest
from medblip.files import is_younger, read_json, write_json, write_text
from medblip.metrics.stored import load_statistics
from medblip.progress import console
from medblip.rundir import RunDir
from medblip.schema import read_jsonl
from medblip.stages.reproduce.claims import claims
from medblip.stages.reproduce.guards import claim, require_data, require_numbers
from medblip.stages.reproduce.ledger import Ledger
from medblip.stages.reproduce.material import describe_data
from medblip.stages.reproduce.methods import methods
from medblip.stamps import digest

__all__ = ["SCALES", "Reproduced", "reproduce"]

#: Name -> (variants and seeds, captioners as they are); files beside this one.
SCALES = {"demo": ("demo.toml", None), "base": ("base.toml", "base-systems.toml")}
#: Phantoms that are drawn when the scale is `demo` and no data set is named.
_PHANTOMS = 4000
_SPLIT = "test"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reproduced:
    """What the study says, and where.

    Args:
        report: The page.
        ablation: JSON of the ablation.
        comparison: JSON of the paired tests; "" where nothing was there to compare with.
        tables: Folder with LaTeX and CSV tables.
        card: Model card of the fine-tuned captioner.
        claims: {claim, verdict, reason}.
        methods: The methods paragraph.
        failed: {system, reason} of captioners that could not be used here.
        seconds: Of this call.
        plan: Of a dry run: what would be trained and captioned; all else is empty then.
    """

    report: str
    ablation: str
    comparison: str
    tables: str
    card: str
    claims: tuple[dict[str, str], ...]
    methods: str
    failed: tuple[dict[str, str], ...]
    seconds: float
    plan: tuple[dict[str, Any], ...] = ()


def reproduce(
    data: Path | str | None = None,
    out: Path | str = "runs/paper",
    *,
    scale: str = "demo",
    seeds: Sequence[int] | None = None,
    images: int | None = None,
    explained: int = 100,
    jobs: int | str = "auto",
    device: str = "auto",
    allow_upload: bool = False,
    meteor: bool | None = None,
    dry_run: bool = False,
    force: bool = False,
) -> Reproduced:
    """Run the paper's study; a killed call goes on where it stopped.

    Args:
        data: Prepared data set with the splits train, validation and test; None, at the scale
            `demo`: phantoms are drawn into `OUT/data`.
        out: Folder of the study.
        scale: `demo` (the bundled captioner, three seeds, minutes on a CPU) or `base` (BLIP-base
            and the paper's other captioners, one GPU).
        seeds: Of training; None: the scale's.
        images: How many phantoms to draw; None: 4,000.
        explained: Images whose maps are tested.
        jobs: As `ablate`.
        device: As `train.device`.
        allow_upload: Let images leave this machine, for remote captioners.
        meteor: As `evaluate`: None: where it is installed.
        dry_run: Say what would be trained and captioned, and how long training takes; write
            nothing.
        force: Do everything again.

    Raises:
        ConfigError: The scale is unknown, a number is out of range, or `images` stands beside
            `data`.
        DataError: The data set is not there, or lacks a split.
        RunError: `out` holds a study with other settings, or a step failed.
    """
    from medblip.stages.ablate import ablate
    from medblip.stages.ablate.grid import read_grid

    started = time.perf_counter()
    variants, others = _scale(scale)
    # before anything is written: a typing error claims no folder
    read_grid(variants, None if seeds is None else tuple(seeds))
    require_numbers(images, explained, jobs)
    require_data(data, scale, images)
    if dry_run:
        return _planned(variants, others, data, seeds)
    root = Path(out)
    images = images or _PHANTOMS
    settings = {"scale": scale, "seeds": None if seeds is None else list(seeds), "images": images}
    manifest = None if data is None else digest(Path(data) / "manifest.jsonl")
    claim(root, settings | {"data": manifest}, force)
    source = Path(data) if data is not None else _drawn(root / "data", images, force=force)
    describe_data(source, root / "study-data.json")
    phantoms = read_json(root / "study-data.json")["synthetic"]
    console().rule("ablation")
    ablation = ablate(
        variants, source, root / "ablation", seeds=seeds, jobs=jobs, device=device, meteor=meteor,
        force=force,
    )  # fmt: skip
    trained = _first_runs(root, Path(ablation.ablation_file))
    systems, failed = _caption_others(
        root, others, source, device, allow_upload=allow_upload, meteor=meteor, force=force
    )
    every = {**trained, **systems}
    compared = _compare(root, every, source)
    console().rule("attention maps")
    _explain(root, source, every, trained, explained, device, force=force)
    _compare_maps(root, trained)
    title = "The study on phantoms" if phantoms else "The study"
    study = _judge(root, trained, every, title)
    pages = _write(root, source, every, compared, title=title)
    return Reproduced(
        **pages, ablation=ablation.ablation_file, comparison=str(compared or ""),
        claims=tuple(study["claims"]), methods=study["methods"], failed=tuple(failed),
        seconds=round(time.perf_counter() - started, 1),
    )  # fmt: skip


def _planned(
    variants: Path, others: Path | None, data: Path | str | None, seeds: Sequence[int] | None
) -> Reproduced:
    """Return a plan; without a data set nobody knows how long training takes."""
    from medblip.stages.ablate import ablate
    from medblip.stages.ablate.grid import read_grid
    from medblip.stages.systems import planned, read_list

    if data is None:
        grid = read_grid(variants, None if seeds is None else tuple(seeds))
        rows: list[dict[str, Any]] = [{"name": one.name, "set": one.set} for one in grid.variants]
        count = len(grid.seeds)
    else:
        found = ablate(variants, data, seeds=seeds, dry_run=True)
        rows, count = [dict(one) for one in found.variants], len(found.seeds)
    plan = [row | {"runs": count if "freeze.preset" in row["set"] else 1} for row in rows]
    if others is not None:
        plan += [{"name": spec.name, **planned(spec)} for spec in read_list(others)]
    return Reproduced(
        report="", ablation="", comparison="", tables="", card="", claims=(), methods="",
        failed=(), seconds=0.0, plan=tuple(plan),
    )  # fmt: skip


def _scale(name: str) -> tuple[Path, Path | None]:
    if name not in SCALES:
        raise ConfigError(
            explain(
                "unknown scale",
                got=name,
                expected=" or ".join(SCALES),
                do=f"did you mean {nearest(name, list(SCALES))}?",
            )
        )
    variants, systems = SCALES[name]
    here = Path(__file__).parent
    return here / variants, None if systems is None else here / systems


def _drawn(data: Path, images: int, *, force: bool) -> Path:
    """Draw phantoms, unless so many are there.

    Raises:
        RunError: Something else is there.
    """
    from medblip.data.phantoms.generate import generate

    stats = read_json(data / "stats.json") if (data / "stats.json").exists() else {}
    ours = {"images", "modalities", "findings", "sides"} <= stats.keys()
    if data.exists() and any(data.iterdir()) and not ours:
        raise RunError(
            explain(
                f"{data} is taken",
                got="files that are not phantoms",
                expected="a new or empty folder, or phantoms",
                do="choose another --out",
            )
        )
    if force or stats.get("images") != images:
        generate(data, images=images, seed=0, workers=os.cpu_count(), force=True)
    return data


def _first_runs(root: Path, ablation: Path) -> dict[str, RunDir]:
    """Return variant -> its run with the first seed."""
    return {
        variant["name"]: RunDir(ablation.parent / variant["runs"][0])
        for variant in read_json(ablation)["variants"]
    }


def _caption_others(
    root: Path,
    listed: Path | None,
    data: Path,
    device: str,
    *,
    allow_upload: bool,
    meteor: bool | None,
    force: bool,
) -> tuple[dict[str, RunDir], list[dict[str, str]]]:
    """Caption and score the captioners that are not fine-tuned; those that cannot be are told."""
    if listed is None:
        return {}, []
    from medblip.stages.systems import caption_all, read_list

    return caption_all(
        read_list(listed), data, root / "systems", split=_SPLIT, device=device,
        allow_upload=allow_upload, force=force, replace=True, meteor=meteor,
    )  # fmt: skip


def _compare(root: Path, every: Mapping[str, RunDir], data: Path) -> Path | None:
    """Test everything against the fine-tuned captioner."""
    from medblip.stages.compare import compare

    if len(every) < 2 or "full" not in every:
        return None
    target = root / "comparison.json"
    compare(
        [run.path for run in every.values()],
        baseline=every["full"].path,
        out=target,
        split=_SPLIT,
        references=data,
    )
    return target


def _explain(
    root: Path,
    data: Path,
    every: Mapping[str, RunDir],
    trained: Mapping[str, RunDir],
    limit: int,
    device: str,
    *,
    force: bool,
) -> None:
    """Draw the gallery's maps for every system, and test those of the ablation's captioners."""
    from medblip.stages.explain import explain as draw
    from medblip.stages.explain.faithfulness import faithfulness
    from medblip.stages.report.collect import gallery_ids

    shown = gallery_ids(data, _SPLIT, [run.path for run in every.values()])
    for name, run in every.items():
        console().print(f"maps of {name}", markup=False)
        captions, maps = run.predictions(_SPLIT), run.maps(_SPLIT)
        tested = maps.with_suffix(".faithfulness.json")
        try:
            if force or not is_younger(maps, captions) or not _are_ours(maps, shown):
                draw(run.path, data, split=_SPLIT, ids=shown, device=device, force=True)
            if name in trained and (force or not _is_tested(tested, captions, limit)):
                faithfulness(run.path, data, split=_SPLIT, limit=limit, device=device, force=True)
        except MedblipError as error:  # a captioner without maps, or captions from a file
            console().print(f"{name}: {error}", style="yellow", markup=False, soft_wrap=True)


def _are_ours(maps: Path, shown: Sequence[str]) -> bool:
    """Whether maps are of the gallery's images, in the paper's view."""
    record = read_json(maps)
    view = record.get("settings", {}).get("name")
    return view == "last-mean" and {image["id"] for image in record["images"]} == set(shown)


def _is_tested(tested: Path, captions: Path, limit: int) -> bool:
    """Whether the maps of these captions were tested, on as many images."""
    if not is_younger(tested, captions) or not tested.with_suffix(".npz").exists():
        return False
    from medblip.stages.explain.look import settled_view

    there = len(captions.read_text(encoding="utf-8").splitlines())
    wanted = {"n": min(limit, there), "seed": 0, "view": settled_view(None, None, None).words}
    record = read_json(tested)
    return all(record.get(key) == value for key, value in wanted.items())


def _compare_maps(root: Path, trained: Mapping[str, RunDir]) -> None:
    """Write `maps-compared.json`: fine-tuned maps against zero-shot's; right place, wrong words."""
    from medblip.stages.explain.faithfulness import compare_faithfulness

    target = root / "maps-compared.json"
    measured = {
        name: run.maps(_SPLIT).with_suffix(".faithfulness.npz") for name, run in trained.items()
    }
    if not {"full", "zero-shot"} <= measured.keys() or not all(
        measured[name].exists() for name in ("full", "zero-shot")
    ):
        target.unlink(missing_ok=True)
        return
    full = trained["full"]
    found = compare_faithfulness(full.path, trained["zero-shot"].path, split=_SPLIT)
    record = {"n": found.n, "tests": found.rows, "conclusions": list(found.conclusions)}
    pointed = load_statistics(measured["full"])
    family = pointed.families.get("pointing-game@attention")
    if family is not None:
        hits = {
            name
            for name, (hit, counted) in zip(pointed.ids, family.values, strict=True)
            if counted and hit == counted
        }
        rows = read_jsonl(full.scores(_SPLIT).with_name(f"{_SPLIT}.per_image.jsonl"))
        wrong = [
            row["id"] for row in rows if row["id"] in hits and row.get("fact-finding", 1.0) < 1.0
        ]
        record["placed"] = {"hits": len(hits), "wrong": len(wrong)}
    write_json(target, record)


def _judge(
    root: Path, trained: Mapping[str, RunDir], every: Mapping[str, RunDir], title: str
) -> dict[str, Any]:
    """Write `study.json`: the paper's claims, the methods, and where each number is from."""
    runs = {name: run.path.relative_to(root).as_posix() for name, run in trained.items()}
    ledger = Ledger(root)
    judged = claims(ledger, split=_SPLIT, runs=runs)
    study = {
        "title": title,
        "runs": [run.path.relative_to(root).as_posix() for run in every.values()],
        "claims": [dataclasses.asdict(one) for one in judged],
        "methods": methods(ledger, split=_SPLIT, runs=runs),
        "numbers": [dataclasses.asdict(one) for one in dict.fromkeys(ledger.numbers)],
    }
    write_json(root / "study.json", study)
    return study


def _write(
    root: Path, data: Path, every: Mapping[str, RunDir], compared: Path | None, *, title: str
) -> dict[str, Any]:
    """Write the page, the tables in every format, and the card of the fine-tuned captioner."""
    from medblip.stages.card import model_card
    from medblip.stages.report import report

    paths = [run.path for run in every.values()]
    common: dict[str, Any] = {
        "data": data, "split": _SPLIT, "comparison": compared, "title": title,
        "ablation": root / "ablation" / "ablation.json", "study": root / "study.json",
    }  # fmt: skip
    page = report(paths, out=root / "report.html", **common)
    for kind in ("md", "latex", "csv"):
        report(paths, out=root / "tables" / kind, format=kind, **common)
    card = root / "model-card.md"
    write_text(card, model_card(every["full"].path, data=data, split=_SPLIT, comparison=compared))
    return {"report": str(page), "tables": str(root / "tables"), "card": str(card)}
