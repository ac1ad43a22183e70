"""Write invented words and clutter into images, for training and testing the detector."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
#: Held out of training; "" is Pillow's own.
TEST_FONTS = ("DejaVuSerif.ttf", "cmss10.ttf", "")
TRAIN_FONTS = ("DejaVuSans.ttf", "DejaVuSansMono.ttf", "DejaVuSans-Bold.ttf", "STIXGeneral.ttf")
#: `clear`: white or black with at least 110 grey levels to the ground's mean; `see-through`: so,
#: but a third of the ground shows; `outlined`: white with a black edge or the reverse, anywhere;
#: `faint`: 40 to 80 levels.
LOOKS = ("clear", "outlined", "see-through", "faint")
_NAMES = ("MEIER", "Okafor", "LINDQVIST", "Tanaka", "ROSSI", "Haddad", "NOVAK", "Silva", "O'BRIEN")
_FIRST = ("Anna", "JOHN", "Mei", "PEDRO", "Ingrid", "ALI", "Zoe")
_LABELS = (
    "PORTABLE AP", "ERECT", "SUPINE", "W:350 L:40", "120 kV", "12.4 mm", "GE LOGIQ", "IM: 24/86",
)  # fmt: skip
_Box = tuple[int, int, int, int]


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
    look: str = "clear",
    text: str | None = None,
) -> tuple[Image.Image, _Box] | None:
    """Return the image with one line of text, as a JPEG would have it, and the text's box.

    Args:
        image: Any image.
        rng: Source of chance.
        height: Of a capital letter, in pixels.
        fonts: File names to choose from.
        look: Of `LOOKS`.
        text: What to write; None: any of `words`.

    None when the text does not fit.
    """
    grey = image.convert("L")
    name, size = str(rng.choice(fonts)), round(height / 0.73)
    font = ImageFont.truetype(str(FONTS / name), size) if name else ImageFont.load_default(size)
    text = text or words(rng)
    edge = max(1, height // 12) if look == "outlined" else 0
    left, top, right, bottom = font.getbbox(text, stroke_width=edge)
    width, tall = int(right - left), int(bottom - top)
    if width + 4 > grey.width or tall + 4 > grey.height:
        return None
    x = int(rng.integers(2, grey.width - width - 1))
    room = grey.height - tall - 2
    y = int(rng.integers(2, max(3, room)))
    if rng.random() < 0.7 and room > 40:  # most annotations are near the upper or lower edge
        y = int(rng.choice([rng.integers(2, max(3, room // 8)), rng.integers(room * 7 // 8, room)]))
    pixels = np.asarray(grey).astype(np.float64)
    levels = _levels(look, float(pixels[y : y + tall, x : x + width].mean()))
    if not levels:
        return None
    level = float(rng.choice(levels))

    def covered(stroke: int) -> np.ndarray:
        mask = Image.new("L", grey.size)
        draw = ImageDraw.Draw(mask)
        draw.text((x - left, y - top), text, fill=255, font=font, stroke_width=stroke)
        return np.asarray(mask) / 255

    if edge:
        alpha = covered(edge)
        pixels = pixels * (1 - alpha) + (255 - level) * alpha
    alpha = covered(0) * (2 / 3 if look == "see-through" else 1)
    mixed = pixels * (1 - alpha) + level * alpha
    written = Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))
    return _as_jpeg(written, rng), (x, y, x + width, y + tall)


def clutter(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return the image with wires and side markers: what is taken for writing most often."""
    out = image.convert("L")
    draw = ImageDraw.Draw(out)
    mean = float(np.asarray(out).mean())
    t = np.linspace(0, 1, 60)[:, None]
    for _ in range(int(rng.integers(2, 7))):
        a, b, c, d = rng.uniform(-0.1, 1.1, (4, 2)) * out.size
        if rng.random() < 0.4:  # a tight loop
            a, b, c, d = rng.uniform(0, 1, 2) * out.size + rng.normal(0, 35, (4, 2))
        curve = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
        level = mean + rng.uniform(40, 160) * rng.choice([1, 1, 1, -1])
        draw.line(
            [(float(px), float(py)) for px, py in curve],
            fill=int(np.clip(level, 0, 255)), width=int(rng.integers(1, 5)),
        )  # fmt: skip
    for _ in range(int(rng.integers(0, 3))):
        size = round(int(rng.integers(8, 40)) / 0.73)
        font = ImageFont.truetype(str(FONTS / str(rng.choice(TRAIN_FONTS))), size)
        letter = str(rng.choice(list("LLLRRRDSA")))
        x, y = (float(side) for side in rng.uniform(0, 0.9, 2) * out.size)
        pad = size * rng.uniform(0.1, 0.4)
        left, top, right, bottom = draw.textbbox((x, y), letter, font=font)
        box = (left - pad, top - pad, right + pad, bottom + pad)
        dark, light = int(rng.integers(0, 120)), int(rng.integers(150, 256))
        how = rng.integers(4)
        if how == 0:
            draw.rectangle(box, fill=dark)
        elif how == 1:
            draw.ellipse(box, fill=dark, outline=light, width=int(rng.integers(1, 4)))
        elif how == 2:
            draw.rectangle(box, outline=light, width=int(rng.integers(1, 3)))
        draw.text((x, y), letter, fill=light, font=font)
    return _as_jpeg(out, rng)


def _levels(look: str, ground: float) -> list[float]:
    if look == "outlined":
        return [255, 0]
    if look == "faint":
        steps = (*range(40, 80, 10), *range(-79, -40, 10))
        return [ground + step for step in steps if 0 <= ground + step <= 255]
    levels = (255, 0) if look == "see-through" else (255, 230, 20, 0)
    return [level for level in levels if abs(level - ground) >= 110]


def _as_jpeg(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(40, 95)))
    return Image.open(buffer).convert("L")
