"""Write invented names, dates and labels into images, for training and testing the detector."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
#: Held out of training.
TEST_FONTS = ("DejaVuSerif.ttf", "cmss10.ttf")
TRAIN_FONTS = ("DejaVuSans.ttf", "DejaVuSansMono.ttf", "DejaVuSans-Bold.ttf", "STIXGeneral.ttf")
_NAMES = ("MEIER", "Okafor", "LINDQVIST", "Tanaka", "ROSSI", "Haddad", "NOVAK", "Silva", "O'BRIEN")
_FIRST = ("Anna", "JOHN", "Mei", "PEDRO", "Ingrid", "ALI", "Zoe")
_LABELS = (
    "PORTABLE AP", "ERECT", "SUPINE", "W:350 L:40", "120 kV", "12.4 mm", "GE LOGIQ", "IM: 24/86",
)  # fmt: skip


def words(rng: np.random.Generator) -> str:
    """Return a name, a date, a number or a label."""
    day = f"{rng.integers(1, 29):02d}.{rng.integers(1, 13):02d}.{rng.integers(1940, 2025)}"
    kinds = (
        f"{rng.choice(_NAMES)}, {rng.choice(_FIRST)}", day, f"ID {rng.integers(10**5, 10**7)}",
        str(rng.choice(_LABELS)), f"{rng.choice(_FIRST)} {rng.choice(_NAMES)} {day}",
    )  # fmt: skip
    return str(kinds[rng.integers(len(kinds))])


def plant(
    image: Image.Image,
    rng: np.random.Generator,
    *,
    height: int,
    fonts: tuple[str, ...],
    contrast: str = "clear",
) -> tuple[Image.Image, tuple[int, int, int, int]] | None:
    """Return the image with one line of text, as a JPEG would have it, and the text's box.

    Args:
        image: Any image.
        rng: Source of chance.
        height: Of a capital letter, in pixels.
        fonts: File names to choose from.
        contrast: `clear`: white or black with at least 110 grey levels to the ground's mean;
            `faint`: 40 to 80 levels.

    None when the text does not fit.
    """
    grey = image.convert("L")
    font_file = str(FONTS / str(rng.choice(fonts)))
    font = ImageFont.truetype(font_file, round(height / 0.73))
    text = words(rng)
    left, top, right, bottom = font.getbbox(text)
    width, tall = int(right - left), int(bottom - top)
    if width + 4 > grey.width or tall + 4 > grey.height:
        return None
    x = int(rng.integers(2, grey.width - width - 1))
    corner = rng.random() < 0.7  # most annotations are near the upper or lower edge
    room = grey.height - tall - 2
    y = int(rng.choice([rng.integers(2, max(3, room // 8)), rng.integers(room * 7 // 8, room)])
            if corner and room > 40 else rng.integers(2, max(3, room)))  # fmt: skip
    pixels = np.asarray(grey).astype(np.float64)
    ground = pixels[y : y + tall, x : x + width].mean()
    if contrast == "clear":
        choices = [level for level in (255, 230, 20, 0) if abs(level - ground) >= 110]
    else:
        steps = (*range(40, 80, 10), *range(-79, -40, 10))
        choices = [ground + step for step in steps if 0 <= ground + step <= 255]
    if not choices:
        return None
    level = float(rng.choice(choices))
    mask = Image.new("L", grey.size)
    ImageDraw.Draw(mask).text((x - left, y - top), text, fill=255, font=font)
    alpha = np.asarray(mask) / 255
    mixed = pixels * (1 - alpha) + level * alpha
    buffer = io.BytesIO()
    Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8)).save(
        buffer, "JPEG", quality=int(rng.integers(60, 95))
    )
    return Image.open(buffer).convert("L"), (x, y, x + width, y + tall)
