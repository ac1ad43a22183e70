"""The data card of phantoms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medblip.data.card import MARK, count_table, findings, metadata
from medblip.markdown import front_matter
from medblip.schema import SPLITS

__all__ = ["LICENCE", "card"]

LICENCE = "CC0-1.0"

_CARD = """\
# Phantoms: synthetic radiology-like images with exact captions

{images} procedurally drawn images of {size} x {size} pixels, seed {seed}, made by
`medblip data phantoms`. Train {train}, validation {validation}, test {test}.

* No patient is shown; every image and every caption is computed. Licence: {licence}.
* `manifest.jsonl` holds per image the caption and `facts`: modality, plane, region, findings (name,
  side, zone, size, severity, diameter in mm where it makes sense) and devices.
* Sides are the patient's: the right lies on the image's left. A hand is seen from its back, with
  the thumb of a left hand on the image's right; its fracture has the side of the hand.
* Masks are uncompressed COCO run lengths (column-major, zeros first) of the pixels that a finding
  was painted on, before noise.

For research on captioning and for tests. Not fit for any clinical purpose: shapes are schematic,
and frequencies are not those of a clinic.
"""


def card(stats: Mapping[str, Any], checked: Mapping[str, Any] | None = None) -> str:
    """Return the data card of phantoms, in the hub's format, from `stats.json` and `check.json`."""
    about = metadata(
        "medblip phantoms", images=stats["images"], licences={LICENCE: stats["images"]},
        tags=["synthetic"],
    )  # fmt: skip
    splits = {split: stats["splits"].get(split, 0) for split in SPLITS}
    text = _CARD.format(
        images=stats["images"], seed=stats["seed"], size=stats["size"],
        licence=LICENCE, **splits,
    )  # fmt: skip
    lines = [*count_table("licence", {LICENCE: stats["images"]})]
    lines += [*count_table("modality", stats["modalities"]), "", "## What was looked for", ""]
    return (
        front_matter(about) + "\n" + text + "\n".join([*lines, *findings(checked), "", MARK]) + "\n"
    )
