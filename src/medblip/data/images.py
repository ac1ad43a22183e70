"""Placeholder until the real decoder lands."""

from pathlib import Path

from PIL import Image


def open_image(path: Path) -> Image.Image:
    """Decode."""
    image = Image.open(path)
    return image if image.mode == "L" else image.convert("RGB")
