"""The stage that draws phantoms into a prepared data set: images, captions, facts and masks.

Image `i` of seed `s` depends on (s, i) alone, so the bytes do not depend on the number of worker
processes. Knows the files of a data set; drawing and wording are its neighbours'.
"""

from __future__ import annotations

import collections
import functools
import io
import itertools
import json
import multiprocessing
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medblip.data.phantoms.abdomen import draw_abdomen_ct, draw_abdomen_mr
from medblip.data.phantoms.bones import draw_hand_xray, draw_pelvis_xray
from medblip.data.phantoms.canvas import Canvas
from medblip.data.phantoms.captions import write_caption
from medblip.data.phantoms.card import LICENCE, card
from medblip.data.phantoms.chest import draw_chest_ct, draw_chest_xray
from medblip.data.phantoms.head import draw_head_ct, draw_head_mr
from medblip.data.phantoms.masks import encode_mask
from medblip.data.phantoms.plan import Finding, Study, sample
from medblip.data.phantoms.ultrasound import (
    draw_gallbladder_us,
    draw_kidney_us,
    draw_pelvis_us,
)
from medblip.errors import DataError, explain
from medblip.files import require_space, staged_directory
from medblip.progress import track
from medblip.schema import SCHEMA_VERSION, Example, Split, dump_jsonl

__all__ = ["generate", "render", "render_study"]

_DRAW: dict[str, Callable[[Canvas, Study, np.random.Generator], None]] = {
    "chest-xray": draw_chest_xray,
    "hand-xray": draw_hand_xray,
    "pelvis-xray": draw_pelvis_xray,
    "chest-ct": draw_chest_ct,
    "head-ct": draw_head_ct,
    "head-mr-t1": draw_head_mr,
    "head-mr-t2": draw_head_mr,
    "abdomen-ct": draw_abdomen_ct,
    "abdomen-mr": draw_abdomen_mr,
    "kidney-us": draw_kidney_us,
    "gallbladder-us": draw_gallbladder_us,
    "pelvis-us": draw_pelvis_us,
}
_MIN_IMAGES, _MIN_SIZE, _MAX_SIZE = 10, 64, 1024
_CHUNK = 64
#: Pose: at most 6 degrees, 4 % of the side, a tenth of the size.
_MAX_ANGLE, _MAX_SHIFT, _MAX_SCALE = 0.105, 0.08, 0.09


def generate(
    out: Path | str,
    *,
    images: int,
    seed: int = 0,
    size: int = 128,
    workers: int | None = None,
    force: bool = False,
) -> Path:
    """Draw a data set of phantoms: `manifest.jsonl`, `images/`, `stats.json`, `README.md`.

    Args:
        out: Folder to create.
        images: How many; a tenth each becomes the validation and the test split.
        seed: Same seed, same bytes.
        size: Height and width in pixels.
        workers: Processes; None is one. More than one needs a script guarded by
            `if __name__ == "__main__":`, because processes are spawned.
        force: Replace an existing folder.

    Returns:
        The folder.

    Raises:
        DataError: The folder exists, or a number is out of range.
        RunError: The disk is full or not writable; an existing folder is untouched.
    """
    out = Path(out)
    _check(out, images=images, size=size, workers=workers, force=force)
    require_space(out.parent, images * (size * size + 4000))
    with staged_directory(out) as folder:
        (folder / "images").mkdir()
        job = functools.partial(_draw_chunk, folder, seed, size)
        starts = [(i, min(i + _CHUNK, images)) for i in range(0, images, _CHUNK)]
        drawn = itertools.chain.from_iterable(_map(job, starts, workers or 1))
        rows = list(track(drawn, "phantoms", images))
        (folder / "manifest.jsonl").write_text(dump_jsonl(rows), encoding="utf-8")
        (folder / "rejects.jsonl").write_text("", encoding="utf-8")
        record = {"schema_version": SCHEMA_VERSION} | _stats(rows, seed=seed, size=size)
        (folder / "stats.json").write_text(_json(record), encoding="utf-8")
        (folder / "README.md").write_text(card(record), encoding="utf-8")
    return out


def render(seed: int, index: int, size: int = 128) -> tuple[NDArray[np.uint8], dict[str, Any], str]:
    """Draw one phantom.

    Returns:
        The image (size, size), 8-bit grey; its facts; its caption.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    study = sample(rng)
    pixels = render_study(study, rng, size)
    return pixels, _facts(study, size), write_caption(study, rng)


def render_study(study: Study, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Draw a planned study (size, size), 8-bit grey; the masks of its findings are set."""
    pose = (
        float(rng.uniform(-_MAX_ANGLE, _MAX_ANGLE)),
        float(rng.uniform(-_MAX_SHIFT, _MAX_SHIFT)),
        float(rng.uniform(-_MAX_SHIFT, _MAX_SHIFT)),
        1 + float(rng.uniform(-_MAX_SCALE, _MAX_SCALE)),
    )
    canvas = Canvas(size, pose)
    _DRAW[study.spec.view](canvas, study, rng)
    return _expose(canvas, study, rng)


def _expose(canvas: Canvas, study: Study, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Apply uneven exposure, gamma, contrast, noise and quantisation."""
    pixels = canvas.pixels
    ultrasound = study.spec.modality == "ultrasound"
    if not ultrasound:
        pixels = pixels * (1 + canvas.texture(rng, 3) * np.float32(0.03))
    pixels = np.clip(pixels, 0, 1) ** np.float32(rng.uniform(0.85, 1.18))
    pixels = pixels * np.float32(rng.uniform(0.85, 1.05))
    if not ultrasound:
        pixels += np.float32(rng.uniform(0.0, 0.05))
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    pixels += noise * np.float32(
        rng.uniform(0.008, 0.02) if ultrasound else rng.uniform(0.012, 0.04)
    )
    return (np.clip(pixels, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)


def _facts(study: Study, size: int) -> dict[str, Any]:
    mm_per_pixel = study.spec.field_of_view_mm / size
    return {
        "modality": study.spec.modality,
        "plane": study.plane,
        "region": study.spec.region,
        "findings": [_finding_facts(finding, mm_per_pixel) for finding in study.findings],
        "devices": [
            {"name": device.name, "mask": encode_mask(_drawn(device.mask))}
            for device in study.devices
        ],
    }


def _finding_facts(finding: Finding, mm_per_pixel: float) -> dict[str, Any]:
    mask = _drawn(finding.mask)
    facts: dict[str, Any] = {
        "name": finding.name,
        "side": finding.side,
        "zone": finding.zone,
        "size": finding.size,
        "severity": finding.severity,
    }
    if finding.spec.measured:  # diameter of the circle of the same area
        facts["size_mm"] = round(2 * float(np.sqrt(mask.sum() / np.pi)) * mm_per_pixel, 1)
    facts["mask"] = encode_mask(mask)
    return facts


def _drawn(mask: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    if mask is None:
        raise AssertionError("a finding was planned but not drawn")
    return mask


def _draw_chunk(folder: Path, seed: int, size: int, span: tuple[int, int]) -> list[Example]:
    """Write the images `span[0]` to `span[1]` (exclusive) and return their rows."""
    rows = []
    for index in range(*span):
        pixels, facts, caption = render(seed, index, size)
        name = f"phantom-{index:06d}"
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        (folder / "images" / f"{name}.png").write_bytes(buffer.getvalue())
        rows.append(
            Example(
                id=name,
                image=f"images/{name}.png",
                split=_split(index),
                captions=(caption,),
                group=name,
                licence=LICENCE,
                source="medblip phantoms",
                facts=facts,
            )
        )
    return rows


def _map(
    job: Callable[[tuple[int, int]], list[Example]], spans: list[tuple[int, int]], workers: int
) -> Iterator[list[Example]]:
    """Yield the chunks in order, from this process or from spawned ones."""
    if workers == 1:
        yield from map(job, spans)
        return
    context = multiprocessing.get_context("spawn")  # fork is unsafe once torch has threads
    with ProcessPoolExecutor(min(workers, len(spans)), mp_context=context) as pool:
        yield from pool.map(job, spans)


def _split(index: int) -> Split:
    """Eight of ten train, one validates, one tests: images are independent, so any rule is fair."""
    return "test" if index % 10 == 9 else "validation" if index % 10 == 8 else "train"


def _check(out: Path, *, images: int, size: int, workers: int | None, force: bool) -> None:
    if images < _MIN_IMAGES:
        raise DataError(
            explain(
                "too few phantoms",
                got=f"--images {images}",
                expected=f"at least {_MIN_IMAGES}, so that every split has one",
                do="ask for more images",
            )
        )
    if not _MIN_SIZE <= size <= _MAX_SIZE:
        raise DataError(
            explain(
                "phantom size out of range",
                got=f"--size {size}",
                expected=f"{_MIN_SIZE} to {_MAX_SIZE} pixels: smaller ones hide the findings",
                do="choose a size in this range, e.g. 128",
            )
        )
    if workers is not None and workers < 1:
        raise DataError(
            explain(
                "no worker processes",
                got=workers,
                expected="1 or more, or None",
                do="leave the setting out",
            )
        )
    if out.exists() and not force:
        raise DataError(
            explain(
                "the output folder exists already",
                got=out,
                expected="a new folder",
                do="choose another --out, or replace it with --force",
            )
        )


def _stats(rows: list[Example], *, seed: int, size: int) -> dict[str, Any]:
    facts = [row.facts or {} for row in rows]
    findings = [finding for fact in facts for finding in fact["findings"]]
    lengths = [len(row.captions[0].split()) for row in rows]

    def count(values: Iterator[str]) -> dict[str, int]:
        return dict(sorted(collections.Counter(values).items()))

    return {
        "seed": seed,
        "size": size,
        "images": len(rows),
        "splits": count(row.split for row in rows),
        "modalities": count(fact["modality"] for fact in facts),
        "regions": count(fact["region"] for fact in facts),
        "findings": count(finding["name"] for finding in findings),
        "sides": count(str(finding["side"] or "none") for finding in findings),
        "findings_per_image": count(str(len(fact["findings"])) for fact in facts),
        "devices": count(device["name"] for fact in facts for device in fact["devices"]),
        "caption_words": {
            "median": statistics.median(lengths),
            "min": min(lengths),
            "max": max(lengths),
        },
        "distinct_captions": len({row.captions[0] for row in rows}),
    }


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=1) + "\n"
