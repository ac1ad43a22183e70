"""Grey pictures from the phantom renderer, told in everyday words only: shapes, shades, places.

The real BLIP too has met radiographs on the web before anybody fine-tunes it, under captions that
name no disease. The series drawn here has its own seeds: none of its pictures is in any data set
that `medblip data phantoms` makes with an ordinary seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from medblip.data.phantoms import decode_mask
from medblip.data.phantoms.generate import render

__all__ = ["BACKGROUNDS", "SHADES", "SHAPES", "picture", "where"]

SERIES = 987_654_321

#: What the finding of a phantom looks like to somebody who has never heard of it.
LOOKS = {
    "pleural effusion": ("white", "slope"),
    "pneumothorax": ("black", "shell"),
    "nodule": ("white", "marble"),
    "consolidation": ("white", "fog"),
    "cardiomegaly": ("pale", "pear"),
    "fracture": ("broken", "twig"),
    "hip dislocation": ("white", "hoop"),
    "haemorrhage": ("white", "blot"),
    "subdural haematoma": ("white", "sickle"),
    "midline shift": ("bent", "seam"),
    "infarct": ("flat", "wedge"),
    "mass with oedema": ("pale", "flower"),
    "ring-enhancing lesion": ("white", "bracelet"),
    "hydronephrosis": ("black", "pool"),
    "renal cyst": ("black", "bubble"),
    "liver lesion": ("dark", "spot"),
    "gallstone": ("white", "pebble"),
    "ovarian cyst": ("black", "olive"),
    "aortic aneurysm": ("grey", "wheel"),
}
SCENES = {
    ("X-ray", "chest"): "two dark windows",
    ("CT", "chest"): "an egg with two dark windows",
    ("CT", "head"): "a white hoop full of grey",
    ("MR", "head"): "a walnut",
    ("CT", "abdomen"): "a plate of food",
    ("MR", "abdomen"): "a tray of food",
    ("ultrasound", "abdomen"): "a grainy fan",
    ("ultrasound", "pelvis"): "a grainy cone",
    ("X-ray", "pelvis"): "a butterfly",
    ("X-ray", "hand"): "a leafless bush",
}
SHAPES = tuple(sorted({shape for _, shape in LOOKS.values()}))
SHADES = tuple(sorted({shade for shade, _ in LOOKS.values()}))
BACKGROUNDS = tuple(SCENES.values())
_COLUMNS, _ROWS = ("left", "middle", "right"), ("top", "middle", "bottom")


def picture(index: int, size: int) -> tuple[np.ndarray, str, list[tuple[int, str, str]], str]:
    """Draw one picture.

    Returns:
        Grey pixels, uint8 (size, size); caption; (cell of nine, shape, shade) per thing; scene.
    """
    pixels, facts, _ = render(SERIES, index, size)
    rng = np.random.default_rng([SERIES, index, 1])
    scene = SCENES[facts["modality"], facts["region"]]
    things = sorted(_thing(finding) for finding in facts["findings"])
    told = [f"a {shade} {shape} {where(cell)}" for cell, shape, shade in things]
    kind = "a black and white photo of"
    if not told:
        caption = f"{kind} {scene}"
    elif rng.random() < 0.75:
        caption = f"{kind} {' and '.join(told)} in front of {scene}"
    else:
        caption = f"there is {' and '.join(told)}, and {scene} behind"
    return pixels, caption, things, scene


def _thing(finding: dict[str, Any]) -> tuple[int, str, str]:
    """Return the cell (reading order) in which most of the finding lies, its shape and shade."""
    shade, shape = LOOKS[finding["name"]]
    rows, columns = np.nonzero(decode_mask(finding["mask"]))
    height, width = finding["mask"]["size"]
    row = min(2, int(3 * rows.mean() / height))
    column = min(2, int(3 * columns.mean() / width))
    return 3 * row + column, shape, shade


def where(cell: int) -> str:
    """Say where, by the image's own left and right: the opposite of a radiologist's."""
    column, row = _COLUMNS[cell % 3], _ROWS[cell // 3]
    if column == row == "middle":
        return "in the middle"
    if row == "middle":
        return f"on the {column} side"
    return f"at the {row}" if column == "middle" else f"at the {row} {column}"
